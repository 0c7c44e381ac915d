"""How the calls of a spike function follow each other, read from the graph of a forward pass.

A neuron that keeps a membrane is called once per step, and its membrane before the next spike is an
elementwise function of the membrane before this one. Walking the graph from a membrane through
elementwise operations therefore finds the membrane of the step before, and what else enters, the
drive, ends the walk.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from torch import Tensor
from torch.autograd.graph import Node

SPACE = r"(torch::autograd::)?"
ELEMENTWISE = re.compile(
    SPACE
    + r"(Add|Sub|Rsub|Mul|Div|Neg|Where|MaskedFill|Clone|ToCopy|Alias|Clamp\w*|Pow|Lerp|Addcmul"
    r"|Maximum|Minimum|Copy|Sigmoid|Tanh|Exp|Expand|Jumped)Backwards?\d*"
)
SHAPING = re.compile(
    SPACE + r"((View|Reshape\w*|UnsafeView|Squeeze|Unsqueeze|Permute|Transpose|T|Select|Slice|Index"
    r"|Stack|Cat|Unbind|Split\w*|IndexPut\w*|MaskedScatter)Backward\d*|CopySlices)"
)
OVERWRITING = re.compile(SPACE + r"CopyBackwards?\d*")
MOST_WAYS = 1000
DEEPEST = 64  # operations between two steps of a neuron
Path = tuple[int, ...]
Output = tuple[Node, int]  # an operation and which of its outputs


class Walk(NamedTuple):
    """The elementwise operations that make a membrane.

    Attributes:
        top: The operation that makes the tensor which the spike function is called with.
        chain: `top` and what it is made of, up to the first operation that joins two gradients.
        inner: All operations of the walk but those at its end.
    """

    top: Node
    chain: tuple[Node, ...]
    inner: frozenset[Node]


def walk(top: Node, between: Collection[Node] = ()) -> Walk:
    """The elementwise operations that make a membrane.

    Args:
        top: The last of them.
        between: Operations of the network's own that count as elementwise.
    """
    inner: set[Node] = set()
    todo = deque([(top, 0)])
    while todo:
        node, depth = todo.popleft()  # the nearest first, which longer ways reach too
        if node in inner or depth >= DEEPEST:
            continue
        if node in between or ELEMENTWISE.fullmatch(node.name()):
            inner.add(node)
            todo += [(parent, depth + 1) for parent in parents(node)]
    chain = [top]
    while chain[-1] in inner and len(above := parents(chain[-1])) == 1:
        chain.append(above[0])
    return Walk(top, tuple(chain), frozenset(inner))


def parents(node: Node) -> list[Node]:
    """What a gradient on `node` goes to next, which is no tensor that a copy overwrites."""
    nodes = [parent for parent, _ in node.next_functions]
    if OVERWRITING.fullmatch(node.name()):
        nodes = nodes[1:]
    return [parent for parent in nodes if parent is not None]


def recurrent_paths(after: Walk, before: Walk, spikes: Collection[Node]) -> list[Path] | None:
    """Ways from a membrane to what the step before left of it.

    Args:
        after: The walk from a membrane.
        before: The walk from the membrane of the step before.
        spikes: The calls of the spike function in that step.

    Returns:
        Places of the gradients to follow, from `after.top` to the first operations that depend on
        nothing but the step before. None at all if the state is detached; None if it enters an
        operation together with something else.
    """
    depth = len(after.chain) - 1
    return _ways(after, {*spikes, *before.chain[depth : depth + 1]})


def reset_paths(after: Walk, before: Walk, spikes: Collection[Node]) -> list[Path] | None:
    """Ways from a membrane to the spike before, or operations that depend on nothing else.

    No way goes through the membrane `before`, which is older than its spike: spikes of an earlier
    step may have the same values.

    Returns:
        None if there are too many. No way at all if the gradient does not pass through the reset
        anyway.
    """
    newer = after._replace(inner=after.inner - before.inner)
    return _ways(newer, set(spikes), joined=True)


def _ways(after: Walk, sources: set[Node], joined: bool = False) -> list[Path] | None:
    """Ways from a membrane to the first operations that depend on some sources and nothing else.

    None if there are too many, or if a source enters an operation together with something else,
    unless such ways, which end at the source, are wanted too (`joined`).
    """
    known: dict[Node, bool] = {}
    leads: dict[Node, bool] = {}

    def whole(node: Node) -> bool:
        if node in sources or node not in after.inner:
            return node in sources
        if node not in known:
            above = parents(node)
            known[node] = bool(above) and all(map(whole, above))
        return known[node]

    def ways(node: Node, path: Path) -> Iterator[tuple[Path, Node]]:
        for place, (parent, _) in enumerate(node.next_functions):
            if parent is not None and whole(parent):
                yield (*path, place), parent
            elif parent in after.inner and led(parent):
                yield from ways(parent, (*path, place))

    def led(node: Node) -> bool:
        """Whether there is a way from an operation."""
        if node not in leads:
            leads[node] = any(
                whole(above) or (above in after.inner and led(above)) for above in parents(node)
            )
        return leads[node]

    found = [] if whole(after.top) else [*islice(ways(after.top, ()), MOST_WAYS + 1)]
    if len(found) > MOST_WAYS or (not joined and any(node in sources for _, node in found)):
        return None
    return [path for path, _ in found]


def drives(top: Node, paths: Sequence[Path]) -> list[Output]:
    """What enters a membrane beside the step before, in a fixed order.

    A filter of the input, such as a synapse, counts as a whole.
    """
    found: dict[Output, None] = {}

    def visit(node: Node, path: Path) -> None:
        for place, (parent, output) in enumerate(node.next_functions):
            way = (*path, place)
            if parent is None or way in paths:
                continue
            if any(longer[: len(way)] == way for longer in paths):
                visit(parent, way)
            else:
                found[parent, output] = None

    visit(top, ())
    return list(found)


def sources(after: Walk) -> list[Output]:
    """What enters the elementwise operations that make a membrane, in a fixed order."""
    found: dict[Output, None] = {}
    seen: set[Node] = set()
    todo = [after.top]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        for parent, output in node.next_functions:
            if parent in after.inner:
                todo.append(parent)
            elif parent is not None:
                found[parent, output] = None
    return list(found)


def follow(top: Node, path: Path) -> Node | None:
    """The operation at the end of a way; None where it leads to no gradient."""
    node: Node | None = top
    for place in path:
        if node is None or place >= len(node.next_functions):
            return None
        node = node.next_functions[place][0]
    return node


def cut(top: Node, paths: Sequence[Path]) -> None:
    """Lets no gradient of a membrane, which `top` makes, pass to the step before it.

    The last operation of a way sends none to what is at its end, which others may reach too.
    """
    ends: dict[Node, set[int]] = {}
    for path in paths:
        if (node := follow(top, path[:-1])) is not None:
            ends.setdefault(node, set()).add(path[-1])
    for node, places in ends.items():
        node.register_hook(partial(_without, frozenset(places)))


def _without(
    places: frozenset[int], gradients: Sequence[Tensor | None], upstream: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """The gradients without some, of which zeros would be carried on to the first step."""
    return tuple(None if at in places else value for at, value in enumerate(gradients))
