"""Perturbations of every step: the gradient of its own loss, near the best signs of all frames."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.attacks import APGD, PerStep
from robust_snn.attacks.attack_losses import cross_entropy, margin
from robust_snn.attacks.per_step import step_gradients
from robust_snn.models.readout import Readout
from robust_snn.neurons import LIF

EPS = 0.2


class Tiny(nn.Module):
    """4 steps of 2 pixels, 16 neurons, 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.neurons, self.leave = nn.Linear(2, 16), LIF(decay=0.8), nn.Linear(16, 3)
        self.readout = Readout("mean", 1.0)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neurons(self.enter(x.transpose(0, 1).flatten(2)))
        mean: Tensor = self.readout(self.leave(spikes))
        return mean


def tiny(seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(seed)
    net, frames = Tiny().eval(), torch.rand(40, 4, 1, 1, 2) * 0.6 + 0.2
    with torch.no_grad():
        for layer in (net.enter, net.leave):
            layer.weight.mul_(3)
    return net, frames, net(frames).argmax(1)


def test_each_frame_follows_the_loss_of_its_step() -> None:
    net, frames, labels = tiny()
    victim = Victim(net, output="steps")
    found = step_gradients(victim, frames, labels)
    for step in range(4):  # what comes later plays no part
        leaf = frames.clone().requires_grad_()
        loss = cross_entropy(victim(leaf)[: step + 1].mean(0), labels).sum()
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert torch.allclose(found[:, step], gradient[:, step], atol=1e-6)
        assert (gradient[:, step + 1 :] == 0).all()
    one = PerStep(steps=1)(Victim(net), frames, labels, eps=EPS).images
    moved = one != frames
    assert torch.allclose(one[moved], (frames + EPS * found.sign())[moved], atol=1e-6)
    assert moved.flatten(1).any(1).sum() > 20


def test_against_every_sign_of_all_frames() -> None:
    """Of the sequences that some signs fool, TG fools a part, and the suite's others most."""
    net, frames, labels = tiny(1)
    patterns = torch.tensor(list(product((-EPS, EPS), repeat=8))).view(-1, 4, 1, 1, 2)
    rows = zip(frames, labels, strict=True)
    possible = torch.stack([(net(x + patterns).argmax(1) != y).any() for x, y in rows])
    made = PerStep(steps=10)(Victim(net), frames, labels, eps=EPS)
    assert (made.images - frames).abs().max() <= EPS + 1e-6
    assert torch.equal(made.success, margin(net(made.images), labels) > 0)
    assert (made.success & possible).sum() >= 0.2 * possible.sum() > 2
    others = APGD(steps=50, loss="tet")(Victim(net), frames, labels, eps=EPS)
    assert (others.success & possible).sum() >= 0.7 * possible.sum()


def test_the_suite_and_what_is_refused(tmp_path: Path) -> None:
    net, frames, labels = tiny()
    verdict = robust_snn.evaluate(net, frames, labels, suite="per-step", eps=EPS, out=tmp_path)
    assert len(verdict.attacks) == 6 and verdict.robust.accuracy < 1
    with pytest.raises(InputError, match="needs sequences"):
        PerStep()(Victim(net), frames[:, 0], labels, eps=EPS)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(InputError, match="logits of every step"):
        PerStep()(Victim(plain), frames, labels, eps=EPS)
    with pytest.raises(InputError, match="steps"):
        PerStep(steps=0)
