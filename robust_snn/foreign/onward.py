"""What the values that a neuron makes go on to, read from the graph of a forward pass."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node

from robust_snn.foreign.graph_walk import DEEPEST, ELEMENTWISE, SHAPING, parents, walk
from robust_snn.foreign.interception import nodes_of

REDUCING = re.compile(r"(Sum|Mean)Backward\d*")
BEFORE_FIRING = re.compile(  # of the membrane alone
    r"(\w*Norm|\w*Relu\d?|Elu|Gelu|Silu|Softplus\w*|Softsign|Hardtanh|Hardsigmoid|Log\w*|Erf|Atan"
    r"|Abs|Sqrt)Backward\d*"
)


class Onward:
    """Tells what serves a neuron's own membrane from what reaches others.

    Args:
        outputs: What the network returned.
        ends: Spike functions, where neurons end, and the line of each, which its steps share.
    """

    def __init__(self, outputs: Sequence[Tensor], ends: Mapping[Node, Any]) -> None:
        self._ends = ends
        self.children: dict[Node, set[Node]] = {node: set() for node in nodes_of(outputs)}
        for node in self.children:
            for parent in parents(node):
                self.children[parent].add(node)

    def fired_by(self, value: Node) -> list[Node]:
        """The membranes of the spikes that a value is made of and of nothing else."""
        todo, seen, found = [value], {value}, list[Node]()
        while todo:
            node = todo.pop()
            above = parents(node)
            if node in self._ends:
                found += above
            elif SHAPING.fullmatch(node.name()) or (
                len(above) == 1 and ELEMENTWISE.fullmatch(node.name())
            ):
                todo += [parent for parent in above if parent not in seen]
                seen.update(above)
        return found

    def reaches_others(
        self, entered: Collection[Node], membranes: Collection[Node], source: Node | None = None
    ) -> bool:
        """Whether something leaves the neuron that made it, and does more than to reset it.

        A membrane that is read at the end may have been reset; one that enters a layer is none.

        Args:
            entered: The operations that take it; it is an output if there are none.
            membranes: What it was made of.
            source: What made it.
        """
        own = {node for membrane in membranes for node in _chain(membrane)}
        steps = {self._ends[end] for end, chain in self._chains.items() if chain & own}
        fires = {
            n for end, chain in self._chains.items() if self._ends[end] in steps for n in chain
        }
        known: dict[Node | None, bool] = {source: False}

        def is_own(node: Node, depth: int = 0) -> bool:
            """Whether the membrane is a part of it, beside the source."""
            if node not in known:
                inner = depth < DEEPEST and node not in self._ends
                known[node] = node in own or bool(
                    inner
                    and ELEMENTWISE.fullmatch(node.name())
                    and any(is_own(parent, depth + 1) for parent in parents(node))
                )
            return known[node]

        if not entered:
            return True
        todo, seen = [(node, False) for node in entered], {source, *entered}
        while todo:
            node, joined = todo.pop()
            joined = joined or any(is_own(p) for p in parents(node) if p not in seen)
            if node in self._ends:
                if not joined and self._ends[node] not in steps:
                    return True  # one to one
                continue
            if joined and node not in entered and REDUCING.fullmatch(node.name()):
                continue
            elementwise = ELEMENTWISE.fullmatch(node.name()) or SHAPING.fullmatch(node.name())
            if not (elementwise or node in fires):
                return True
            children = self.children[node]
            if not children and not joined:
                return True  # an output
            todo += [(child, joined) for child in children - seen]
            seen |= children
        return False

    @cached_property
    def _chains(self) -> dict[Node, set[Node]]:
        """What the membrane of every spike function is made of, up to where gradients join."""
        return {
            end: {node for parent in parents(end) for node in _chain(parent)} for end in self._ends
        }


def _chain(membrane: Node) -> list[Node]:
    """The operations of each element, or each image, alone that make a membrane."""
    chain = [*walk(membrane).chain]
    while BEFORE_FIRING.fullmatch(chain[-1].name()) and len(above := parents(chain[-1])) == 1:
        chain += walk(above[0]).chain
    return chain
