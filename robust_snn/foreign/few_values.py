"""What tells spikes from other numbers: they take a few values only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robust_snn.foreign.staircase import LEVELS

FEW_SEEN = 512  # values, of which most that are no spikes show it
CLOSE = 1e-5  # between spikes with another gradient and the comparison that they come from


def are_close(hard: Tensor, out: Tensor) -> bool:
    """Whether two tensors hold the same spikes."""
    return torch.allclose(hard.to(out.dtype), out, rtol=0, atol=CLOSE)


def takes_few_values_only(args: Any, out: Tensor) -> bool:
    """Whether a sum takes a few values only, and a part of it that has a gradient others.

    A soft function that is nearly a step takes a few values too, but not of spikes: then another
    part has values of its own and no gradient.
    """
    parts = [a for a in args if isinstance(a, Tensor) and a.requires_grad and a.shape == out.shape]
    if not has_few_values(out):
        return False
    if len(parts) == len(args):  # as `spikes + (hard - soft).detach() + soft` in this order
        hiding = any(hasattr(part, "_hides") for part in parts)
        return hiding and out.unique().numel() > 1 and not any(map(has_few_values, parts))
    spikes = map(made_of_spikes if has_hidden_values(args, out) else has_few_values, parts)
    return not all(spikes)


def has_hidden_values(args: Any, out: Tensor) -> bool:
    """Whether a part of a sum has values of its own and no gradient."""
    fixed = [a for a in args if isinstance(a, Tensor) and not a.requires_grad]
    return any(a.shape == out.shape and a.unique().numel() > 1 for a in fixed)


def hides_a_constant(args: Any, out: Tensor) -> bool:
    """Whether what has no gradient in a sum is the same for all images, as a layer of a zero state.

    Then a silent layer beside it makes it few values too, and no straight-through spikes.
    """
    fixed = [a for a in args if isinstance(a, Tensor) and not a.requires_grad]
    alike = (a.shape == out.shape and len(a) > 1 and bool((a == a[:1]).all()) for a in fixed)
    return any(alike)


def is_gradient_alone(args: Any, soft: Sequence[Tensor], out: Tensor) -> bool:
    """Whether a sum is zero, as `soft - soft.detach()`, to give something else a gradient."""
    if len(soft) != 1 or out.any():
        return False
    if made_of_spikes(soft[0]) or soft[0].unique().numel() == 1:
        return False  # less other spikes, which may be the same ones here
    return not hides_a_constant(args, out)


def made_of_spikes(value: Tensor) -> bool:
    """Whether a tensor is made of spikes alone; what no operation has made is looked at."""
    made = getattr(value, "_spiky", None)
    return hasattr(value, "_comparison") or (has_few_values(value) if made is None else bool(made))


def is_dense(value: Any) -> bool:
    """Whether a value is a tensor that holds all of its numbers."""
    return isinstance(value, Tensor) and value.layout is torch.strided


def has_few_values(values: Tensor) -> bool:
    """Whether a tensor holds a few values only, each of them several times."""
    values = values.detach()
    flat = (torch.view_as_real(values.resolve_conj()) if values.is_complex() else values).flatten()
    most = min(LEVELS, max(2, flat.numel() // 4))
    return all(_count(part) <= most for part in (flat[:FEW_SEEN], flat))


def is_constant(values: Tensor) -> bool:
    """Whether a tensor holds one value alone."""
    return _count(values.detach()) < 2


def _count(values: Tensor) -> int:
    """How many values a tensor holds, but for roundings."""
    return values.mul(1e4).round().unique().numel()


def has_two_values(values: Tensor) -> bool:
    """Whether a tensor holds two values, each of them several times, whatever their size."""
    flat = values.detach().flatten().nan_to_num()
    scaled = flat / flat.abs().amax().clamp(min=1e-30)
    for part in (scaled[:FEW_SEEN], scaled):
        levels, counts = part.mul(1e4).round().unique(return_counts=True)
        if len(levels) > 2:
            return False
    return len(levels) == 2 and int(counts.min()) > 1
