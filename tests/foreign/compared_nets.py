"""Networks that fire by comparisons, written as people write them, and what they must come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.helpers import assert_close_rms, logits_and_gradient

IMAGES = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
MODE = "bptt(surrogate=sigmoid(alpha=4))"  # that of `soft`


def soft(v: Tensor) -> Tensor:
    return torch.sigmoid(4 * (v - 1))


def without_gradient(v: Tensor) -> Tensor:
    with torch.no_grad():
        return (v > 1).to(v.dtype)


def set_as_data(v: Tensor) -> Tensor:
    out = soft(v)
    out.data = (v > 1).float()
    return out


def set_by_its_own_data(v: Tensor) -> Tensor:
    out = soft(v)
    out.data = out.data.gt(0.5).float()
    return out


def copied(v: Tensor) -> Tensor:
    out = soft(v).clone()
    with torch.no_grad():
        out.copy_((v > 1).float())
    return out


def copied_to_data(v: Tensor) -> Tensor:
    out = soft(v).clone()
    out.detach().copy_((v > 1).float())
    return out


def rounded_as_data(v: Tensor) -> Tensor:
    out = soft(v).clone()
    out.data.round_()
    return out


def rounded_in_place(v: Tensor) -> Tensor:
    out = soft(v).clone()
    with torch.no_grad():
        out.round_()
    return out


def compared_in_place(v: Tensor) -> Tensor:
    out = soft(v).clone()
    out.detach().gt_(0.5)
    return out


def hooked(v: Tensor) -> Tensor:
    """Spikes that get their gradient by a hook, which an exchanged one must not meet."""
    out, s = v - v.detach() + (v > 1).float(), soft(v).detach()
    if out.requires_grad:
        out.register_hook(lambda g: g * 4 * s * (1 - s))
    return out


def chosen(v: Tensor) -> Tensor:
    nothing = soft(v) - soft(v).detach()
    return torch.where(v > 1, 1 + nothing, nothing)


WITH_GRADIENT: dict[str, Callable[[Tensor], Tensor]] = {
    "hard.detach() + soft - soft.detach()": lambda v: (
        (v > 1).float().detach() + soft(v) - soft(v).detach()
    ),
    "soft + (hard - soft).detach()": lambda v: soft(v) + ((v > 1).float() - soft(v)).detach(),
    "a sum by name": lambda v: torch.add(
        input=soft(v), other=torch.sub((v > 1).float(), other=soft(v)).detach()
    ),
    "soft - soft.detach() + hard": lambda v: soft(v) - soft(v).detach() + (v > 1).float(),
    "hard + 0.5 * (soft - soft.detach())": lambda v: (
        torch.where(v > 1, 1.0, 0.0) + 0.5 * (2 * soft(v) - 2 * soft(v).detach())
    ),
    "under no_grad": lambda v: (without_gradient(v) - soft(v)).detach() + soft(v),
    "set as data": set_as_data,
    "set by its own data": set_by_its_own_data,
    "copied without a graph": copied,
    "copied to what was detached": copied_to_data,
    "rounded as data": rounded_as_data,
    "rounded in place without a graph": rounded_in_place,
    "compared in place, detached": compared_in_place,
    "by a hook": hooked,
    "chosen of soft values": chosen,
    "a sum of a stack": lambda v: torch.stack(
        [soft(v), ((v > 1).float() - soft(v)).detach()], 1
    ).sum(1),
    "a negative sum": lambda v: -(-(v > 1).float() - soft(v) + soft(v).detach()),
}
WITHOUT: dict[str, Callable[[Tensor], Tensor]] = {
    "float": lambda v: (v > 1).float(),
    "type_as": lambda v: v.ge(1).type_as(v),
    "times one": lambda v: torch.ge(v - 1, 0) * 1.0,
    "where": lambda v: torch.where(v > 1, torch.ones_like(v), torch.zeros_like(v)),
    "heaviside": lambda v: torch.heaviside(v - 1, torch.zeros(())),
    "sign": lambda v: (torch.sign(v - 1) + 1) / 2,
    "sign, clamped": lambda v: torch.sign(v - 1).clamp(min=0),
    "sign, squared": lambda v: ((torch.sign(v - 1) + 1) / 2) ** 2,
    "sign, at least zero": lambda v: torch.maximum(torch.zeros_like(v), torch.sign(v - 1)),
    "not below": lambda v: (~(v <= 1)).float(),
    "one less below": lambda v: 1 - (v <= 1).float(),
    "nothing below": lambda v: torch.where(v <= 1, 0.0, 1.0),
    "ones but below": lambda v: torch.ones_like(v).masked_fill(v <= 1, 0.0),
    "negated": lambda v: torch.lt(-v, -1).float(),
    "twice": lambda v: ((v > 1).float() + (v > 1).float()) / 2,
    "a product with ones": lambda v: torch.einsum("bi,bi->bi", (v > 1).float(), torch.ones_like(v)),
    "turned round": lambda v: torch.lt(torch.ones(()), v).float(),
    "operands by name": lambda v: torch.gt(input=v, other=torch.ones(())).float(),
    "a factor by name": lambda v: torch.mul(torch.gt(v, 1), other=1.0),
    "where, by name": lambda v: torch.where(
        condition=v > 1, other=torch.zeros_like(v), input=torch.ones_like(v)
    ),
    "heaviside, by name": lambda v: torch.heaviside(input=v - 1, values=torch.zeros(())),
}


def set_where(v: Tensor) -> Tensor:
    out = torch.zeros_like(v)
    out[v > 1] = 1
    return out


def one_hot(v: Tensor) -> Tensor:
    return nn.functional.one_hot((v > 1).long(), 2)[..., 1].float()


HARD: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: WITHOUT[name] for name in ("float", "sign", "not below", "one less below", "negated")},
    "double": lambda v: (v > 1).double().float(),
    "integer": lambda v: torch.gt(v, 1).int().float(),
    "masked_fill": lambda v: torch.zeros_like(v).masked_fill(v > 1, 1.0),
    "set where": set_where,
    "one-hot": one_hot,
    "and": lambda v: torch.logical_and(v > 1, v > -50).float(),
    "floor": lambda v: v.floor().clamp(0, 1),
}
TRICKS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda hard, soft: hard.detach() + soft - soft.detach(),
    lambda hard, soft: soft + (hard - soft).detach(),
    lambda hard, soft: (hard - soft).detach() + soft,
)
SOFT, COMPARED = WITH_GRADIENT["under no_grad"], WITHOUT["float"]


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        return (v > 1).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0]


class Net(nn.Module):
    """Two layers, by hand."""

    def __init__(self, fire: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.fire = nn.Linear(36, 24), nn.Linear(24, 4), fire

    def forward(self, x: Tensor) -> Tensor:
        v, u, total = torch.zeros(1), torch.zeros(1), torch.zeros(1)
        for _ in range(4):
            v = 0.8 * v + 3 * self.one(x.flatten(1))
            spikes = self.fire(v)
            v = v * (1 - spikes)
            u = 0.9 * u + 2 * self.two(spikes)
            out = self.fire(u)
            u = u - out
            total = total + out
        return total / 4


def through(victim: nn.Module) -> tuple[Tensor, Tensor]:
    return logits_and_gradient(victim, IMAGES)


def assert_same_gradient(found: nn.Module, expected: nn.Module) -> None:
    assert_close_rms(through(found)[1], through(expected)[1])
