"""Networks whose gradient is zero on the first images that they are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt
from tests.foreign.own_step import Fire


class Saturated(nn.Module):
    """Spikes of two steps, whose counts pass a clamp that the brightest images leave."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.limit, self.first = limit, nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        current = self.first(x.flatten(1))
        counts = sum(Fire.apply(step * current - 0.1) for step in (1, 2))
        scale = 100.0 * (x.amax((1, 2, 3)) > 0.9)[:, None] + 1
        return (counts[:, :4] * scale + scale).clamp(max=self.limit)


def test_two_saturated_images_do_not_speak_for_the_others() -> None:
    images = 0.8 * torch.rand(4, 1, 4, 4)
    images[:2, 0, 0, 0] = 1.0
    victim = adapt(Saturated(limit=10.0), images=images)
    assert victim.takes("bptt").refusal is None
    x = images.clone().requires_grad_()
    norms = torch.autograd.grad(victim(x).square().sum(), x)[0].flatten(1).norm(dim=1)
    assert not norms[:2].any() and norms[2:].all()


def test_a_gradient_that_is_zero_on_all_images_is_named() -> None:
    victim = adapt(Saturated(limit=0.5), images=torch.rand(4, 1, 4, 4))
    assert "is zero on all 4 images that it was shown" in (victim.takes("bptt").refusal or "")


class Repeat(torch.autograd.Function):
    """Shows an image to several steps, and has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, steps: int) -> Tensor:
        return x.unsqueeze(0).repeat(steps, *[1] * x.dim())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, None]:
        return None, None


class Repeating(nn.Module):
    def __init__(self, fire: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.fire = nn.Linear(16, 4), fire

    def forward(self, x: Tensor) -> Tensor:
        steps = Repeat.apply(x.flatten(1), 3)
        return torch.stack([self.fire(self.layer(step)) for step in steps]).sum(0)


@pytest.mark.parametrize("fire", [torch.relu, Fire.apply])
def test_a_function_that_returns_no_gradient_is_named(fire: Callable[[Tensor], Tensor]) -> None:
    victim = adapt(Repeating(fire), images=torch.rand(4, 1, 4, 4))
    assert "backward pass of Repeat returns None" in (victim.takes("own").refusal or "")
