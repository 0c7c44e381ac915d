"""Exact answers for small networks: the spike trains that the first layer can have, enumerated.

A static image gives each neuron of the first spiking layer one current for all steps, an affine
function of the pixels. As the current rises, the neuron's spike train changes at a few values only.
Branch and bound splits the currents of undecided neurons there; intervals bound the layers above,
and linear programming tells which combinations the ball around the image can reach at all. A
combination whose bounds decide nothing gives an image, on which the network itself is run.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from robust_snn.certificates.bounded_network import BoundedNetwork
from robust_snn.certificates.interval import Interval, box_around, least_lead
from robust_snn.certificates.spike_bounds import step_factors
from robust_snn.neurons import LIF
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import whole

BATCH = 64  # combinations that are bounded together
INFEASIBLE = 2  # SciPy's status of a linear program without a solution

# Of each undecided neuron: its first cell, and the one after its last.
Cells = tuple[tuple[int, int], ...]


class Exact(NamedTuple):
    """What branch and bound found about one image.

    Attributes:
        status: `"certified"`, `"broken"`, or `"open"` where the budget or rounding left it so.
        nodes: Combinations of spike trains that were bounded.
        image: The image that breaks it, `[C, H, W]`.
    """

    status: Literal["certified", "broken", "open"]
    nodes: int
    image: Tensor | None = None


class Cell(NamedTuple):
    """Currents under which a neuron has one spike train.

    Attributes:
        low: Lowest current.
        high: Highest current.
        train: Its spikes, one per step.
        slope: How its membrane after the last step depends on the current.
        offset: Its membrane after the last step at current 0.
    """

    low: float
    high: float
    train: tuple[int, ...] = ()
    slope: float = 0.0
    offset: float = 0.0


class _Neuron(NamedTuple):
    """An undecided neuron of the first layer.

    Attributes:
        place: Its position among the layer's neurons.
        cells: What its current can do, from low to high.
        trains: The spikes of each cell, `[cells, T]`.
        row: How its current depends on the pixels, `[pixels]`.
        current: Its current on the image.
    """

    place: int
    cells: list[Cell]
    trains: Tensor
    row: np.ndarray
    current: float


def spike_cells(layer: LIF, steps: int, low: float, high: float) -> list[Cell]:
    """The spike trains of a neuron under a constant current in a range, from low to high."""
    dynamics = layer.dynamics
    hard = dynamics.reset == "hard"
    cells = [Cell(low, high, (), 0.0, dynamics.v_reset if hard else 0.0)]
    for decay, gain in step_factors(layer, steps):
        parts = []
        for cell in cells:
            slope = decay * cell.slope + gain
            offset = decay * cell.offset - dynamics.threshold
            edge = -offset / slope if slope else cell.low
            edges = [cell.low, *([edge] if cell.low < edge < cell.high else []), cell.high]
            for start, end in itertools.pairwise(edges):
                fired = slope * (start + end) / 2 + offset >= 0
                after = slope, offset + dynamics.threshold
                if fired and hard:
                    after = 0.0, dynamics.v_reset
                elif fired:
                    after = slope, after[1] + dynamics.reset_value
                parts.append(Cell(start, end, (*cell.train, int(fired)), *after))
        cells = parts
    return cells


def decide(
    network: BoundedNetwork,
    image: Tensor,
    label: int,
    eps: float,
    nodes: int = 2000,
) -> Exact:
    """Decides whether any image within `eps` in Linf of an image in [0, 1] is misclassified.

    Args:
        network: The network.
        image: `[C, H, W]`.
        label: Its class.
        eps: Radius.
        nodes: Combinations of spike trains to bound before it is given up.

    Raises:
        InputError: If `nodes` is no number of them, or the first layer's currents change over
            time, as those of event frames do.
    """
    return _Search(network, image[None].double(), label, eps).run(whole(nodes, "nodes", 0))


class _Search:
    def __init__(self, network: BoundedNetwork, image: Tensor, label: int, eps: float) -> None:
        self.network, self.image, self.label = network, image, label
        self.box = box_around(image, eps)
        with torch.no_grad():
            layer, bounds, steps = network.first_layer(self.box)
        if len(bounds) > 1:
            raise InputError(
                "exact answers need static images, whose currents are the same at every step; "
                "leave nodes out"
            )
        margin = network.tolerance
        ends = zip(bounds.lower.flatten().tolist(), bounds.upper.flatten().tolist(), strict=True)
        cells = [spike_cells(layer, steps, low - margin, high + margin) for low, high in ends]
        self.spikes = image.new_tensor([each[0].train for each in cells]).t()  # `[T, neurons]`
        self.shape = bounds.shape[2:]
        self.neurons = self._undecided(cells)

    def run(self, nodes: int) -> Exact:
        """Splits until every combination is bounded, one breaks the image, or nodes run out."""
        start: Cells = tuple((0, len(neuron.cells)) for neuron in self.neurons)
        self.order = self._order(start)
        stack, done, settled = [start], 0, True
        while stack:
            if done >= nodes:
                return Exact("open", done)
            batch = [stack.pop() for _ in range(min(BATCH, len(stack)))]
            done += len(batch)
            for cells, lead in zip(batch, self._leads(batch), strict=True):
                if lead > self.network.tolerance:
                    continue
                x = self._reached(cells)
                if x is None:
                    continue
                if self._is_broken(x):
                    return Exact("broken", done, x[0].float())
                parts = self._split(cells)
                settled = settled and bool(parts)
                stack.extend(parts)
        return Exact("certified" if settled else "open", done)

    def _undecided(self, cells: list[list[Cell]]) -> list[_Neuron]:
        """The neurons that have several cells."""
        x = self.image.clone().requires_grad_()
        places = [place for place, each in enumerate(cells) if len(each) > 1]
        with torch.enable_grad():
            current = self.network.first_layer(x)[1].flatten()
            rows = [torch.autograd.grad(current[p], x, retain_graph=True)[0] for p in places]
        return [
            _Neuron(
                place,
                cells[place],
                self.image.new_tensor([cell.train for cell in cells[place]]),
                row.flatten().cpu().numpy(),
                float(middle),
            )
            for place, row, middle in zip(places, rows, current.detach()[places], strict=True)
        ]

    def _order(self, start: Cells) -> list[int]:
        """Neurons in the order in which they are split: those first that tighten the bound most."""
        halves = [_halved(start, place) for place in range(len(start))]
        leads = iter(self._leads([cells for pair in halves for cells in pair]))
        gains = [min(next(leads), next(leads)) for _ in halves]
        return sorted(range(len(start)), key=lambda place: -gains[place])

    @torch.no_grad()
    def _leads(self, batch: list[Cells]) -> list[float]:
        """A lower bound of the label's lead for each combination of cells."""
        found: list[float] = []
        for some in (batch[i : i + BATCH] for i in range(0, len(batch), BATCH)):
            ends = [self.spikes[:, None].repeat(1, len(some), 1) for _ in range(2)]
            for member, cells in enumerate(some):
                for neuron, (first, last) in zip(self.neurons, cells, strict=True):
                    trains = neuron.trains[first:last]
                    ends[0][:, member, neuron.place] = trains.amin(0)
                    ends[1][:, member, neuron.place] = trains.amax(0)
            lower, upper = (end.unflatten(2, self.shape) for end in ends)
            box = self.box.map(partial(_repeated, len(some)))
            logits, _ = self.network.bounds(box, Interval(lower, upper))
            label = torch.full((len(some),), self.label, device=self.image.device)
            found += least_lead(logits.differences(label), label).tolist()
        return found

    def _reached(self, cells: Cells) -> Tensor | None:
        """An image of the ball well inside a combination of cells, `[1, ...]`; None without any."""
        rows, limits = [], []
        for neuron, (first, last) in zip(self.neurons, cells, strict=True):
            if first > 0:
                rows.append(-neuron.row)
                limits.append(neuron.current - neuron.cells[first].low)
            if last < len(neuron.cells):
                rows.append(neuron.row)
                limits.append(neuron.cells[last - 1].high - neuron.current)
        if not rows:
            return self.image
        sides = (
            (side - self.image).flatten().cpu().numpy() for side in (self.box.lower, self.box.upper)
        )
        # the last variable is how far inside of their cells the currents lie
        found = linprog(
            np.r_[np.zeros(self.image.numel()), -1.0],
            np.hstack([np.stack(rows), np.ones((len(rows), 1))]),
            np.array(limits),
            bounds=[*zip(*sides, strict=True), (-self.network.tolerance, 1.0)],
            method="highs",
        )
        if found.status == INFEASIBLE:
            return None
        if found.x is None:  # the solver gave up, which proves nothing
            return self.image
        move = torch.from_numpy(found.x[:-1]).view_as(self.image).to(self.image)
        return torch.clamp(self.image + move, self.box.lower, self.box.upper)

    @torch.no_grad()
    def _is_broken(self, x: Tensor) -> bool:
        return int(self.network.original(x.float()).argmax()) != self.label

    def _split(self, cells: Cells) -> list[Cells]:
        for place in self.order:
            first, last = cells[place]
            if last - first > 1:
                return _halved(cells, place)
        return []


def _halved(cells: Cells, place: int) -> list[Cells]:
    """Two combinations, each with half of the cells of one neuron."""
    first, last = cells[place]
    middle = (first + last) // 2
    return [
        (*cells[:place], half, *cells[place + 1 :]) for half in ((first, middle), (middle, last))
    ]


def _repeated(count: int, x: Tensor) -> Tensor:
    """An image `[1, ...]` several times."""
    return x.expand(count, *x.shape[1:])
