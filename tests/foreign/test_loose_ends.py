"""Jumps that become no spikes: each is named with its operation, alone and beside a smooth path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robust_snn import InputError, adapt
from tests.foreign.own_step import Fire

IMAGES = torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Form = Callable[[Tensor], Tensor]


def with_zero(z: Tensor, dim: int = 0) -> Tensor:
    return torch.stack([torch.zeros_like(z), z], dim)


def put_where(z: Tensor) -> Tensor:
    out = torch.zeros_like(z)
    out[(z >= 0).nonzero(as_tuple=True)] = 1.0
    return out


def in_place(z: Tensor, *changes: str) -> Tensor:
    out = z.clone()
    for change in changes:
        getattr(out, change)()
    return out


def divided_in_place(z: Tensor) -> Tensor:
    out = z.relu().clone()
    out.div_(out + 1e-12)
    return out


def written_to(z: Tensor) -> Tensor:
    out = torch.empty_like(z)
    torch.heaviside(z.detach(), torch.ones(()), out=out)
    return out


def without_a_graph(z: Tensor) -> Tensor:
    with torch.no_grad():
        return Fire.apply(z - 1)  # type: ignore[no-any-return]


STEEP: dict[str, Form] = {  # by the operation that is nearly a step
    "div": lambda z: z.relu() / (z.relu() + 1e-12),
    "div#2": divided_in_place,
    "clamp": lambda z: (1e6 * z).clamp(0, 1),
    "hardsigmoid": lambda z: functional.hardsigmoid(1e6 * z),
    "minimum": lambda z: torch.minimum(1e6 * z.relu(), torch.ones_like(z)),
    "atan": lambda z: torch.atan(1e6 * z) / torch.pi + 0.5,
    "tanh": lambda z: torch.tanh(1e6 * z.relu()),
    "sigmoid": lambda z: in_place(1e6 * z, "sigmoid_"),
    "special_expit": lambda z: torch.special.expit(1e6 * z),
    "mul": lambda z: z * torch.rsqrt(z * z + 1e-20),
    "softmax": lambda z: torch.softmax(1e6 * with_zero(z), 0)[1],
    "normalize": lambda z: functional.normalize(z.relu().unsqueeze(-1), dim=-1)[..., 0],
    "nan_to_num": lambda z: torch.nan_to_num(z.relu() / z.relu()),
    "copysign": lambda z: (torch.copysign(torch.ones_like(z), z) + 1) / 2,
    "angle": lambda z: 1 - torch.complex(z, torch.zeros_like(z)).angle() / torch.pi,
}
WITHOUT: dict[str, Form] = {
    "ge": put_where,
    "ge#2": lambda z: (
        torch.tensor([0.0, 1.0])
        .expand(z.numel(), 2)
        .gather(1, (z >= 0).long().view(-1, 1))
        .view_as(z)
    ),
    "sign": lambda z: in_place(z, "sign_", "relu_"),
    "heaviside": written_to,
    "cummax": lambda z: with_zero(z).cummax(0)[1][1].float(),
    "kthvalue": lambda z: with_zero(z).kthvalue(2, 0)[1].float(),
    "to_sparse": lambda z: z.relu().to_sparse().to_dense(),  # has one where it is not zero
    "gt": lambda z: torch.where(Fire.apply(z) > 0, 2.0, 5.0),  # the time of a first spike
    "Fire": lambda z: Fire.apply(z.detach()),
    "Fire#2": without_a_graph,
    "int": lambda z: Fire.apply((z.detach() * 9).int() - 0.5),
    "long": lambda z: ((1e4 * z.detach()).long() % 7) / 7.0,  # a hash
    "view": lambda z: 1.0 - (z.contiguous().view(torch.int32) < 0).float(),
    "fake_quantize_per_tensor_affine": lambda z: torch.fake_quantize_per_tensor_affine(
        z + 0.5, 1.0, 0, 0, 3
    ),
}
LEAVING: dict[str, Form] = {
    "a mask": lambda z: torch.from_numpy((z >= 0).numpy().astype(np.float32)),
    "number by number": lambda z: torch.tensor([[float(bool(n >= 0)) for n in row] for row in z]),
}
SMOOTH: dict[str, Form] = {
    "in range": lambda z: z if bool(z.isfinite().all()) and z.max().item() < 1e9 else z * 0,
    "small": lambda z: z * 1e-5,
    "rectified": lambda z: (z - z.amax() + 1e-3).relu(),
    "spikes of another shape": lambda z: Fire.apply(z.flatten()).view_as(z),
    "a state of zeros": lambda z: z * (1 - Fire.apply(torch.zeros_like(z) - 1)),
    "certain attention": lambda z: torch.softmax(1e6 * z, 1) * z,
}


class Sites(nn.Module):
    """A layer of neurons, and behind it one layer for each of several forms, side by side."""

    def __init__(self, forms: dict[str, Form], beside: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.forms, self.beside = forms, beside
        self.first, self.last = nn.Linear(36, 12), nn.Linear(12, 4)
        self.layers = nn.ModuleDict({name: nn.Linear(12, 12) for name in forms})
        self.smooth = nn.Linear(36, 4)

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros(len(x), 12)
        out = self.smooth(x.flatten(1)) if self.beside else torch.zeros(1)
        for _ in range(2):
            v = 0.5 * v + 3 * self.first(x.flatten(1))
            spikes = Fire.apply(v - 0.5)
            v = v * (1 - spikes)
            for name, form in self.forms.items():
                out = out + self.last(form(3 * self.layers[name](spikes + 0.1 * v)))
        return out


def operations(missed: dict[str, Any]) -> set[str]:
    """The operations in the names of jumps, such as `Sites#the step-like div in line 9 of a.py`."""
    return {
        name.split("#")[1].split(" in line")[0].removeprefix("the step-like ") for name in missed
    }


@pytest.mark.parametrize("forms", [STEEP, WITHOUT, LEAVING, SMOOTH])
def test_jumps_beside_a_smooth_path_are_named_and_nothing_else(forms: dict[str, Form]) -> None:
    victim = adapt(Sites(forms, beside=True), images=IMAGES)
    expected = {name.split("#")[0] for name in forms} if forms in (STEEP, WITHOUT) else set()
    if forms is LEAVING:
        expected = {"values that leave PyTorch"}
    missed = dict(victim.takes("bptt").missed)
    assert operations(missed) == expected
    if forms is STEEP:
        assert len(missed) >= len(forms)  # the same operation in two lines counts twice


@pytest.mark.parametrize(
    ("form", "why"),
    [
        (STEEP["tanh"], "the step-like tanh in line .*: its gradient vanishes"),
        (STEEP["clamp"], "the step-like clamp in line .*: its gradient vanishes"),
        (WITHOUT["ge"], "ge in line .*: it has no gradient"),
        (LEAVING["a mask"], "values that leave PyTorch"),
    ],
)
def test_what_stops_every_gradient_is_named(form: Form, why: str) -> None:
    victim = adapt(Sites({"only": form}, beside=False), images=IMAGES)
    with pytest.raises(InputError, match=f"no gradient of Sites reaches the image: .*{why}"):
        victim.replace(gradient="bptt")(IMAGES.clone().requires_grad_())
