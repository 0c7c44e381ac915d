"""The parts of our networks as nodes of NIR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from timm.layers import to_2tuple
from torch import Tensor, nn

from robust_snn.models.readout import LinearSpike, MeanPool, Readout, SpikingMLP
from robust_snn.models.snn_resnet import BasicBlock, ConvNorm
from robust_snn.models.snn_sew import SEWBlock
from robust_snn.models.snn_wrn import PreActivationBlock
from robust_snn.models.time_layers import ConvSpike, SimplexSum, TimeAvgPool2d, TimeConv2d
from robust_snn.neurons import LIF, NormSpike, TimeBatchNorm2d
from robust_snn.utils.errors import InputError


class Wire(NamedTuple):
    """Values on their way: the sum of what some nodes give.

    Attributes:
        sources: Names of the nodes.
        shape: Shape of one sample.
    """

    sources: tuple[str, ...]
    shape: tuple[int, ...]

    def plus(self, other: Wire) -> Wire:
        """The sum of two values."""
        return Wire(self.sources + other.sources, self.shape)


class GraphWriter:
    """Collects nodes and edges.

    Args:
        nir: The `nir` package.
        dt: Time step for which neurons get their constants.
    """

    def __init__(self, nir: Any, dt: float) -> None:
        self.nir = nir
        self.dt = dt
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def add(self, name: str, node: Any, wire: Wire, shape: tuple[int, ...] | None = None) -> Wire:
        """Adds a node that reads a wire; `shape` is that of what it gives, if it changes."""
        self.nodes[name] = node
        self.edges += [(source, name) for source in wire.sources]
        return Wire((name,), wire.shape if shape is None else shape)

    def input(self, shape: tuple[int, ...]) -> Wire:
        return self.add("input", self.nir.Input(np.array(shape)), Wire((), shape))

    def output(self, wire: Wire) -> None:
        self.add("output", self.nir.Output(np.array(wire.shape)), wire)

    def write(self, path: str, module: nn.Module, wire: Wire) -> Wire:
        """Adds a module, named by its path.

        Raises:
            InputError: If NIR has no node for it.
        """
        if type(module) not in WRITERS:
            raise InputError(f"'{path}' is a {type(module).__name__}, which NIR cannot express")
        return WRITERS[type(module)](self, path, module, wire)

    def scaled(self, path: str, wire: Wire, scale: Tensor, shift: Tensor) -> Wire:
        """Adds a factor and a shift per channel, as a convolution of single pixels.

        It has no groups, because the types of NIR do not know them.
        """
        if (scale == 1).all() and (shift == 0).all():
            return wire
        weight = np.diag(_array(scale).reshape(-1))[:, :, None, None]
        node = self.nir.Conv2d(wire.shape[1:], weight, 1, 0, 1, 1, _array(shift).reshape(-1))
        return self.add(path, node, wire)

    def convolution(
        self, path: str, conv: TimeConv2d, wire: Wire, norm: TimeBatchNorm2d | None = None
    ) -> Wire:
        """Adds a convolution, with the batch norm behind it folded into its weights."""
        if conv.padding_mode != "zeros":
            raise InputError(f"'{path}' pads with {conv.padding_mode}; NIR pads with zeros")
        weight = _array(conv.weight)
        bias = np.zeros(len(weight)) if conv.bias is None else _array(conv.bias)
        if norm is not None:
            scale, shift = map(_array, norm.affine_map())
            weight, bias = weight * scale.reshape(-1, 1, 1, 1), bias * scale + shift
        padding = conv.padding if isinstance(conv.padding, str) else tuple(conv.padding)
        steps = (tuple(conv.stride), padding, tuple(conv.dilation))
        node = self.nir.Conv2d(wire.shape[1:], weight, *steps, conv.groups, bias)
        shape = tuple(int(n) for n in node.output_type["output"])
        return self.add(path, node, wire, shape)

    def average(self, path: str, wire: Wire, kernel: tuple[int, int]) -> Wire:
        """Adds a mean over patches that do not overlap."""
        if kernel == (1, 1):
            return wire
        node = self.nir.AvgPool2d(np.array(kernel), np.array(kernel), np.zeros(2, int))
        channels, height, width = wire.shape
        return self.add(path, node, wire, (channels, height // kernel[0], width // kernel[1]))

    def flat(self, path: str, wire: Wire) -> Wire:
        node = self.nir.Flatten({"input": np.array(wire.shape)}, 0, -1)
        return self.add(path, node, wire, (int(np.prod(wire.shape)),))


def _lif(writer: GraphWriter, path: str, neuron: LIF, wire: Wire) -> Wire:
    d = neuron.dynamics
    if neuron.gate is not None:
        raise InputError(f"'{path}' has a stochastic gate, which NIR cannot express")
    if d.reset != "hard":
        raise InputError(f"'{path}' has a soft reset; neurons of NIR are reset to a value")
    # NIR fires above the threshold, our neurons at it already
    threshold = np.nextafter(np.float32(d.threshold), np.float32(-np.inf))
    firing = {"v_threshold": threshold, "v_reset": d.v_reset}
    if d.decay == 1:
        kind, fields = writer.nir.IF, {"r": d.gain / writer.dt, **firing}
    else:
        leak = 1 - d.decay
        constants = {"tau": writer.dt / leak, "r": d.gain / leak, "v_leak": 0.0}
        kind, fields = writer.nir.LIF, {**constants, **firing}
    return writer.add(path, kind(**{k: np.full(wire.shape, v) for k, v in fields.items()}), wire)


def _linear(writer: GraphWriter, path: str, linear: nn.Linear, wire: Wire) -> Wire:
    weight = _array(linear.weight)
    if linear.bias is None:
        node = writer.nir.Linear(weight)
    else:
        node = writer.nir.Affine(weight, _array(linear.bias))
    return writer.add(path, node, wire, (len(weight),))


def _sequential(writer: GraphWriter, path: str, modules: nn.Sequential, wire: Wire) -> Wire:
    if [type(module) for module in modules] == [TimeConv2d, TimeBatchNorm2d]:
        conv, norm = cast(tuple[TimeConv2d, TimeBatchNorm2d], tuple(modules))
        return writer.convolution(path, conv, wire, norm)
    for name, module in modules.named_children():
        wire = writer.write(f"{path}.{name}", module, wire)
    return wire


def _norm(writer: GraphWriter, path: str, norm: TimeBatchNorm2d, wire: Wire) -> Wire:
    return writer.scaled(path, wire, *norm.affine_map())


def _norm_spike(writer: GraphWriter, path: str, act: NormSpike, wire: Wire) -> Wire:
    wire = writer.write(f"{path}.norm", act.norm, wire)
    return writer.write(f"{path}.neuron", act.neuron, wire)


def _conv_spike(writer: GraphWriter, path: str, layer: ConvSpike, wire: Wire) -> Wire:
    wire = writer.convolution(f"{path}.conv", layer.conv, wire, layer.act.norm)
    return writer.write(f"{path}.act.neuron", layer.act.neuron, wire)


def _pool(writer: GraphWriter, path: str, pool: TimeAvgPool2d, wire: Wire) -> Wire:
    return writer.average(path, wire, to_2tuple(pool.kernel_size))


def _basic_block(writer: GraphWriter, path: str, block: BasicBlock, wire: Wire) -> Wire:
    branch = writer.write(f"{path}.conv1", block.conv1, wire)
    branch = writer.write(f"{path}.conv2", block.conv2, branch)
    shortcut = writer.write(f"{path}.shortcut", block.shortcut, wire)
    return writer.write(f"{path}.neuron", block.neuron, branch.plus(shortcut))


def _pre_activation(writer: GraphWriter, path: str, block: PreActivationBlock, wire: Wire) -> Wire:
    spikes = writer.write(f"{path}.act1", block.act1, wire)
    branch = writer.write(f"{path}.conv1", block.conv1, spikes)
    branch = writer.write(f"{path}.act2", block.act2, branch)
    branch = writer.write(f"{path}.conv2", block.conv2, branch)
    shortcut = wire
    if block.shortcut is not None:
        shortcut = writer.write(f"{path}.shortcut", block.shortcut, spikes)
    return _weighted(writer, f"{path}.sum", block.sum, shortcut, branch)


def _weighted(writer: GraphWriter, path: str, total: SimplexSum, first: Wire, second: Wire) -> Wire:
    wires = []
    for index, (weight, wire) in enumerate(zip(_array(total.weight), (first, second), strict=True)):
        node = writer.nir.Scale(np.full(wire.shape, weight))
        wires.append(writer.add(f"{path}.{index}", node, wire))
    return wires[0].plus(wires[1])


def _sew_block(writer: GraphWriter, path: str, block: SEWBlock, wire: Wire) -> Wire:
    if block.connection != "add":
        raise InputError(f"'{path}' joins spikes by {block.connection}; NIR adds only")
    branch = writer.write(f"{path}.conv1", block.conv1, wire)
    branch = writer.write(f"{path}.conv2", block.conv2, branch)
    if block.shortcut is None:
        return branch.plus(wire)
    return branch.plus(writer.write(f"{path}.shortcut", block.shortcut, wire))


def _spiking_mlp(writer: GraphWriter, path: str, head: SpikingMLP, wire: Wire) -> Wire:
    height, width = (
        size // wanted if size % wanted == 0 else 0
        for size, wanted in zip(wire.shape[1:], head.grid, strict=True)
    )
    if not height or not width:
        raise InputError(f"'{path}.pool' from {wire.shape[1:]} to {head.grid} has uneven patches")
    wire = writer.flat(f"{path}.flat", writer.average(f"{path}.pool", wire, (height, width)))
    for index, layer in enumerate(head.layers):
        wire = writer.write(f"{path}.layers.{index}", layer, wire)
    return writer.write(f"{path}.readout", head.readout, wire)


def _linear_spike(writer: GraphWriter, path: str, layer: LinearSpike, wire: Wire) -> Wire:
    return writer.write(f"{path}.neuron", layer.neuron, writer.write(f"{path}.fc", layer.fc, wire))


def _mean_pool(writer: GraphWriter, path: str, head: MeanPool, wire: Wire) -> Wire:
    height, width = wire.shape[1:]
    pooled = writer.average(f"{path}.pool", wire, (height, width))
    return writer.write(f"{path}.readout", head.readout, writer.flat(f"{path}.flat", pooled))


def _readout(writer: GraphWriter, path: str, readout: Readout, wire: Wire) -> Wire:
    """Nothing: the mean over time of the linear logits is taken where the graph is read."""
    if readout.decay != 1:
        raise InputError(f"'{path}' reads a membrane with weights over time; use readout='mean'")
    return wire


def _array(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()


WRITERS: dict[type[nn.Module], Callable[[GraphWriter, str, Any, Wire], Wire]] = {
    BasicBlock: _basic_block,
    ConvNorm: _sequential,
    ConvSpike: _conv_spike,
    LIF: _lif,
    LinearSpike: _linear_spike,
    MeanPool: _mean_pool,
    NormSpike: _norm_spike,
    PreActivationBlock: _pre_activation,
    Readout: _readout,
    SEWBlock: _sew_block,
    SpikingMLP: _spiking_mlp,
    TimeAvgPool2d: _pool,
    TimeBatchNorm2d: _norm,
    TimeConv2d: GraphWriter.convolution,
    nn.Identity: lambda writer, path, module, wire: wire,
    nn.Linear: _linear,
    nn.Sequential: _sequential,
}
