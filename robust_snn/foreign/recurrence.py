"""The recursion of a neuron that somebody wrote, from what it did: constants by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robust_snn.foreign.graph_walk import Path
from robust_snn.kernels import Dynamics

ROWS = 50_000  # of neurons and steps that a fit uses
EXACT = 1e-5  # of the largest membrane, which a fit may miss
UNCERTAIN = 1e-12  # of the largest eigenvalue, below which weights may be exchanged for others
SILENT = "too few of its neurons fired on the images so far to recognise its reset"


class Unrecognised(Exception):
    """Why the recursion of a neuron is none that we know."""


class Recurrence(NamedTuple):
    """How a membrane `z`, counted from the threshold, follows from the step before.

        z[t] = decay z[t-1] + drop s[t-1] + clear s[t-1] z[t-1] + drive[t] - (1 - decay) threshold

    Attributes:
        decay: Leak per step.
        drop: What a spike adds.
        clear: `-decay` where a spike sets the membrane to a constant, 0 where it does not.
        threshold: The threshold above the potential to which the membrane decays.
        paths: Where the gradient of a membrane goes to the step before; see `graph_walk`.
        resets: Where it goes to the reset alone; None where there are too many ways.
    """

    decay: float
    drop: float
    clear: float
    threshold: float
    paths: tuple[Path, ...]
    resets: tuple[Path, ...] | None = None

    @property
    def dynamics(self) -> Dynamics:
        """The neuron in the kernels' terms."""
        return Dynamics(self.decay, self.threshold, 1.0, "hard" if self.clear else "soft")

    def carried(self, z: Tensor, spikes: Tensor) -> Tensor:
        """What the next membrane is without its drive, from `z` and the spikes of a step."""
        kept = (self.decay + self.clear * spikes) * z + self.drop * spikes
        return kept - (1 - self.decay) * self.threshold


class Traces(NamedTuple):
    """What a neuron did.

    Attributes:
        membranes: `z` of every step, each `[B, ...]`.
        spikes: Spikes of every step, each `[B, ...]`.
        drives: What enters at every step but the first beside the step before, tensors of the same
            shape.
        paths: Where the gradient of a membrane goes to the step before; nowhere if it is detached.
        resets: See `Recurrence`.
    """

    membranes: Sequence[Tensor]
    spikes: Sequence[Tensor]
    drives: Sequence[Sequence[Tensor]]
    paths: tuple[Path, ...]
    resets: tuple[Path, ...] | None


def fit(traces: Traces) -> Recurrence:
    """The recursion that explains the membranes of a neuron.

    Raises:
        Unrecognised: If there is none, or the neurons did not fire enough to tell.
    """
    columns = _columns(traces)
    before, fired, after = columns.before, columns.fired, columns.after
    ones = torch.ones_like(before)
    if not traces.paths and _solve([*columns.inputs, ones], after) is not None:
        raise Unrecognised("what its membrane keeps from the step before was not found")
    if not fired.any() or bool(fired.bool().all()):
        raise Unrecognised(SILENT)
    rest = [fired, *columns.inputs, ones]
    kept = _solve([before, *rest], after)
    cleared = _solve([(1 - fired) * before, *rest], after)
    if kept is not None and cleared is not None:
        raise Unrecognised(SILENT)
    weights = kept if kept is not None else cleared
    if weights is None or not -1e-6 < weights[0] <= 1 + 1e-6:
        raise Unrecognised("its membrane follows no recursion that we know")
    if kept is not None and weights[1] > -EXACT:
        raise Unrecognised("its spikes do not reset its membrane")
    own = before if kept is not None else (1 - fired) * before
    if not _certain([own, *rest], constant=weights[0] < 1 - 1e-4):
        raise Unrecognised(SILENT)
    decay, drop, constant = min(max(weights[0], 0.0), 1.0), weights[1], weights[-1]
    clear = 0.0 if cleared is None else -decay
    threshold = constant / (decay - 1) if 1 - decay > 1e-4 else -drop
    if threshold <= 0:
        raise Unrecognised("its threshold is not above its resting potential")
    return Recurrence(decay, drop, clear, round(threshold, 6), traces.paths, traces.resets)


def stirred_fit(own: Traces, stirred: Traces) -> Recurrence:
    """The recursion of a neuron that fired too little by itself.

    Args:
        own: What it did by itself, which the recursion has to explain too.
        stirred: What it did when random spikes took the place of its own.

    Raises:
        Unrecognised: If there is none, or the spikes do not act on the membrane.
    """
    found = fit(stirred)
    if not found.clear and abs(found.drop) < EXACT:  # a reset by something else than the spikes
        raise Unrecognised(SILENT)
    columns = _columns(own)
    carried = (found.decay + found.clear * columns.fired) * columns.before
    driven = columns.after - carried - found.drop * columns.fired
    if _solve([*columns.inputs, torch.ones_like(driven)], driven) is None:
        raise Unrecognised("its membrane follows no recursion that we know")
    return found


class _Columns(NamedTuple):
    """Traces of all neurons and steps as columns of numbers in double precision."""

    before: Tensor
    fired: Tensor
    after: Tensor
    inputs: list[Tensor]


def _columns(traces: Traces) -> _Columns:
    shape = traces.membranes[0].shape
    # one number for all neurons, such as a resting potential, is part of the constant
    drives = [[x for x in row if x.numel() > 1 or x.shape == shape] for row in traces.drives]
    if len({len(row) for row in drives}) > 1 or any(x.shape != shape for r in drives for x in r):
        raise Unrecognised("its input could not be told from its membrane")
    before, fired = (_column(x[:-1]) for x in (traces.membranes, traces.spikes))
    found = _Columns(
        before,
        fired,
        _column(traces.membranes[1:]),
        [_column(list(x)) for x in zip(*drives, strict=True)],
    )
    if not all(bool(x.isfinite().all()) for x in (before, found.after, *found.inputs)):
        raise Unrecognised("its membrane is NaN or infinite")
    return found


def _column(steps: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(steps)).double().flatten()


def _certain(columns: Sequence[Tensor], constant: bool) -> bool:
    """Whether no other weights of the first two columns, and of the last, explain as much."""
    table = torch.stack([column[:: -(-len(column) // ROWS)] for column in columns], 1).cpu()
    table = table / table.abs().amax(0).clamp(min=1e-12)
    sizes, vectors = torch.linalg.eigh(table.T @ table)
    free = vectors[:, sizes < UNCERTAIN * sizes[-1]]
    told = [0, 1, len(columns) - 1] if constant else [0, 1]
    return not bool((free[told].abs() > 1e-3).any())


def _solve(columns: Sequence[Tensor], after: Tensor) -> list[float] | None:
    """Weights with which the columns add up to `after`; None if none do."""
    table, after = torch.stack(list(columns), 1).cpu(), after.cpu()
    rows = slice(None, None, -(-len(table) // ROWS))
    scale = table[rows].abs().amax(0).clamp(min=1e-12)
    solved = torch.linalg.lstsq(table[rows] / scale, after[rows, None], driver="gelsd")
    weights = solved.solution[:, 0] / scale
    error = (table @ weights - after).abs().max().item()
    if error > EXACT * (1 + after.abs().max().item()):
        return None
    return [round(weight, 6) for weight in weights.tolist()]
