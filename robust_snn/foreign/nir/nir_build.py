"""From the nodes of a NIR graph to modules, the shapes of what they give, and their order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from torch import nn

from robust_snn.foreign.nir.nir_file import Graph, Node
from robust_snn.foreign.nir.nir_layers import MAX_NEURONS, Shape, layer, out_shape
from robust_snn.foreign.nir.nir_neurons import Integrator, SteppedNeuron, fused
from robust_snn.foreign.nir.nir_order import Group, groups
from robust_snn.foreign.nir.nir_scheme import Membrane, Scheme
from robust_snn.utils.errors import InputError

SYNAPSE = "synapse"  # a kind of our own: the current of a current-based neuron
STATEFUL = ("CubaLI", "CubaLIF", "I", "IF", "LI", "LIF", SYNAPSE, "Threshold")


class Plan(NamedTuple):
    """A graph that can run.

    Attributes:
        modules: By name of the node.
        shapes: Shape of one sample of what each node gives.
        edges: Pairs of names.
        order: The groups, each after those that it reads.
        input: Name of the node that the images go to.
        output: Name of the node whose values are read out.
    """

    modules: dict[str, nn.Module]
    shapes: dict[str, Shape]
    edges: list[tuple[str, str]]
    order: list[Group]
    input: str
    output: str


def plan(graph: Graph, scheme: Scheme, dt: float) -> Plan:
    """Builds the modules of a graph.

    Raises:
        InputError: If a node is not supported, or nodes do not suit each other; names the node.
    """
    start, end = _only(graph, "Input"), _only(graph, "Output")
    graph = _with_synapses(graph)
    order = groups(graph.nodes, graph.edges, lambda name: graph.nodes[name].kind in STATEFUL)
    loops = {name for group in order if group.loop for name in group.nodes}
    layers: dict[str, nn.Module] = {}
    membranes: dict[str, Membrane] = {}
    for name, node in graph.nodes.items():
        with _naming(name, node):
            if node.kind in STATEFUL:
                membranes[name] = _membrane(node, scheme, dt, name in loops)
            else:
                layers[name] = layer(node)
    shapes = _shapes(graph, layers, membranes, start)
    _check_output(end, graph.nodes[end], shapes[end])
    neurons = {name: _neuron(membrane, name in loops) for name, membrane in membranes.items()}
    modules = {name: {**layers, **neurons}[name] for name in graph.nodes}
    return Plan(modules, shapes, graph.edges, order, start, end)


@contextmanager
def _naming(name: str, node: Node) -> Iterator[None]:
    """Says which node an error is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"NIR node '{name}' ({node.kind}): {error}") from None


def _only(graph: Graph, kind: str) -> str:
    found = [name for name, node in graph.nodes.items() if node.kind == kind]
    if len(found) != 1:
        raise InputError(
            f"expected a NIR graph with one node of type {kind}, got {len(found)}: "
            f"{', '.join(found) or 'none'}"
        )
    return found[0]


def _with_synapses(graph: Graph) -> Graph:
    """The graph with the synapse of every current-based neuron as a node before it."""
    nodes: dict[str, Node] = {}
    front: dict[str, str] = {}
    for name, node in graph.nodes.items():
        if "tau_syn" in node.values:
            front[name] = f"{name} ({SYNAPSE})"
            nodes[front[name]] = Node(SYNAPSE, node.values)
        nodes[name] = node
    edges = [(source, front.get(target, target)) for source, target in graph.edges]
    return Graph(nodes, edges + [(synapse, name) for name, synapse in front.items()], {})


def _membrane(node: Node, scheme: Scheme, dt: float, loop: bool) -> Membrane:
    is_synapse = node.kind == SYNAPSE
    membrane = scheme.synapse(node, dt) if is_synapse else scheme.membrane(node, dt, loop)
    if not ((membrane.decay >= 0) & (membrane.decay <= 1)).all():
        raise InputError(
            f"its leak per step would be {membrane.decay.min():g}, outside [0, 1]: the time step "
            f"{dt:g} of scheme {scheme} does not suit its time constants"
        )
    if not np.isfinite(membrane.gain).all():
        raise InputError("its resistance and time constant leave the gain undefined")
    return membrane


def _neuron(membrane: Membrane, loop: bool) -> nn.Module:
    if membrane.threshold is None:
        return Integrator(membrane)
    return (None if loop else fused(membrane)) or SteppedNeuron(membrane)


def _shapes(
    graph: Graph,
    layers: Mapping[str, nn.Module],
    membranes: Mapping[str, Membrane],
    start: str,
) -> dict[str, Shape]:
    """The shape of one sample of what each node gives; a writer may have counted its batch in."""
    declared = tuple(int(n) for n in np.ravel(graph.nodes[start].values["input_type"]["input"]))
    if not declared or min(declared) < 1:
        raise InputError(f"NIR node '{start}' (Input) has the shape {list(declared)}")
    failures = []
    for shape in (declared, declared[1:]):
        try:
            return _propagate(graph, layers, membranes, {start: shape})
        except InputError as error:
            failures.append(error)
    raise failures[0]


def _check_output(name: str, node: Node, shape: Shape) -> None:
    """Refuses an output that says another number of values than it gets: the graph is cut, or two
    were mixed up. Writers leave it open, or count a batch in."""
    given = node.values["output_type"]["output"]
    declared = () if given is None else tuple(int(n) for n in np.ravel(given))
    if declared and math.prod(shape) not in (math.prod(declared), math.prod(declared[1:])):
        raise InputError(
            f"NIR node '{name}' (Output) says the shape {list(declared)}, and gets {list(shape)}"
        )


def _propagate(
    graph: Graph,
    layers: Mapping[str, nn.Module],
    membranes: Mapping[str, Membrane],
    shapes: dict[str, Shape],
) -> dict[str, Shape]:
    given = dict(shapes)  # what each node gets
    waiting = list(shapes)
    while waiting:
        source = waiting.pop(0)
        for target in (b for a, b in graph.edges if a == source):
            if target not in given:
                given[target] = shapes[source]
                with _naming(target, graph.nodes[target]):
                    shapes[target] = _after(target, layers, membranes, given[target])
                waiting.append(target)
            elif given[target] != shapes[source]:
                raise InputError(
                    f"NIR node '{target}' ({graph.nodes[target].kind}) gets shapes "
                    f"{list(given[target])} and {list(shapes[source])}"
                )
    for name, node in graph.nodes.items():
        if name not in shapes:
            raise InputError(f"NIR node '{name}' ({node.kind}) is not reached from the input")
    return shapes


def _after(
    name: str, layers: Mapping[str, nn.Module], membranes: Mapping[str, Membrane], shape: Shape
) -> Shape:
    if name in layers:
        return out_shape(layers[name], shape)
    numbers = [value.shape for value in membranes[name] if isinstance(value, np.ndarray)]
    try:
        fits = np.broadcast_shapes(*numbers, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError(f"its parameters {sorted(set(numbers))} do not fit {list(shape)} neurons")
    if int(np.prod(shape)) > MAX_NEURONS:
        raise InputError(f"it has {int(np.prod(shape))} neurons, more than {MAX_NEURONS}")
    return shape
