"""From whatever a network returns to logits `[B, K]`: which tensor, and which of its axes is time.

Nothing is guessed from one output: the network answers two batches of different sizes, and the axis
that follows the size is the batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robust_snn.utils.errors import unknown

REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda steps: steps.mean(0),
    "sum": lambda steps: steps.sum(0),
    "max": lambda steps: steps.amax(0),
    "last": lambda steps: steps[-1],
}
READOUTS = (*REDUCTIONS, *(f"membrane {name}" for name in REDUCTIONS))
LOGITS_KEYS = ("logits", "output", "outputs", "out", "pred", "spikes", "spk")
MEMBRANE_KEYS = ("membrane", "membranes", "mem", "v", "potential")


class NotRead(Exception):
    """Why an output cannot be read as logits."""


class Reading(NamedTuple):
    """How the outputs of a network are read.

    Attributes:
        element: Place of the tensor in a tuple, or its key, field or attribute; None for a tensor
            alone.
        stacked: Whether the tensor comes as a list of its steps.
        time: Its axis of time, 0 or 1 or 2; None for logits `[B, K]`.
    """

    element: int | str | None = None
    stacked: bool = False
    time: int | None = None

    def steps(self, out: Any) -> Tensor:
        """Logits of every step `[T, B, K]`, or `[B, K]` where there is no axis of time."""
        value = out if self.element is None else _part_of(out, self.element)
        tensor: Tensor = torch.stack(list(value)) if self.stacked else value
        return tensor if self.time is None else tensor.movedim(self.time, 0)

    def __str__(self) -> str:
        which = "its output" if self.element is None else f"item {self.element!r} of its output"
        shape = {None: "[B, K]", 0: "[T, B, K]", 1: "[B, T, K]", 2: "[B, K, T]"}[self.time]
        return f"{which} as {shape}"


def check_readout(readout: str) -> None:
    """Raises `InputError` unless the readout is known."""
    if readout not in READOUTS:
        raise unknown("readout", readout, READOUTS)


def reduce(steps: Tensor, readout: str) -> Tensor:
    """Logits `[B, K]` of steps `[T, B, K]`."""
    return REDUCTIONS[readout.removeprefix("membrane ")](steps)


def find_reading(
    outs: tuple[Any, Any],
    batches: tuple[int, int],
    *,
    membrane: bool,
    steps: Callable[[], int],
) -> Reading:
    """How to read the output of a network.

    Args:
        outs: What it returns for two batches.
        batches: Their sizes, which differ.
        membrane: Whether to read membranes instead of spikes, where both are returned.
        steps: Gives the number of time steps, which tells `[B, T, K]` from `[B, K, T]`.

    Raises:
        NotRead: If no tensor has the batch on an axis of its own, or several readings fit.
    """
    element = _element(outs, batches, membrane)
    first, second = (out if element is None else _part_of(out, element) for out in outs)
    stacked = isinstance(first, list | tuple)
    if stacked:
        first, second = torch.stack(list(first)), torch.stack(list(second))
    axes = _batch_axes(first, second, batches)
    if len(axes) != 1:
        raise NotRead(
            f"for batches of {batches[0]} and {batches[1]} images it returns "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    axis, dims = axes[0], first.dim()
    if dims == 2 and axis == 0:
        return Reading(element, stacked)
    if dims == 3 and axis == 1:
        return Reading(element, stacked, 0)
    if dims == 3 and axis == 0:
        sizes = {at: first.shape[at] for at in (1, 2)}
        if 1 in sizes.values():  # a single class is none
            return Reading(element, stacked, min(sizes, key=lambda at: sizes[at]))
        known = steps()
        fits = [at for at, size in sizes.items() if size == known]
        if not fits and known:  # one neuron that serves several layers is called more often
            fits = [at for at, size in sizes.items() if known % size == 0]
        if len(fits) == 1:
            return Reading(element, stacked, fits[0])
        raise NotRead(f"which axis of {tuple(first.shape)} is time cannot be told")
    raise NotRead(f"it returns {tuple(first.shape)}, not [B, K] nor steps of it")


def _element(outs: tuple[Any, Any], batches: tuple[int, int], membrane: bool) -> int | str | None:
    """Key of the tensor, or list of tensors, to read."""
    out = outs[0]
    if isinstance(out, Tensor) or _is_list_of_steps(out):
        if membrane:
            raise NotRead("it returns no membranes beside its spikes")
        return None
    if (fields := fields_of(out)) is not None:
        keys = [key for key in fields if _readable(outs, key, batches)]
        preferred = MEMBRANE_KEYS if membrane else LOGITS_KEYS
        named = [key for name in preferred for key in keys if str(key).lower() == name]
        if named or len(keys) == 1:
            return (named or keys)[0]
        if not isinstance(out, tuple):
            kind = "dictionary" if isinstance(out, Mapping) else type(out).__name__
            raise NotRead(f"it returns a {kind} of {', '.join(map(str, fields))}")
    if isinstance(out, tuple | list):
        places = [place for place in range(len(out)) if _readable(outs, place, batches)]
        if len(places) > membrane:
            return places[int(membrane)]
        raise NotRead(f"it returns {len(out)} values, none of which looks like logits")
    raise NotRead(f"it returns {type(out).__name__}")


def fields_of(out: Any) -> Mapping[Any, Any] | None:
    """What an output holds by name, as a dictionary, a named tuple or an object does."""
    if isinstance(out, Mapping):
        return out
    if isinstance(out, tuple) and hasattr(out, "_fields"):
        return dict(zip(out._fields, out, strict=True))
    if dataclasses.is_dataclass(out):
        return {field.name: getattr(out, field.name) for field in dataclasses.fields(out)}
    if isinstance(out, Tensor | tuple | list):
        return None
    return getattr(out, "__dict__", None)


def _part_of(out: Any, key: Any) -> Any:
    return out[key] if isinstance(key, int) or isinstance(out, Mapping) else getattr(out, key)


def _is_list_of_steps(out: Any) -> bool:
    """Whether an output is a list of equal tensors, one for each step."""
    return isinstance(out, list) and len(out) > 0 and _equal_tensors(out)


def _equal_tensors(values: Any) -> bool:
    return all(isinstance(v, Tensor) and v.shape == values[0].shape for v in values)


def _readable(outs: tuple[Any, Any], key: Any, batches: tuple[int, int]) -> bool:
    try:
        first, second = (_part_of(out, key) for out in outs)
    except (KeyError, IndexError, AttributeError):
        return False
    if isinstance(first, list | tuple) and first and _equal_tensors(first):
        first, second = torch.stack(list(first)), torch.stack(list(second))
    if not isinstance(first, Tensor) or first.dim() not in (2, 3):
        return False
    return first.is_floating_point() and len(_batch_axes(first, second, batches)) == 1


def _batch_axes(first: Tensor, second: Tensor, batches: tuple[int, int]) -> list[int]:
    if first.dim() != second.dim():
        return []
    sizes = list(zip(first.shape, second.shape, strict=True))
    others = [at for at, size in enumerate(sizes) if size[0] != size[1]]
    return [at for at in others if sizes[at] == batches] if len(others) == 1 else []
