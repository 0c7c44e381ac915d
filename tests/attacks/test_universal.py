"""Universal perturbations: one for all, fitted on others, near the best sign pattern."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.attacks import Universal, changed_entries
from robust_snn.attacks.problem import AttackInputs
from robust_snn.attacks.universal import halves
from robust_snn.eval.protocol.suite_files import load_suite


def tiny(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)).eval()
    images = torch.rand(60, 1, 2, 4) * 0.6 + 0.2
    with torch.no_grad():
        net[1].weight.mul_(2)
    return net, images, net(images).argmax(1)


def test_against_every_sign_pattern() -> None:
    """On four networks together, it misleads 44 of the 50 images that the best patterns do."""
    found = best = 0
    for seed in range(4):
        net, images, labels = tiny(seed)
        inputs = AttackInputs(Victim(net), images, labels, torch.arange(60), 0.1, "Linf", 0)
        change = Universal(restarts=1).fit(inputs)
        assert change.shape == (1, 1, 2, 4) and change.abs().max() <= 0.1
        found += int((net(images + change).argmax(1) != labels).sum())
        patterns = (torch.tensor(s).view(1, 1, 2, 4) for s in product((-0.1, 0.1), repeat=8))
        best += max(int((net(images + s).argmax(1) != labels).sum()) for s in patterns)
    assert 0.85 * best <= found <= best


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.1), ("L2", 0.3), ("L0", 3)])
def test_no_image_has_a_part_in_its_perturbation(norm: str, eps: float) -> None:
    """Two perturbations, one for each half; an image that changes does not change its own."""
    net, images, labels = tiny(2)
    if norm == "L0":
        images = (images > 0.5).float()[:, :, None].expand(-1, 2, 1, 2, 4).contiguous()
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    ids = torch.arange(60)
    attack = Universal(steps=8, restarts=1)
    made = attack(Victim(net), images, labels, eps=eps, norm=norm).images
    other = images.clone()
    other[7] = 1 - other[7]
    again = attack(Victim(net), other, labels, eps=eps, norm=norm).images
    same, first = (made == again).flatten(1).all(1), halves(labels, ids)
    mates = (first == first[7]) & (ids != 7)
    assert same[mates].all() and not same[~mates].all()
    if norm == "L0":
        assert 0 < changed_entries(images, made).max() <= eps
        flips = (made != images)[first]
        assert (flips == flips[:1]).all()


def test_halves_share_out_every_class() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
    first = halves(labels, torch.arange(8))
    assert [int(first[labels == k].sum()) for k in range(3)] == [1, 1, 2]
    assert halves(labels[:0], labels[:0]).shape == (0,)


def test_a_single_image_has_no_others_to_be_fitted_on(tmp_path: Path) -> None:
    net, images, labels = tiny(0)
    with pytest.raises(InputError, match="universal needs 2 images at once, got 1"):
        Universal()(Victim(net), images[:1], labels[:1], eps=0.1)
    suite = {"suite": "universal", "eps": 0.2, "steps": 2}
    for many, batch in ((1, 4), (9, 4)):
        with pytest.raises(InputError, match="1 of . is left for the last batch"):
            out = tmp_path / "refused"
            robust_snn.evaluate(
                net, images[:many], labels[:many], batch_size=batch, out=out, **suite
            )
    wrong = torch.cat([labels[:1], (labels[1:4] + 1) % 3])  # one image is left to attack
    suite["suite"] = replace(load_suite("universal"), independent=False)
    verdict = robust_snn.evaluate(net, images[:4], wrong, out=tmp_path / "one", **suite)
    assert verdict.robust.accuracy == 0.25
    said = [d.why for d in verdict.diagnostics if "no other was left" in d.why]
    assert said and "universal-bptt: 1 image" in said[0]


def test_the_suite_runs(tmp_path: Path) -> None:
    net, images, labels = tiny(0)
    verdict = robust_snn.evaluate(
        net, images, labels, suite="universal", eps=0.2, steps=5, out=tmp_path
    )
    assert verdict.robust.accuracy < 1
    with pytest.raises(InputError, match="restarts"):
        Universal(restarts=0)
