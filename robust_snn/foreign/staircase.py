"""Recognising a function that fires: a staircase of one of its arguments, found by calling it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

LEVELS = 33  # values of a spike, beyond which a function counts as continuous
GRID = 512  # points on which a function is looked at
OFF_ROUND = 1.23456e-4  # keeps the grid off round numbers, where edges tend to lie
FAR = 2.5  # decades beyond its range in which the threshold of a silent neuron is looked for
HALVINGS = 48  # that place an edge to 1e-11 or so of the range
PINNED = 0.15  # between two membranes, which fire otherwise, for a threshold to be known
ROUNDING = 1e-6  # of sums that cancel
EXACT = 1e-6  # of the range of a membrane, within which an edge may round either way

Function = Callable[..., Any]


class Staircase(NamedTuple):
    """A function of one argument that jumps at fixed values and is constant between them.

    Attributes:
        argument: Place of the membrane among the arguments.
        threshold: Place of an argument that is subtracted from it first; None for none.
        edges: Where it jumps, in ascending order; a spike of zero or one has one edge.
        levels: Its values, one more than there are edges.
        chance: Whether it fires by chance, at an edge in half of all draws.
    """

    argument: int
    threshold: int | None
    edges: tuple[float, ...]
    levels: tuple[float, ...]
    chance: bool = False

    @property
    def jumps(self) -> tuple[float, ...]:
        """By how much it jumps at every edge."""
        pairs = zip(self.levels[1:], self.levels[:-1], strict=True)
        return tuple(after - before for after, before in pairs)

    @property
    def signs(self) -> tuple[int, ...]:
        """On which side of every edge it fires, and is not zero: 1 above, -1 below."""
        pairs = zip(self.levels[1:], self.levels[:-1], strict=True)
        return tuple(1 if (abs(after), after) > (abs(low), low) else -1 for after, low in pairs)

    @property
    def slope(self) -> float:
        """Its slope from end to end; the height of a step where these are one or more apart."""
        far = (self.edges[-1] - self.edges[0]) / max(1, len(self.edges) - 1)
        height = (self.levels[-1] - self.levels[0]) / len(self.edges)
        return height / min(1.0, far) if far else height

    def membrane(self, arguments: Sequence[Any]) -> Tensor:
        """The argument less what is subtracted from it, of any shape."""
        membrane: Tensor = arguments[self.argument]
        return membrane if self.threshold is None else membrane - arguments[self.threshold]

    def __call__(self, membrane: Tensor) -> Tensor:
        """What the function gives for a membrane."""
        out = torch.full_like(membrane, self.levels[0])
        for edge, jump in zip(self.edges, self.jumps, strict=True):
            out = out + jump * (membrane >= edge)
        return out

    def agrees(self, membrane: Tensor, out: Tensor) -> bool:
        """Whether `out` is this function of a membrane, but for values at an edge."""
        if self.chance:
            return bool(torch.isin(out, out.new_tensor(self.levels)).all())
        expected, slack = self(membrane), EXACT * (1 + membrane.abs().max().item())
        wrong = (expected - out.to(expected.dtype)).abs() > 1e-5 * (1 + expected.abs())
        for edge in self.edges:
            wrong = wrong & ((membrane - edge).abs() > slack)
        return not bool(wrong.any())


@torch.no_grad()
def read_staircase(
    membrane: Tensor, out: Tensor, *, whole: bool, chance: bool = False
) -> Staircase | None:
    """The staircase that spikes are of a membrane, as far as these data show it.

    Args:
        membrane: The membrane, above the threshold at which spikes of two values jump.
        out: The spikes, of the same shape.
        whole: Whether all thresholds are whole numbers, as of a function that rounds.
        chance: Whether it fires by chance, at zero in half of all draws.

    Returns:
        None if there is none, or if the membranes at hand leave a threshold open.
    """
    values = out.detach()
    levels = values.unique().tolist()
    if len(levels) > 2 or levels[-1] - levels[0] < ROUNDING:  # sums that cancel are rounded
        values = values.mul(1e4).round().div(1e4)
        levels = values.unique().tolist()
    if len(levels) <= 2:
        low, high = levels if len(levels) == 2 else (min(0.0, *levels), 1.0)
        for pair in ((low, high), (high, low)):  # it may fire below
            at_zero = Staircase(0, None, (0.0,), pair, chance)
            if at_zero.agrees(membrane, values):
                return at_zero
    if chance or not 2 <= len(levels) <= LEVELS or not membrane.isfinite().all():
        return None
    at = [membrane.detach()[values == level] for level in levels]
    unit = min(high - low for low, high in pairwise(levels))
    edges, steps = list[float](), [levels[0]]
    for (below, above), level in zip(pairwise(at), levels[1:], strict=True):
        left, right = below.max().item(), above.min().item()
        between = range(math.ceil(left), math.floor(right) + 1)  # of levels that nothing reached
        if left > right:
            return None
        if whole and len(between) == round((level - steps[-1]) / unit):
            edges += map(float, between)
            steps += [steps[-1] + unit * (1 + step) for step in range(len(between))]
        elif not whole and right <= left + PINNED * (1 + abs(left)):
            edges.append(_roundest(left, right))
            steps.append(level)
        else:
            return None
    return Staircase(0, None, tuple(edges), tuple(round(level, 4) for level in steps))


def _roundest(low: float, high: float) -> float:
    """The number of the fewest digits between two others, near their middle."""
    middle = (low + high) / 2
    rounded = (round(middle, digits) for digits in range(9))
    return next((number for number in rounded if low <= number <= high), middle)


@torch.no_grad()
def find_staircase(function: Function, arguments: Sequence[Any], out: Any) -> Staircase | None:
    """The staircase that a function is; None if it is another function.

    Args:
        function: What was called, without side effects.
        arguments: What it was called with.
        out: What came back.
    """
    if not isinstance(out, Tensor) or not out.numel() or len(_levels(out)) > LEVELS:
        return None
    for argument in membranes_of(arguments, out):
        others = _thresholds(arguments, argument)
        moving = [place for place in others if _moves(function, arguments, argument, place)]
        for threshold in (*moving, None, *others):
            found = _along(function, arguments, argument, threshold)
            if found is not None and found.agrees(found.membrane(arguments), out):
                return found
    return None


@torch.no_grad()
def has_jump(function: Function, arguments: Sequence[Any], out: Any) -> bool:
    """Whether a function of each element alone jumps somewhere near a membrane.

    Args:
        function: What was called, without side effects.
        arguments: What it was called with.
        out: What came back.
    """
    return any(_jumps_along(function, arguments, place) for place in membranes_of(arguments, out))


def _jumps_along(function: Function, arguments: Sequence[Any], place: int) -> bool:
    """Whether a function jumps along one argument, the others being as they are for one image."""
    membrane = arguments[place].detach()
    given = [v[:1] if isinstance(v, Tensor) and v.shape == membrane.shape else v for v in arguments]

    def at(points: Tensor) -> Tensor | None:
        """Values at some points `[P, N]`, of which each neuron has its own."""
        rows = (point.view_as(membrane[:1]) for point in points)
        values = [call_in_double(function, given, place, row) for row in rows]
        known = [value for value in values if value is not None]
        return torch.stack(known) if len(known) == len(values) else None

    low, high = membrane.min().item(), membrane.max().item()
    margin = max(1.0, high - low)
    line = torch.linspace(
        low - margin, high + margin, GRID // 8, dtype=torch.float64, device=membrane.device
    )
    grid = (line + OFF_ROUND)[:, None].expand(-1, membrane[:1].numel())
    values = _steady(at, grid)
    if values is None or not values.isfinite().all():
        return False
    rises, places = values.diff(dim=0).abs().max(0)
    left, right = (grid.gather(0, places[None] + step) for step in (0, 1))
    for _ in range(HALVINGS // 2):  # where most of the rise of each neuron is
        middle = (left + right) / 2
        ends = at(torch.cat([left, middle, right]))
        if ends is None:
            return False
        first = (ends[1] - ends[0]).abs() >= (ends[2] - ends[1]).abs()
        left, right = torch.where(first, left, middle), torch.where(first, middle, right)
    ends = at(torch.cat([left, right]))
    return ends is not None and bool(((ends[1] - ends[0]).abs() > 0.5 * rises)[rises > 0].any())


def _levels(out: Tensor) -> list[float]:
    return out.detach().flatten()[:4096].double().unique().tolist()


def membranes_of(arguments: Sequence[Any], out: Tensor) -> list[int]:
    """Arguments that the output can be a function of, those with a gradient first."""
    fits = [
        place
        for place, value in enumerate(arguments)
        if isinstance(value, Tensor) and value.is_floating_point() and value.shape == out.shape
    ]
    return sorted(fits, key=lambda place: not arguments[place].requires_grad)


def _thresholds(arguments: Sequence[Any], membrane: int) -> list[int]:
    """Arguments that can hold a threshold."""
    shape = arguments[membrane].shape
    return [
        place
        for place, value in enumerate(arguments)
        if place != membrane and (type(value) is float or _fits(value, shape))
    ]


def _moves(function: Function, arguments: Sequence[Any], place: int, threshold: int) -> bool:
    """Whether an argument is a threshold that may move, though it may stand still on these data.

    Then nothing changes where it and the membrane are shifted alike.
    """
    if not isinstance(arguments[threshold], Tensor) or arguments[threshold].numel() == 1:
        return False
    membrane = arguments[place].detach().double()
    far = 10**FAR * (1 + float(membrane.abs().max()))
    given = list(arguments)
    answers = []
    for shift in (0.0, far, -far):
        given[threshold] = arguments[threshold].detach().double() + shift
        answers.append(call_in_double(function, given, place, membrane + shift))
    first, *rest = answers
    return first is not None and all(a is not None and torch.equal(a, first) for a in rest)


def _fits(value: Any, shape: torch.Size) -> bool:
    """Whether a value can be subtracted from a tensor of a shape."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    pairs = zip(reversed(value.shape), reversed(shape), strict=False)
    return value.dim() <= len(shape) and all(own in (1, size) for own, size in pairs)


def _along(
    function: Function, arguments: Sequence[Any], place: int, threshold: int | None
) -> Staircase | None:
    """The staircase that the function is along one argument, whatever the others are."""
    membrane = arguments[place].detach()
    base = 0.0 if threshold is None else arguments[threshold]
    spread = membrane - base
    low, high = spread.min().item(), spread.max().item()
    margin = max(1.0, high - low)

    # Other tensors may be as large as the membrane: then one point of the grid fills all of it.
    rest = [v for i, v in enumerate(arguments) if i != place and isinstance(v, Tensor)]
    single = all(value.numel() == 1 for value in rest)
    head = membrane[:1]

    def at(points: Tensor) -> Tensor | None:
        """Values of the function at some points, or None if its elements differ."""
        if single:
            shaped = points.view(-1, *[1] * (membrane.dim() - 1))
            return call_in_double(function, arguments, place, shaped + base)
        values = []
        for point in points.tolist():
            filled = torch.full_like(head, point, dtype=torch.float64)
            given = [
                v[:1] if isinstance(v, Tensor) and v.shape == membrane.shape else v
                for v in arguments
            ]
            offset = 0.0 if threshold is None else given[threshold]
            answer = call_in_double(function, given, place, filled + offset)
            if answer is None or answer.unique().numel() != 1:
                return None
            values.append(answer.flatten()[0])
        return torch.stack(values)

    count = GRID if single else GRID // 8
    near = torch.linspace(low - margin, high + margin, count, dtype=torch.float64)
    far = margin * torch.logspace(0, FAR, count // 8, dtype=torch.float64)
    wide = torch.cat([low - far.flip(0), near[1:-1], high + far])
    grid = near.to(membrane.device) + OFF_ROUND
    values = _steady(at, grid)
    if values is not None and not (values[1:] != values[:-1]).any():  # a silent neuron
        grid = wide.to(membrane.device) + OFF_ROUND
        values = _steady(at, grid)
    if values is None:
        return None
    jumps = (values[1:] != values[:-1]).nonzero().flatten()
    if not 0 < len(jumps) < min(LEVELS, count // 4):
        return None
    left, right = grid[jumps], grid[jumps + 1]
    before = values[jumps]
    for _ in range(HALVINGS):
        middle = (left + right) / 2
        answers = at(middle)
        if answers is None:
            return None
        below = answers == before
        left, right = torch.where(below, middle, left), torch.where(below, right, middle)
    just_after = at(right + 1e-9 * margin)
    if just_after is None or not torch.equal(just_after, values[jumps + 1]):
        return None  # between two jumps of the grid the function takes further values
    edges = tuple(round(edge, 10) for edge in right.tolist())
    levels = (float(values[0]), *(float(value) for value in values[jumps + 1]))
    return Staircase(place, threshold, edges, levels)


def _steady(at: Callable[[Tensor], Tensor | None], grid: Tensor) -> Tensor | None:
    """Values at some points; None where there are none, or others every time."""
    values, again = at(grid), at(grid)
    if values is None or again is None or not torch.equal(values, again):
        return None
    return values


def call_in_double(
    function: Function, arguments: Sequence[Any], place: int, value: Tensor
) -> Tensor | None:
    """The function, in double precision, with one argument exchanged; None if it fails."""
    given = [
        v.detach().double() if isinstance(v, Tensor) and v.is_floating_point() else v
        for v in arguments
    ]
    given[place] = value
    try:
        out = function(*given)
    except Exception:  # whatever somebody's function does not take
        return None
    if not isinstance(out, Tensor) or out.numel() != value.numel():
        return None
    return out.detach().double().flatten()
