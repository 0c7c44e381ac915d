"""Neurons of libraries: modes give what the library gives with the same surrogate in its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from helpers import assert_close_rms
from robust_snn import adapt

pytest.importorskip("spikingjelly", reason="needs spikingjelly")
pytest.importorskip("snntorch", reason="needs snntorch")
import snntorch
from snntorch.functional.quant import state_quant
from spikingjelly.activation_based import functional, layer, neuron

T, SIZE, WIDTH, CLASSES = 5, 4, 8, 3
FIRST, OTHERS = torch.rand(2, 3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
Slope = Callable[[Tensor], Tensor]
OMEGA = 2 / math.pi * math.tan(0.85 * math.pi / 2)  # of an arctangent that vanishes to 0.85


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, slope: Slope, strict: bool) -> Tensor:
        ctx.save_for_backward(z)
        ctx.slope = slope
        return ((z > 0) if strict else (z >= 0)).to(z)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        return upstream[0] * ctx.slope(ctx.saved_tensors[0]), None, None


def atan(z: Tensor, sharpness: Tensor | float = 3.0) -> Tensor:
    return sharpness / 2 / (1 + (math.pi / 2 * sharpness * z) ** 2)


def spread(steps: Sequence[Tensor]) -> list[Slope]:
    """PDSG's surrogate at every step: a Gaussian as wide as the membranes so far, by channel."""
    slopes: list[Slope] = []
    for step in range(len(steps)):
        so_far = torch.stack(list(steps[: step + 1]))
        pooled = [0, *range(3, so_far.dim())] if so_far.dim() > 3 else [0, 2]
        width = so_far.std(pooled, keepdim=True)[0]

        def slope(z: Tensor, width: Tensor = width) -> Tensor:
            bell = torch.exp(-((z - width / 2) ** 2) / (2 * width**2))
            return bell / (math.sqrt(2 * math.pi) * width)

        slopes.append(slope)
    return slopes


def distances(steps: Sequence[Tensor]) -> list[Slope]:
    """ASSG's surrogate at every step of the first pass of a run."""
    slopes: list[Slope] = []
    for step in steps:
        mean = 0.9 + 0.1 * step.abs()
        sharpness = OMEGA / (mean + 1.5 * 0.1 * (step.abs() - mean).abs() + 1e-4)
        slopes.append(lambda z, sharpness=sharpness: atan(z, sharpness))
    return slopes


class Slot(nn.Module):
    """A surrogate that a neuron is built with.

    Args:
        strict: Whether a membrane at the threshold does not fire.
        sides: How many calls a step has that fire.
        resets: Whether a call before each of them tells a reset, which is detached.
    """

    spiking = True

    def __init__(self, strict: bool, sides: int, resets: bool) -> None:
        super().__init__()
        self.strict, self.sides, self.resets = strict, sides, resets
        self.seen: list[Tensor] = []
        self.slopes: dict[int, Slope] = {}

    def forward(self, z: Tensor) -> Tensor:
        slope = self.slopes.get(len(self.seen), atan)
        self.seen.append(z.detach())
        return Fire.apply(z, slope, self.strict)

    def learn(self, rule: Callable[[Sequence[Tensor]], list[Slope]]) -> None:
        """Takes the surrogates of a rule that looks at the membranes of a pass."""
        each = 2 if self.resets else self.sides
        for first in range(int(self.resets), each):
            places = range(first, len(self.seen), each)
            slopes = rule([self.seen[place] for place in places])
            self.slopes |= dict(zip(places, slopes, strict=True))
        self.seen = []


class Row(NamedTuple):
    """A neuron.

    Attributes:
        build: Makes it, given a surrogate or nothing, and whether its reset is detached.
        multi: Whether it takes all steps at once.
        sides: How many spike functions it has.
        detached: Whether its reset can be and is detached anyway.
    """

    build: Callable[..., nn.Module]
    multi: bool = False
    sides: int = 1
    detached: bool = False


def jelly(kind: str, **arguments: Any) -> Callable[..., nn.Module]:
    def build(slot: Slot | None, detached: bool) -> nn.Module:
        torch.manual_seed(1)
        given = {} if slot is None else {"surrogate_function": slot}
        return getattr(neuron, kind)(detach_reset=detached, **arguments, **given)

    return build


def leaky(**arguments: Any) -> Callable[..., nn.Module]:
    def build(slot: Slot | None, detached: bool) -> nn.Module:
        return snntorch.Leaky(0.8, spike_grad=slot, init_hidden=True, **arguments)

    return build


ROWS: dict[str, Row] = {
    "starts above its reset": Row(
        jelly("SimpleLIFNode", tau=2.0, decay_input=True, v_reset=-0.5), multi=True
    ),
    "quadratic": Row(jelly("QIFNode"), multi=True),
    "scaled, step by step": Row(jelly("KLIFNode")),
    "scaled, all steps": Row(jelly("KLIFNode"), multi=True),
    "normed membrane": Row(jelly("MPBNLIFNode", out_features=WIDTH), multi=True),
    "ternary, step by step": Row(jelly("TernaryLIFNode"), sides=2),
    "ternary, all steps": Row(jelly("TernaryLIFNode", v_reset=None), multi=True, sides=2),
    "analog": Row(jelly("LIAFNode", act=torch.relu, threshold_related=False)),
    "detached": Row(leaky(), detached=True),
    "quantised": Row(leaky(state_quant=state_quant(4, True, 1.0)), detached=True),
    "finely quantised": Row(leaky(state_quant=state_quant(8, False, 1.0)), detached=True),
}
MODES: dict[str, Any] = {  # of which the last detaches the reset
    "bptt(surrogate=atan(alpha=3),detach_reset=false)": None,
    "bptt(surrogate=atan(alpha=3),detach_reset=true)": None,
    "pdsg": spread,
    "assg": distances,
}


class Net(nn.Module):
    def __init__(self, row: Row, slots: bool, detached: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        strict = row.detached  # as snnTorch's neurons
        self.slot = Slot(strict, row.sides, row.detached) if slots else None
        self.first, self.last = layer.Linear(SIZE**2, WIDTH), layer.Linear(WIDTH, CLASSES)
        self.node = row.build(self.slot, detached)
        self.multi = row.multi
        functional.set_step_mode(self, "m" if row.multi else "s")
        self.first.weight.data *= 8

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        if hasattr(self.node, "reset_mem"):
            self.node.reset_mem()
        if self.multi:
            return self._layers(x.flatten(1).expand(T, -1, -1)).mean(0)
        return torch.stack([self._layers(x.flatten(1)) for _ in range(T)]).mean(0)

    def _layers(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.node(self.first(x)))
        return out


def through(run: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and a gradient of them."""
    x = images.clone().requires_grad_()
    out = run(x)
    (gradient,) = torch.autograd.grad((out * torch.arange(1.0, 1 + CLASSES)).sum(), x)
    return out.detach(), gradient


PAIRS = [
    (name, mode) for name in ROWS for mode in MODES if not (ROWS[name].detached and "false" in mode)
]


@pytest.mark.parametrize(("name", "mode"), PAIRS)
def test_modes_are_surrogates_in_the_place_of_the_librarys_own(name: str, mode: str) -> None:
    row, rule = ROWS[name], MODES[mode]
    detached = "true" in mode or mode == "assg"
    reference = Net(row, slots=True, detached=detached).eval()
    if rule is not None:
        assert reference.slot is not None
        reference(OTHERS)
        reference.slot.learn(rule)
    logits, expected = through(reference, OTHERS)
    victim = adapt(Net(row, slots=False, detached=False).eval(), images=FIRST, gradient=mode)
    found = through(victim, OTHERS)
    assert torch.equal(found[0], logits) and logits.std() > 0 and expected.any()
    assert_close_rms(found[1], expected)
