"""The same attack through every library, on a deterministic victim, from the same start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robust_snn import adapt
from robust_snn.adapters.autoattack import autoattack
from robust_snn.attacks import APGD, PGD
from robust_snn.attacks.problem import Problem
from robust_snn.data import load_dataset
from victims import tiny_victim, told_by

EPS, ALPHA, STEPS = 0.1, 0.03, 5


def ours(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The last point of our PGD, which otherwise keeps the best one."""
    points: list[Tensor] = []
    record = Problem.record
    monkeypatch.setattr(Problem, "record", lambda self, x: (points.append(x), record(self, x))[1])
    victim = tiny_victim(False)
    images, labels = told_by(victim, 6)
    PGD(steps=STEPS, alpha=ALPHA, random_start=False)(victim, images, labels, eps=EPS)
    return points[-1]


LIBRARIES = {
    "torchattacks": ("PGD", {"alpha": ALPHA, "steps": STEPS, "random_start": False}),
    "foolbox": ("LinfPGD", {"abs_stepsize": ALPHA, "steps": STEPS, "random_start": False}),
    "art": (
        "ProjectedGradientDescent",
        {"eps_step": ALPHA, "max_iter": STEPS, "num_random_init": 0},
    ),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_pgd_makes_the_same_images(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(library, reason=f"needs {library}")
    import robust_snn

    name, arguments = LIBRARIES[library]
    victim = tiny_victim(False)
    images, labels = told_by(victim, 6)
    attack = getattr(robust_snn.adapters, library).attack
    theirs = attack(victim, name, eps=EPS, **arguments)(images, labels)
    expected = ours(monkeypatch)
    assert (theirs - images).abs().max() > EPS / 2
    torch.testing.assert_close(theirs, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_apgd_leaves_the_same_accuracy(eps: float, device: torch.device) -> None:
    """The random starts differ, which moves a few images; the mean over seeds stays."""
    victim = adapt("snn_vgg5.digits", pretrained=True)
    data = load_dataset("digits", n=48)
    images, labels, left = data.images.to(device), data.labels.to(device), []
    for seed in range(3):
        found = autoattack(
            victim, images, labels, eps, attacks=["apgd-ce"], n_iter=50, seed=seed
        ).images
        own = APGD(steps=50)(victim, images, labels, eps=eps, seed=seed).images
        right = [(victim(x).argmax(1) == labels).float().mean() for x in (found, own)]
        left.append(torch.stack(right))
    theirs, ours = torch.stack(left).mean(0)
    assert 0.1 < theirs < 0.9 and abs(theirs - ours) < 0.04
