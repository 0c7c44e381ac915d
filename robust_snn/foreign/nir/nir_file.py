"""NIR graphs as plain nodes and edges, from files that anybody may have made."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from robust_snn.utils.errors import InputError, missing_extra, unknown

KINDS = (
    "Affine",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "CubaLI",
    "CubaLIF",
    "Flatten",
    "I",
    "IF",
    "Input",
    "LI",
    "LIF",
    "Linear",
    "NIRGraph",
    "Output",
    "Scale",
    "SumPool2d",
    "Threshold",
)
NOTE = "robust_snn"  # under which our own files note steps and scheme
MAX_BYTES = 2**32  # of a file's numbers once they are unpacked; a small file can hold many zeros
MAX_DEPTH = 32
MAX_OBJECTS = 100_000


class Node(NamedTuple):
    """One node: its type in NIR, and its fields as NIR names them."""

    kind: str
    values: Mapping[str, Any]


class Graph(NamedTuple):
    """Nodes by name, without nested graphs, and edges between them.

    Attributes:
        nodes: All nodes; the ends of a nested graph are of the kind `"Pass"`.
        edges: Pairs of names, each once.
        metadata: What the writer noted about the graph.
    """

    nodes: dict[str, Node]
    edges: list[tuple[str, str]]
    metadata: Mapping[str, Any]

    def before(self, name: str) -> list[str]:
        """The nodes whose outputs add up to the input of a node."""
        return [source for source, target in self.edges if target == name]


def is_nir(obj: Any) -> bool:
    """Whether `adapt` was given a NIR file or a graph of the `nir` package."""
    if isinstance(obj, str | PathLike):
        return Path(obj).suffix == ".nir"
    return type(obj).__name__ == "NIRGraph" and type(obj).__module__.startswith("nir.")


def nir_package() -> Any:
    """The `nir` package.

    Raises:
        ImportError: If it is not installed; names the extra.
    """
    try:
        return import_module("nir")
    except ImportError as error:
        raise missing_extra("nir", "nir") from error


def read_graph(source: str | PathLike[str] | Any) -> Graph:
    """Reads a NIR file, or a graph of the `nir` package.

    Raises:
        InputError: If it is no NIR file, or holds something that is not supported.
        ImportError: If the `nir` package is not installed.
    """
    nir = nir_package()
    graph = source if isinstance(source, nir.NIRGraph) else _read_file(nir, Path(source))
    nodes: dict[str, Node] = {}
    edges: list[tuple[str, str]] = []
    _flatten(graph, "", nodes, edges)
    metadata = graph.metadata if isinstance(graph.metadata, Mapping) else {}
    return Graph(nodes, list(dict.fromkeys(edges)), metadata)


def _read_file(nir: Any, path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    h5py = import_module("h5py")
    try:
        with h5py.File(path, "r") as file:
            if "node" not in file:
                raise InputError(f"{path.name} is an HDF5 file, but no NIR graph: it has no 'node'")
            _check_contents(h5py, file)
        checked = "type_check" in inspect.signature(nir.read).parameters
        graph = nir.read(path, type_check=False) if checked else nir.read(path)
    except InputError:
        raise
    except Exception as error:  # h5py and nir raise whatever a broken file makes them stumble over
        raise InputError(f"{path.name} cannot be read as a NIR graph: {error!r}") from error
    if not isinstance(graph, nir.NIRGraph):
        raise InputError(f"{path.name} holds a single {type(graph).__name__}; expected a graph")
    return graph


def _check_contents(h5py: Any, file: Any) -> None:
    """Refuses a file before its numbers are read: types, links, sizes."""
    seen: set[Any] = set()
    size = 0
    for where, group, name in _objects(h5py, file, "", 0):
        path = f"{where}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"{path} is a link to somewhere else, which a NIR file must not have")
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen or len(seen) > MAX_OBJECTS:
            raise InputError(f"{path} comes twice, or after {MAX_OBJECTS} others")
        seen.add(address)
        if isinstance(item, h5py.Group):
            continue
        if item.is_virtual or item.external:
            raise InputError(f"{path} keeps its numbers in another file")
        size += item.size * item.dtype.itemsize
        if size > MAX_BYTES:
            raise InputError(f"{path}: the file unpacks to more than {MAX_BYTES / 2**30:.0f} GiB")
        if name == "type" and "/metadata" not in where:
            kind = item[()]
            kind = kind.decode() if isinstance(kind, bytes) else str(kind)
            if kind not in KINDS:
                raise unknown(f"type of the NIR node '{_node_name(where)}'", kind, KINDS)


def _objects(h5py: Any, group: Any, where: str, depth: int) -> Iterator[tuple[str, Any, str]]:
    """Everything in a file, parents first: its path, and the group that names it."""
    if depth > MAX_DEPTH:
        raise InputError(f"{where} is nested more than {MAX_DEPTH} deep")
    for name in group:
        yield where, group, name
        if isinstance(item := group[name], h5py.Group):
            yield from _objects(h5py, item, f"{where}/{name}", depth + 1)


def _node_name(where: str) -> str:
    return where.removeprefix("/node").replace("/nodes/", ".").lstrip(".") or "the graph itself"


def _flatten(graph: Any, prefix: str, nodes: dict[str, Node], edges: list[tuple[str, str]]) -> None:
    """Adds the nodes of a graph, and of the graphs inside it, as `outer.inner`."""
    ends: dict[str, tuple[str, str]] = {}  # what an edge to, and from, a node means
    for name, node in graph.nodes.items():
        full, kind = prefix + name, type(node).__name__
        if kind not in KINDS:
            raise unknown(f"type of the NIR node '{full}'", kind, KINDS)
        if kind == "NIRGraph":
            _flatten(node, f"{full}.", nodes, edges)
            ends[name] = _only(node, full, "Input"), _only(node, full, "Output")
            continue
        for field, value in vars(node).items():
            if np.iscomplexobj(value):
                raise InputError(f"NIR node '{full}' ({kind}): {field} holds complex numbers")
        inner = prefix and kind in ("Input", "Output")
        nodes[full] = Node("Pass" if inner else kind, vars(node))
        ends[name] = full, full
    for source, target in graph.edges:
        for name in (source, target):
            if name not in ends:
                raise InputError(
                    f"the edge '{prefix}{source}' -> '{prefix}{target}' names '{name}', which is "
                    "no node of the graph"
                )
        edges.append((ends[source][1], ends[target][0]))


def _only(graph: Any, path: str, kind: str) -> str:
    found = [name for name, node in graph.nodes.items() if type(node).__name__ == kind]
    if len(found) != 1:
        raise InputError(f"'{path}' has {len(found)} nodes of type {kind}; expected one")
    return f"{path}.{found[0]}"
