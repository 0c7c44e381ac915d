"""Energy attacks: the answer stays, the joules rise as far as they can, the verdict says so."""

from __future__ import annotations

from io import StringIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.eval import AttackSpec, Suite, Verdict
from robust_snn.eval.reporting.html import write_report
from robust_snn.eval.reporting.terminal import render_verdict
from robust_snn.eval.scoring.energy_use import row_energy
from robust_snn.eval.scoring.spiking_activity import spiking_activity
from robust_snn.metrics import EnergyAttack, energy, image_costs, profile
from robust_snn.neurons import LIF


class Tiny(nn.Module):
    """8 pixels, so that every sign pattern can be tried."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.neurons, self.leave = nn.Linear(8, 12), LIF(decay=0.8), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neurons(self.enter(x.flatten(1))[None].expand(4, -1, -1))
        return self.leave(spikes).mean(0)


def tiny() -> tuple[Victim, Tensor, Tensor]:
    torch.manual_seed(0)
    net, images = Tiny().eval(), torch.rand(20, 1, 2, 4) * 0.6 + 0.2
    with torch.no_grad():
        net.enter.weight.mul_(3)
    return Victim(net), images, net(images).argmax(1)


@pytest.mark.parametrize("answer", ["keep", "free"])
def test_against_every_sign_pattern(answer: str) -> None:
    """Over all images, it gains three quarters of what the best corners of the balls would."""
    victim, images, answers = tiny()
    attack = EnergyAttack(steps=25, answer=answer, restarts=2)
    made = attack(victim, images, answers, eps=0.1).images
    ids = torch.arange(len(images))
    found, clean = (image_costs(victim, x, ids).picojoules for x in (made, images))
    best = clean.clone()
    for signs in product((-0.1, 0.1), repeat=8):
        corner = images + torch.tensor(signs).view(1, 1, 2, 4)
        cost = image_costs(victim, corner, ids).picojoules
        fine = victim(corner).argmax(1) == answers
        best = torch.maximum(best, cost.where(fine | torch.tensor(answer == "free"), best))
    assert (made - images).abs().max() <= 0.1 + 1e-6
    assert answer == "free" or torch.equal(victim(made).argmax(1), answers)
    assert (found >= clean).all()
    assert float((found - clean).sum()) >= 0.75 * float((best - clean).sum()) > 0


def small(**more: str) -> nn.Module:
    torch.manual_seed(0)
    size = {"img_size": 8, "in_chans": 1, "num_classes": 5}
    return robust_snn.adapt("snn_vgg5", T=4, width=0.125, head_width=16, **size, **more).net.eval()


def test_costs_are_those_of_the_profile_up_to_the_exit() -> None:
    x, ids = torch.rand(3, 1, 8, 8), torch.arange(3)
    plain = image_costs(Victim(small()), x, ids)
    assert plain.steps.tolist() == [4, 4, 4]
    assert float(plain.picojoules.mean()) * 1e-12 == pytest.approx(
        energy(profile(small(), x)), rel=1e-5
    )
    soon = image_costs(Victim(small(early_exit="confidence(at=0.01)")), x, ids)
    assert soon.steps.tolist() == [1, 1, 1] and (soon.picojoules < plain.picojoules / 2).all()


def test_a_report_tells_costs_up_to_the_exit() -> None:
    x, at = torch.rand(3, 1, 8, 8), np.arange(3)
    whole, never, soon = (
        spiking_activity(Victim(small(**exits)), x, at)
        for exits in (
            {},
            {"early_exit": "confidence(at=1)"},
            {"early_exit": "confidence(at=0.01)"},
        )
    )
    assert never.costs == pytest.approx(whole.costs, rel=1e-5) and whole.costs.all()
    assert (soon.costs < whole.costs / 2).all()
    cost = image_costs(Victim(small(early_exit="confidence(at=0.01)")), x, torch.arange(3))
    assert soon.costs[3] == pytest.approx(float(cost.picojoules.mean()) * 1e-12)
    assert list(soon.layers) == list(whole.layers)


@pytest.mark.parametrize(("images", "least"), [(5, 0.88), (32, 0.92)])
def test_intervals_of_joules_cover_the_mean(images: int, least: float) -> None:
    """Percentiles of the bootstrap alone cover 0.84 and 0.93."""
    rng, inside = np.random.default_rng(0), 0
    for seed in range(300):
        costs = rng.normal(10, 1, (images, 3))
        low, high = row_energy("none", costs, costs, seed).ci
        inside += low <= 10 <= high
    assert inside / 300 >= least


class OneByOne(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.net(image) for image in x.split(1)])


class Flipped(OneByOne):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.cat([x, x.flip(-1)])).unflatten(0, (2, -1)).mean(0)


@pytest.mark.parametrize(("around", "passes"), [(OneByOne, 1), (Flipped, 2)])
def test_costs_are_of_images_whatever_batches_layers_get(
    around: type[OneByOne], passes: int, tmp_path: Path
) -> None:
    net, x, ids = small(), torch.rand(5, 1, 8, 8), np.arange(5)
    x = x + x.flip(-1)  # so that both cost the same
    plain, other = (spiking_activity(Victim(n.eval()), x, ids) for n in (net, around(net)))
    assert other.costs == pytest.approx(passes * plain.costs)
    assert other.rates == pytest.approx(plain.rates)
    first, second = (image_costs(Victim(n.eval()), x, torch.arange(5)) for n in (net, around(net)))
    assert torch.allclose(second.picojoules, passes * first.picojoules)
    suite = Suite("e", (AttackSpec("energy", "energy", "energy", steps=5),))
    with pytest.raises(InputError, match="other batches than its images"):
        robust_snn.evaluate(around(net), x / 2, torch.arange(5), suite=suite, eps=0.1, out=tmp_path)


def test_a_suite_says_what_inferences_cost(tmp_path: Path) -> None:
    images, labels = torch.rand(6, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    rows = (
        AttackSpec("apgd", "robust_snn", "apgd", steps=3),
        AttackSpec("energy", "energy", "energy", steps=5),
    )
    suite = Suite("e", rows, independent=True)
    verdict = robust_snn.evaluate(small(), images, labels, suite=suite, eps=0.1, out=tmp_path)
    assert verdict.energy is not None
    assert [row.name for row in verdict.energy.rows] == ["none", "apgd", "energy"]
    clean, _, attacked = verdict.energy.rows
    assert clean.factor == 1 < (attacked.factor or 0) and "pJ" in verdict.energy.formula
    assert verdict.attacks[1].accuracy == verdict.clean.accuracy  # the answers stay
    assert Verdict.load(tmp_path / "verdict.json") == verdict


class Events(nn.Module):
    """Takes frames `[B, T, C, H, W]`; one without an event costs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.neurons, self.leave = nn.Linear(8, 12, bias=False), LIF(), nn.Linear(12, 3)

    def forward(self, frames: Tensor) -> Tensor:
        return self.leave(self.neurons(3 * self.enter(frames.movedim(1, 0).flatten(2)))).mean(0)


@pytest.mark.parametrize(("events", "factor"), [(0, None), (1, 1.0)])
def test_clean_images_may_cost_nothing(events: int, factor: float | None, tmp_path: Path) -> None:
    """Then there is no factor, and none that is sure where few of them cost anything."""
    images, labels = torch.zeros(4, 3, 1, 2, 4), torch.tensor([0, 1, 2, 0])
    images[:events] = 1
    suite = Suite("e", (AttackSpec("energy", "energy", "energy", steps=2),), independent=True)
    verdict = robust_snn.evaluate(Events(), images, labels, suite=suite, eps=0.1, out=tmp_path)
    assert verdict.energy is not None
    clean, attacked = verdict.energy.rows
    assert clean.factor == factor and clean.factor_ci is None
    assert np.isfinite([attacked.joules, *attacked.ci]).all() and attacked.factor_ci is None
    assert Verdict.load(tmp_path / "verdict.json") == verdict
    Console(file=StringIO()).print(render_verdict(verdict))
    assert "Joules per inference" in write_report(tmp_path).read_text()


def test_networks_without_spikes_are_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    images, labels = torch.rand(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    suite = Suite("e", (AttackSpec("energy", "energy", "energy", steps=5),))
    with pytest.raises(InputError, match="no spiking layer"):
        robust_snn.evaluate(net, images, labels, suite=suite, eps=0.1, out=tmp_path)
    with pytest.raises(InputError, match="'keep' or 'free'"):
        EnergyAttack(answer="kept")
