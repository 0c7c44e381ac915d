"""Attacks that do more leave less, on a trained network."""

from __future__ import annotations

from typing import Any

import torch

from robust_snn.attacks import make_attack

EPS = 0.1


def accuracy_under(
    digits: Any, name: str, eps: float = EPS, norm: str = "Linf", **options: Any
) -> float:
    """Accuracy under an attack, by the plain network."""
    victim, images, labels = digits
    result = make_attack(name, options)(victim, images, labels, eps=eps, norm=norm)
    logits = victim.sample(result.images, torch.arange(len(images)))
    right = logits.argmax(1) == labels
    assert torch.equal(right, ~result.success)
    return float(right.double().mean())


def test_iterations_beat_the_single_step(digits: Any) -> None:
    single = accuracy_under(digits, "fgsm")
    for name in ("pgd", "mim", "apgd", "sapgd"):
        assert accuracy_under(digits, name, steps=20) < single - 0.05, name
    assert accuracy_under(digits, "pgd", random_start=False, steps=1, alpha=EPS) == single


def test_more_steps_and_larger_balls_leave_less(digits: Any) -> None:
    over_steps = [accuracy_under(digits, "apgd", steps=steps) for steps in (2, 8, 32)]
    assert over_steps == sorted(over_steps, reverse=True) and over_steps[0] > over_steps[-1] + 0.05
    over_eps = [accuracy_under(digits, "sapgd", eps=eps, steps=10) for eps in (0.02, 0.1, 0.5)]
    assert over_eps == sorted(over_eps, reverse=True) and over_eps[-1] == 0


def test_restarts_and_targets_add(digits: Any) -> None:
    once = accuracy_under(digits, "pgd", steps=5)
    assert accuracy_under(digits, "pgd", steps=5, restarts=3) <= once
    assert accuracy_under(digits, "apgd", steps=10, targets=3, loss="margin") < once
    assert accuracy_under(digits, "transfer", steps=10, source="bptr") < 0.9


def test_l2(digits: Any) -> None:
    accuracies = {
        name: accuracy_under(digits, name, eps=0.8, norm="L2", steps=20)
        for name in ("pgd", "apgd", "sapgd")
    }
    assert max(accuracies.values()) < accuracy_under(digits, "fgsm", eps=0.8, norm="L2")
    assert accuracy_under(digits, "do", eps=0.8, norm="L2", steps=20) < 0.9
