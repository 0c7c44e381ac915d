"""How many images are attacked together decides how fast a run is, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robust_snn import Victim, evaluate
from robust_snn.eval import AttackSpec, Draws, Predictions, Suite
from robust_snn.models.readout import Readout
from robust_snn.neurons import LIF, StochasticGate

IMAGES, STEPS, CLASSES = 7, 3, 4


class Tiny(nn.Module):
    """Takes images, or sequences of them, whose mean it sees; its sums are exact in float32.

    Weights and gates are multiples of a power of two, and so are activations; no order of
    summation shows, and the batch of a matrix product cannot move a spike.
    """

    def __init__(self, noisy: bool) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(32, 24), nn.Linear(24, CLASSES)
        self.neurons = LIF(decay=0.5)
        self.gate = StochasticGate((24,), 0.75 if noisy else 1.0)
        self.readout = Readout("mean", 1.0)
        for parameter in self.parameters():
            parameter.data = (parameter.data * 64).round() / 64

    def forward(self, x: Tensor) -> Tensor:
        frames = x.movedim(1, 0) if x.dim() == 5 else x[None].expand(STEPS, *x.shape)
        exact = frames + ((frames * 4096).round() / 4096 - frames).detach()
        spikes = self.gate(self.neurons(2 * self.enter(exact.flatten(2))))
        logits: Tensor = self.readout(self.leave(spikes))
        return logits


SOME: dict[str, Any] = {"restarts": 2, "options": {"eot_loss": "adaptive(error=0.2,most=4)"}}
ROWS = {
    "Linf": (
        AttackSpec("fgsm", "robust_snn", "fgsm"),
        AttackSpec("pgd", "robust_snn", "pgd", steps=3, **SOME),
        AttackSpec("apgd-t", "robust_snn", "apgd-t", steps=4, options={"target_order": "malt"}),
        AttackSpec("energy", "energy", "energy", steps=3),
    ),
    "in turn": (
        AttackSpec("fgsm", "robust_snn", "fgsm"),
        AttackSpec("pgd", "robust_snn", "pgd", steps=3),
        AttackSpec("square", "robust_snn", "square", eot=2, steps=20, options={"start": "worst"}),
    ),
    "L1": (AttackSpec("apgd", "robust_snn", "apgd", steps=10, **SOME),),
    "L0": (AttackSpec("patch", "patch", "patch", steps=3, options={"places": 2}),),
    "spatial": (
        AttackSpec("turned", "spatial", "spatial", eot=2, options={"angles": 3, "places": 1}),
        AttackSpec("bent", "flow", "flow", steps=4),
    ),
    "per-step": (AttackSpec("tg", "per-step", "per-step", steps=3),),
    "corrupted": (AttackSpec("flips", "corruption", "spike-flip", options={"beta": 0.1}),),
}
EPS = {"L1": 2.0, "L0": 4.0, "spatial": 1.0, "corrupted": 0.0}  # else 0.1


@pytest.mark.parametrize("threat", ROWS)
@pytest.mark.parametrize("noisy", [False, True])
def test_every_image_gets_the_same(noisy: bool, threat: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    victim = Victim(Tiny(noisy).eval())
    shape = (IMAGES, STEPS, 2, 4, 4) if threat == "per-step" else (IMAGES, 2, 4, 4)
    images = torch.randint(0, 17, shape) / 16
    labels = victim.sample(images, torch.arange(IMAGES)).argmax(1)
    alone: dict[str, Any] = {"norm": threat if threat[0] == "L" else "Linf", "draws": Draws(3, 4)}
    suite, found = Suite("rows", ROWS[threat], independent=threat != "in turn", **alone), []
    for size in (2, IMAGES):
        out = tmp_path / str(size)
        how: dict[str, Any] = {"batch_size": size, "report": False, "eps": EPS.get(threat, 0.1)}
        verdict = evaluate(victim, images, labels, suite=suite, out=out, **how)
        found.append((vars(Predictions.load(out)), [row.claimed for row in verdict.attacks]))
    (first, claimed), (second, claimed_again) = found
    assert claimed == claimed_again
    for name, array in first.items():
        assert np.array_equal(array, second[name]), name
