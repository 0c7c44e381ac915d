"""The order in which a NIR graph runs: whole layers where it can, step by step on loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from graphlib import TopologicalSorter
from typing import NamedTuple

from robust_snn.utils.errors import InputError

Edges = list[tuple[str, str]]


class Group(NamedTuple):
    """Nodes that run together: a single one over all steps, or those on a loop step by step.

    Attributes:
        nodes: Names in the order of a step.
        late: Edges that carry what the source gave one step before.
        loop: Whether a node's output reaches it again.
    """

    nodes: list[str]
    late: frozenset[tuple[str, str]] = frozenset()
    loop: bool = False


def groups(names: Iterable[str], edges: Edges, stateful: Callable[[str], bool]) -> list[Group]:
    """The groups of a graph, each after those that it reads.

    Args:
        names: All nodes.
        edges: Pairs of names.
        stateful: Tells neurons and integrators from layers.

    Raises:
        InputError: If a loop has no neuron, so that it needs its own result.
    """
    names = list(names)
    part = _parts(names, edges)
    members: dict[int, list[str]] = {}
    for name in names:
        members.setdefault(part[name], []).append(name)
    order: TopologicalSorter[int] = TopologicalSorter(dict.fromkeys(members, ()))
    for source, target in edges:
        if part[source] != part[target]:
            order.add(part[target], part[source])
    return [_group(members[number], edges, stateful) for number in order.static_order()]


def _parts(names: list[str], edges: Edges) -> dict[str, int]:
    """A number per node, the same for two nodes that reach each other."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place = {name: index for index, name in enumerate(names)}
    rows, columns = ([place[edge[end]] for edge in edges] for end in (0, 1))
    matrix = coo_array(([1] * len(edges), (rows, columns)), shape=(len(names), len(names)))
    _, labels = connected_components(matrix, connection="strong")
    return {name: int(label) for name, label in zip(names, labels, strict=True)}


def _group(names: list[str], edges: Edges, stateful: Callable[[str], bool]) -> Group:
    inside = [(a, b) for a, b in edges if a in names and b in names]
    if not inside:
        return Group(names)
    plain = [(a, b) for a, b in inside if not stateful(a) and not stateful(b)]
    if len(set(_parts(names, plain).values())) < len(names) or any(a == b for a, b in plain):
        raise InputError(f"the loop through {_listed(names)} passes no neuron, so it has no start")
    entries = [b for a, b in edges if b in names and a not in names]
    reached = {name: _neurons_after(name, inside, stateful) for name in names}
    back = _backward(entries, reached, stateful)
    late = set()
    for source, target in inside:
        if not stateful(source):
            continue
        ends = {target} if stateful(target) else reached[target]
        behind = {(source, end) in back for end in ends}
        if behind == {True, False}:
            raise InputError(
                f"'{target}' carries the spikes of '{source}' forwards and back at once; give each "
                "way a node of its own"
            )
        if behind == {True}:
            late.add((source, target))
    now: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(names, ()))
    for source, target in inside:
        if (source, target) not in late:
            now.add(target, source)
    return Group(list(now.static_order()), frozenset(late), True)


def _neurons_after(name: str, inside: Edges, stateful: Callable[[str], bool]) -> set[str]:
    """The neurons that read a node, through layers or directly."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        here = waiting.pop()
        for target in (b for a, b in inside if a == here):
            if stateful(target):
                found.add(target)
            else:
                waiting.append(target)
    return found


def _backward(
    entries: list[str], reached: dict[str, set[str]], stateful: Callable[[str], bool]
) -> set[tuple[str, str]]:
    """Pairs of neurons that close a loop, seen from where the group is entered."""
    first = [n for e in entries for n in ([e] if stateful(e) else sorted(reached[e]))]
    rest = [name for name in reached if stateful(name)]
    back: set[tuple[str, str]] = set()
    seen: set[str] = set()
    for root in [*first, *rest]:
        if root in seen:
            continue
        seen.add(root)
        path = [(root, iter(sorted(reached[root])))]
        while path:
            name, following = path[-1]
            for neuron in following:
                if any(neuron == above for above, _ in path):
                    back.add((name, neuron))
                elif neuron not in seen:
                    seen.add(neuron)
                    path.append((neuron, iter(sorted(reached[neuron]))))
                    break
            else:
                path.pop()
    return back


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
