"""APGD takes the steps of the released code; SA-PGD keeps to its paper where the release does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.attacks import APGD, SAPGD
from robust_snn.attacks.apgd import ascend
from robust_snn.attacks.attack_losses import Goal
from robust_snn.attacks.eot_draws import FixedDraws, LossEstimate
from robust_snn.attacks.gradient_descent import halving_steps
from robust_snn.attacks.problem import AttackInputs, Problem

EPS = {"Linf": 0.02, "L2": 0.1}  # small: where the label is third, DLR has no gradient


@pytest.fixture
def net() -> nn.Module:
    """A smooth net, on which rounding errors stay small."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, 6), nn.Softplus(beta=3)
    )


class Trace:
    """A problem that keeps every point and its loss."""

    def __init__(
        self, net: nn.Module, x: Tensor, norm: str, goal: Goal, eps: float | None = None
    ) -> None:
        self.points: list[Tensor] = []
        self.losses: list[Tensor] = []
        ids, eps = torch.arange(len(x)), EPS[norm] if eps is None else eps
        inputs = AttackInputs(Victim(net), x, goal.labels, ids, eps, norm, 0)
        self.problem = Problem(inputs, 0, goal, FixedDraws(1), self._keep)

    def _keep(self, x: Tensor, estimate: LossEstimate) -> None:
        self.points.append(x)
        self.losses.append(estimate.loss)


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("loss", ["ce", "dlr", "dlr-targeted"])
@pytest.mark.parametrize("steps", [1, 7, 60])
def test_apgd_takes_the_released_steps(net: nn.Module, norm: str, loss: str, steps: int) -> None:
    x = torch.rand(12, 1, 8, 8)
    labels = net(x).argmax(1)
    targets = (labels + 2) % 6 if "targeted" in loss else None
    trace = Trace(net, x, norm, Goal(loss[:3].rstrip("-"), labels, targets))
    start = trace.problem.ball.random_surface(trace.problem.rng, 0)
    ascend(trace.problem, start, steps)

    engine = APGDAttack_targeted if targets is not None else APGDAttack
    released: Any = engine(net, n_iter=steps, norm=norm, eps=EPS[norm], device=x.device)
    released.loss, released.y_target = loss, targets
    released.init_hyperparam(x)
    hardest, _, highest, _ = released.attack_single_run(x, labels, x_init=start)

    losses = torch.stack(trace.losses)
    assert len(losses) == steps + 1
    assert torch.allclose(losses.amax(0), highest, rtol=1e-4, atol=1e-5)
    result = torch.stack(trace.points)[losses.argmax(0), torch.arange(12)]
    assert (result - hardest).abs().flatten(1).amax(1).median() < 1e-5


@pytest.mark.parametrize("eps", [0.5, 1.0, 2.0])
def test_apgd_in_l1_is_as_strong_as_the_release(net: nn.Module, eps: float) -> None:
    x = torch.rand(60, 1, 8, 8)
    labels = net(x).argmax(1)
    released: Any = APGDAttack(
        *(net, 100, "L1", 1, eps, 0), loss="ce", device=x.device, use_largereps=True
    )
    theirs = (net(released.perturb(x, labels)).argmax(1) == labels).float().mean()
    ours = APGD(steps=100)(Victim(net), x, labels, eps=eps, norm="L1").images
    left = (net(ours).argmax(1) == labels).float().mean()
    assert 0 < theirs < 1 and left <= theirs + 0.02


def test_sapgd_starts_with_a_full_sign_step(net: nn.Module) -> None:
    x, labels = torch.full((3, 1, 8, 8), 0.5), torch.arange(3)
    trace = Trace(net, x, "Linf", Goal("ce", labels, None), eps=0.4)
    start = 0.5 + torch.rand_like(x) * 0.01
    trace.problem.ball.random_surface = lambda rng, number: start  # type: ignore[method-assign]
    SAPGD(steps=1).run(trace.problem)
    leaf = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        nn.functional.cross_entropy(net(leaf), labels, reduction="sum"), leaf
    )
    expected = trace.problem.ball.project(start + 0.4 * gradient.sign())
    assert torch.allclose(trace.points[1], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(100, [22, 41, 57, 70, 80, 87, 93, 99]), (10, [2, 3, 4, 5, 6, 7, 8, 9, 10]), (1, [1])],
)
def test_sapgd_halves_when_the_release_does(steps: int, expected: list[int]) -> None:
    assert halving_steps(steps) == expected
