"""Rows of ART and foolbox: their budget is checked, and what is wrong is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.eval import AttackSpec, Suite
from robust_snn.eval.protocol.implementation import CraftInputs
from robust_snn.eval.protocol.implementations import implementation
from robust_snn.eval.protocol.library_attacks import held_to_budget
from robust_snn.eval.protocol.threat_model import Threat

pytest.importorskip("art")
pytest.importorskip("torchattacks")
pytest.importorskip("foolbox")

ROWS = [
    AttackSpec("pgd", "art", "ProjectedGradientDescent", steps=5),
    AttackSpec("square", "art", "SquareAttack", steps=20),
    AttackSpec("hsj", "art", "HopSkipJump", steps=2, options={"max_eval": 20, "init_eval": 5}),
    AttackSpec("deepfool", "art", "DeepFool", steps=5),
    AttackSpec("linf-pgd", "foolbox", "LinfPGD", steps=5),
    AttackSpec("fmn", "foolbox", "LInfFMNAttack", steps=5),
]


@pytest.mark.filterwarnings("ignore")
def test_a_suite_of_what_a_reviewer_asks_for(tmp_path: Path) -> None:
    """Every row is scored, within the threat; one that goes beyond it breaks nothing."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, 4)).eval()
    images = torch.rand(6, 3, 8, 8)
    suite = Suite("s", tuple(ROWS), independent=True)
    verdict = robust_snn.evaluate(
        net, images, net(images).argmax(1), suite=suite, eps=0.03, out=tmp_path
    )
    left = {row.name: row.accuracy for row in verdict.attacks}
    assert set(left) == {row.name for row in ROWS} and left["pgd"] < 1
    assert abs(left["pgd"] - left["linf-pgd"]) <= 0.34
    assert all(row.forwards > 0 for row in verdict.attacks)


def test_what_lies_beyond_the_budget_is_the_clean_image() -> None:
    images = torch.full((4, 1, 2, 2), 0.5)
    shift = torch.tensor([0.1, 0.1 + 5e-5, 0.2, float("nan")]).view(-1, 1, 1, 1)
    kept, beyond = held_to_budget(images + shift, images, Threat("Linf", 0.1))
    assert beyond == 2 and torch.allclose(kept[:2], images[:2] + 0.1)
    assert torch.equal(kept[2:], images[2:])
    kept, beyond = held_to_budget(images + shift, images, Threat("L2", 0.2))
    assert beyond == 3 and torch.equal(kept[1], images[1])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (AttackSpec("a", "art", "HopSkipJmp"), "did you mean 'HopSkipJump'"),
        (AttackSpec("a", "art", "DPatch"), "cannot run here"),
        (AttackSpec("a", "art", "SquareAttack", options={"eps": 0.3}), "from the threat model"),
        (AttackSpec("a", "art", "FastGradientMethod", steps=3), "no steps"),
        (AttackSpec("a", "art", "SquareAttack", restarts=3), "no restarts"),
        (AttackSpec("a", "foolbox", "LinfPGDD"), "did you mean 'LinfPGD'"),
        (AttackSpec("a", "foolbox", "L2PGD"), "another norm"),
        (AttackSpec("a", "foolbox", "LinfPGD", restarts=2), "no restarts"),
        (AttackSpec("a", "foolbox", "LinfPGD", options={"stps": 2}), "did you mean 'steps'"),
        (AttackSpec("a", "torchattacks", "PGD", options={"eps": 0.3}), "from the threat model"),
    ],
)
def test_rows_that_cannot_run(row: AttackSpec, message: str) -> None:
    with pytest.raises(InputError, match=message):
        implementation(row).check(row, Threat("Linf", 0.03))


@pytest.mark.parametrize(
    ("attack", "size", "message"),
    [
        ("TIFGSM", (8, 8), "3 channels, and these have 1"),
        ("DIFGSM", (4, 16), "square images, got 4 x 16"),
        ("AutoAttack", (8, 8), "3 classes"),
    ],
)
def test_images_that_a_library_cannot_take_are_refused_first(
    attack: str, size: tuple[int, int], message: str, tmp_path: Path
) -> None:
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval(), torch.rand(4, 1, *size)
    suite = Suite("s", (AttackSpec("a", "torchattacks", attack),))
    with pytest.raises(InputError, match=message):
        robust_snn.evaluate(net, images, torch.arange(4) % 3, suite=suite, eps=0.1, out=tmp_path)
    assert not any(tmp_path.iterdir())


def test_norms_and_rows_that_do_nothing() -> None:
    """What ART refuses once it runs is refused before; a grid of one point says so."""
    hsj, turned = (
        AttackSpec("a", "art", name) for name in ("HopSkipJump", "SpatialTransformation")
    )
    with pytest.raises(InputError, match="knows no norm L1"):
        implementation(hsj).check(hsj, Threat("L1", 3.0))
    victim, images = Victim(nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), torch.rand(2, 1, 8, 8)
    labels, threat = victim(images).argmax(1), Threat("Linf", 0.1)
    asked = CraftInputs(victim, images, labels, turned, threat, 0, torch.arange(2))
    made = implementation(turned).craft(asked)
    assert made.warnings == ("a: none of 2 images was changed",)


def test_queries_are_counted_in_draws() -> None:
    torch.manual_seed(0)
    size = {"img_size": 8, "in_chans": 1, "num_classes": 4}
    victim = robust_snn.adapt("snn_vgg5_stog", T=2, width=0.125, head_width=16, eot=3, **size)
    images, labels = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    row, costs = AttackSpec("a", "art", "SquareAttack", steps=5), []
    for eot in (1, 3):
        asked: Victim = victim.replace(eot=eot)
        threat = Threat("Linf", 0.05)
        batch = CraftInputs(asked, images, labels, row, threat, 0, torch.arange(2))
        implementation(row).craft(batch)
        costs.append(asked.cost.forwards)
    assert costs[1] >= 2 * costs[0]
