"""Networks of other people that say which gradient modes they take."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robust_snn.gradients import GradientMode, Own, Reach

SHAPE = (3, 8, 8)


class _Step(torch.autograd.Function):
    """A step function whose derivative is a window."""

    @staticmethod
    def forward(ctx: object, x: Tensor, width: float) -> Tensor:
        ctx.x, ctx.width = x, width  # type: ignore[attr-defined]
        return (x > 0).float()

    @staticmethod
    def backward(ctx: object, *upstream: Tensor) -> tuple[Tensor, None]:
        inside = ctx.x.abs() < ctx.width  # type: ignore[attr-defined]
        return upstream[0] * inside.float(), None


class Picky(nn.Module):
    """Two layers of steps, or of rectified linear units.

    Args:
        reach: What `takes` answers.
        width: Width of the window that stands in for the derivative of a step; 0 for one that
            vanishes, None for rectified linear units.
    """

    def __init__(self, reach: Callable[[GradientMode], Reach], width: float | None = 1.0) -> None:
        super().__init__()
        self.reach, self.width = reach, width
        made = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterList(
            torch.randn(shape, generator=made) / shape[1] ** 0.5 for shape in ((60, 192), (5, 60))
        )

    def takes(self, mode: GradientMode) -> Reach:
        return self.reach(mode)

    def forward(self, x: Tensor) -> Tensor:
        hidden = (x.flatten(1) - 0.5) @ self.weights[0].T
        hidden = hidden.relu() if self.width is None else _Step.apply(hidden, self.width)
        return hidden @ self.weights[1].T


def reaches_nothing(mode: GradientMode) -> Reach:
    return Reach()


def reaches_all(mode: GradientMode) -> Reach:
    return Reach(("a", "b"))


def refuses_rates(mode: GradientMode) -> Reach:
    """Takes the recursions and its own gradient, and misses one of its neurons."""
    if mode.name in ("bptt", "ste", "own"):
        return Reach(("a",), {"b": "it is no step"})
    return Reach(refusal=f"{mode.name} cannot be used on Picky: no known recursion; choose bptt")


def pictures(net: nn.Module, count: int) -> tuple[Tensor, Tensor]:
    """Random images, and what the network itself answers."""
    images = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return images, net(images).argmax(1)


def is_own(mode: GradientMode) -> bool:
    return isinstance(mode, Own)
