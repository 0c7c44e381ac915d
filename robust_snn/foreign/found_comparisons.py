"""What a pass showed of comparisons, and which of them make spikes that reach something."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from robust_snn.foreign.comparison import Comparison, Form, Place, Side
from robust_snn.foreign.graph_walk import SHAPING, walk
from robust_snn.foreign.loose_ends import UNREACHED
from robust_snn.foreign.onward import Onward
from robust_snn.foreign.squashed_values import Root, depth_alone

COPYING, TURNING = (re.compile(rf"({n})Backward\d*") for n in ("Clone|ToCopy|Alias", "Rsub|Neg"))


class FoundComparisons:
    """What was found of comparisons in a pass, by the places of operations in it.

    Attributes:
        found: What makes the spikes of an operation.
        made: Comparisons that may be of spikes.
        roots: What straight-through spikes are a staircase of.
        spots: Nodes of spikes in the graph of gradients, and the lines that make them.
        lines: Paths and lines of comparisons.
        falling: Operations that give one below a threshold, and zero above.
        gates: Operations whose mask is none of spikes in that step.
        uses: How many operations the spikes of an operation enter.
        gated: How many of these are products that do not jump with them.
        compared_in: Lines of comparisons.
    """

    def __init__(self) -> None:
        self.found: dict[float, Place] = {}
        self.made: dict[float, Comparison] = {}
        self.roots: dict[float, Root | None] = {}
        self.spots: dict[float, tuple[Any, Any]] = {}
        self.lines: dict[float, tuple[str, str]] = {}
        self.falling: set[float] = set()
        self.gates: set[float] = set()
        self.uses = Counter[float]()
        self.gated = Counter[float]()
        self.compared_in: dict[float, Any] = {}

    def of_spikes(
        self, spikes: Mapping[Node, Any], outputs: Sequence[Tensor]
    ) -> dict[float, Place]:
        """What was found and does more than to reset a membrane.

        A comparison without a gradient may serve a reset. It is one of spikes where these reach
        more than the membrane that is compared, or raise it.

        Args:
            spikes: The other spikes, and the lines that make them.
            outputs: What the network returned.
        """
        onward = self.onward(spikes, outputs)
        places, others = self._candidates(), set[Any]()
        compared = {p: self.made[f.made] for p, f in places.items() if f.form is Form.COMPARED}
        for place, made in compared.items():  # a line may be dead in its last step, or silent
            if made.of_few_values:
                continue
            if self._reaches_others(place, made, onward) or self._raises(place, made, outputs):
                others.add(self.spots[place][1])
        return {
            p: f._replace(side=self._side(p, onward))
            for p, f in places.items()
            if p not in compared or self.spots[p][1] in others
        }

    def unreached(self, onward: Onward) -> list[tuple[str, str, str]]:
        """Paths and lines of comparisons of spikes that go on, such as of first spikes, and why.

        As in `where(s > 0, t, T)`: nothing reaches them.
        """
        return [
            (*self.lines[its.made], UNREACHED)
            for place, its in self._candidates().items()
            if its.form is Form.COMPARED and self._of_spikes_alone(place)
            if self._reaches_others(place, self.made[its.made], onward)
        ]

    def onward(self, spikes: Mapping[Node, Any], outputs: Sequence[Tensor]) -> Onward:
        """Where spikes go on to; see `of_spikes`."""
        return Onward(outputs, {**dict(self.spots.values()), **spikes})

    def _of_spikes_alone(self, place: float) -> bool:
        """Whether the comparisons of a line are made of the spikes of one call in all steps."""
        if not self.made[self.found[place].made].of_few_values:
            return False
        line = self.spots[place][1]
        beside = (self.found[p].made for p, (_, other) in self.spots.items() if other == line)
        return all(self.made[number].of_few_values for number in beside if number in self.made)

    def _candidates(self) -> dict[float, Place]:
        """What may be spikes: of a comparison whose spikes have a gradient, the last operation."""
        gates = self._gates_in_all_steps()
        found = {place: p for place, p in self.found.items() if place not in gates}
        last = {p.made: place for place, p in found.items() if p.form is not Form.COMPARED}
        kept = {at: p for at, p in found.items() if last.get(p.made, at) == at}
        made = {p.made for p in kept.values()}
        return {place: self._rooted(p, made) for place, p in kept.items()}

    def _gates_in_all_steps(self) -> set[float]:
        """Masks that change nothing at their threshold, in any step of their line.

        In a single one few neurons may be near it, or it may matter for none of those.
        """
        gates = self.gates | {p for p, count in self.gated.items() if count == self.uses[p]}
        jumping = {line for place, (_, line) in self.spots.items() if place not in gates}
        return {place for place in gates & {*self.spots} if self.spots[place][1] not in jumping}

    def _reaches_others(self, place: float, made: Comparison, onward: Onward) -> bool:
        """Whether the spikes of a comparison do more than to reset what is compared."""
        node, made_of = self.spots[place][0], made.made_of
        if node not in onward.children:
            return False
        membranes = [] if made_of is None else [made_of, *onward.fired_by(made_of)]
        return onward.reaches_others(onward.children[node], membranes, node)

    def _side(self, place: float, onward: Onward) -> Side:
        """On which side of a threshold spikes are one, and what that means for the network."""
        if place not in self.falling:
            return Side.ABOVE
        todo = [*onward.children.get(self.spots[place][0], ())]
        while todo:
            node = todo.pop()
            if COPYING.fullmatch(node.name()) or SHAPING.fullmatch(node.name()):
                todo += onward.children[node]
            elif not _turns(node):
                return Side.BELOW
        return Side.SILENT

    def _raises(self, place: float, made: Comparison, outputs: Sequence[Tensor]) -> bool:
        """Whether spikes raise the membrane of the next step, as a jump at a first spike does.

        In the last step, or the only one, they do where the output changes with them as it does
        with the membrane.
        """
        node, line = self.spots[place]
        after = (p for p, (_, other) in self.spots.items() if p > place and other == line)
        later = next((self.made[self.found[p].made].membrane for p in after), None)
        if made.membrane is None or made.made_of is None:
            return False
        nodes = [node, *(walk(made.made_of).chain if later is None else ())]
        target = _weighed(outputs) if later is None else later.sum()
        try:
            found = torch.autograd.grad(
                target, [GradientEdge(n, 0) for n in nodes], retain_graph=True, allow_unused=True
            )
        except RuntimeError:  # an operation of the network has no derivative
            return False
        fired = made.membrane.detach() >= 0
        rise, *slopes = (g if g is not None and g.shape == fired.shape else None for g in found)
        known = [slope for slope in slopes if slope is not None]
        if rise is None or (later is None and not known):
            return False
        # of the compared membrane, or of what it is less a threshold
        change = (rise if later is not None else rise * known[-1])[fired].sum()
        return bool((-change if place in self.falling else change) > 0)

    def _rooted(self, place: Place, others: Container[float]) -> Place:
        """A place with what its spikes are a staircase of."""
        if place.form is Form.STRAIGHT_THROUGH:
            return place._replace(root=self.roots.get(place.made))
        made = self.made.get(place.made)
        if made is None or made.spikes is None or made.fires is None:
            return place
        return place._replace(root=made.root(depth_alone(made.fires, others), made.spikes))


def _turns(node: Any) -> bool:
    """Whether an operation gives less where it gets more, as `1 - mask` or `where(mask, 0, 1)`."""
    if node.name() == "JumpedBackward":
        return bool((torch.as_tensor(node.jump) < 0).all())
    return TURNING.fullmatch(node.name()) is not None


def _weighed(outputs: Sequence[Tensor]) -> Tensor:
    """A sum of outputs in which few parts cancel."""
    slopes = (out for out in outputs if out.requires_grad and not out.is_complex())
    return sum(
        ((out * torch.arange(1.0, 1 + out.numel()).to(out).view_as(out)).sum() for out in slopes),
        torch.zeros(()),
    )
