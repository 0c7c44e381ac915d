"""What a gradient mode remembers of an attack."""

from __future__ import annotations

from typing import Any

import torch

from robust_snn.attacks import SAPGD
from robust_snn.attacks.attack_losses import Goal
from robust_snn.attacks.eot_draws import FixedDraws, LossEstimate
from robust_snn.attacks.problem import AttackInputs, Problem, Run, of_mean_one


def every() -> torch.Tensor:
    return torch.arange(64)


def test_adaptive_draws_keep_what_assg_remembers(digits: Any) -> None:
    """Draws of some images use the statistics of those images, and leave all as they were."""
    x = digits.images[:4]
    victim = digits.victim.replace(gradient="assg")
    memory = victim.statistics
    goal = Goal("ce", digits.labels[:4], None)
    kept: list[LossEstimate] = []
    inputs = AttackInputs(victim, x, digits.labels[:4], every()[:4], 0.1, "Linf", 0)
    problem = Problem(inputs, 0, goal, FixedDraws(1), lambda _, estimate: kept.append(estimate))
    problem.loss_gradient(x)
    before = {name: [t.clone() for t in pair] for name, pair in memory.layers.items()}
    rows = torch.tensor([1, 3])
    part = problem._draw(x, rows, ("loss",))
    assert torch.allclose(part.gradient, kept[0].gradient[rows], rtol=1e-4, atol=1e-7)
    for name, pair in memory.layers.items():
        assert all(torch.equal(a, b) for a, b in zip(pair, before[name], strict=True))
    problem.loss_gradient(x + 0.01)
    assert any(not torch.equal(before[n][0], pair[0]) for n, pair in memory.layers.items())


def test_a_mixed_gradient_adds_modes_of_equal_size(digits: Any) -> None:
    x, modes = digits.images[:4], ("bptt", "hart")
    goal, labels = Goal("ce", digits.labels[:4], None), digits.labels[:4]
    victims = [digits.victim.replace(gradient=mode) for mode in modes]

    def gradient(victim: Any, *mixed: Any) -> torch.Tensor:
        inputs = AttackInputs(victim, x, labels, every()[:4], 0.1, "Linf", 0)
        run = Run(mixed=mixed)
        return (
            Problem(inputs, 0, goal, FixedDraws(1), lambda *_: None, run)
            ._draw(x, every()[:4], ("loss",))
            .gradient
        )

    parts = [gradient(victim) for victim in victims]
    sizes = [part.abs().flatten(1).mean(1).reshape(-1, 1, 1, 1) for part in parts]
    expected = sum(part / size for part, size in zip(parts, sizes, strict=True))
    assert torch.allclose(gradient(*victims), expected, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]
    assert torch.equal(of_mean_one(torch.zeros(2, 1, 2, 2)), torch.zeros(2, 1, 2, 2))


def test_every_run_of_assg_starts_anew(digits: Any) -> None:
    victim = digits.victim.replace(gradient="assg")
    batch = digits.images[:6], digits.labels[:6]
    first, again = (SAPGD(steps=4, restarts=2)(victim, *batch, eps=0.1) for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert not victim.statistics.layers
