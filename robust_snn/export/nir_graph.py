"""Our networks as NIR graphs, which other libraries and neuromorphic chips read."""

from __future__ import annotations

from os import PathLike
from typing import Any

from torch import nn

from robust_snn.export.nir_nodes import GraphWriter
from robust_snn.foreign.nir.nir_file import NOTE, nir_package
from robust_snn.models.backbone import SpikingBackbone
from robust_snn.models.encodings import DirectEncoding
from robust_snn.models.readout import SpikingMLP
from robust_snn.utils.errors import InputError
from robust_snn.utils.version import __version__
from robust_snn.victim import Victim

DT = 1e-4  # the time step of most libraries that read NIR, in seconds


def nir(
    net: nn.Module,
    path: str | PathLike[str] | None = None,
    img_size: tuple[int, int] | None = None,
) -> Any:
    """Writes a network of ours as a graph of NIR, and as a file.

    Batch norms are folded into the convolutions before them. Neurons get the constants with which
    forward Euler of `DT` steps computes what ours do. The graph has the logits of every step; their
    mean over `T` steps, which the file notes, is the network's answer, and
    `robust_snn.adapt(path)` reads it so.

    Args:
        net: A backbone with LIF neurons, direct encoding and mean readout, or its victim.
        path: Where to write the file, `*.nir`; nowhere if left out.
        img_size: Height and width of the images, for networks that take any.

    Returns:
        The graph, a `nir.NIRGraph`.

    Raises:
        InputError: If NIR has no node for a part of the network; names the part.
        ImportError: If the `nir` package is not installed.
    """
    package = nir_package()
    net = net.net if isinstance(net, Victim) else net
    if not isinstance(net, SpikingBackbone):
        raise InputError(f"expected a network of robust_snn.models, got {type(net).__name__}")
    if net.training:
        raise InputError("a batch norm in train mode has no place in NIR: call net.eval() first")
    if type(net.encoder) is not DirectEncoding:
        raise InputError(
            f"{type(net.encoder).__name__}: NIR has no node that draws spikes; name the encoder "
            "where the graph is read"
        )
    if net.early_exit is not None:
        raise InputError("NIR has no node that stops a network: build it without early_exit")
    writer = GraphWriter(package, DT)
    wire = writer.input((net.encoder.in_chans, *(img_size or _img_size(net))))
    wire = writer.scaled("encoder", wire, 1 / net.encoder.std, -net.encoder.mean / net.encoder.std)
    for name in ("stages", "norm", "pre_logits", "fc"):
        wire = writer.write(name, getattr(net, name), wire)
    writer.output(wire)
    note = {"version": __version__, "T": net.encoder.steps, "scheme": "euler", "dt": DT}
    graph = package.NIRGraph(writer.nodes, writer.edges, metadata={NOTE: note})
    if path is not None:
        package.write(path, graph)
    return graph


def _img_size(net: SpikingBackbone) -> tuple[int, int]:
    """Height and width of the images that a backbone is built for, or those of its data set."""
    head = net.pre_logits
    if isinstance(head, SpikingMLP) and head.grid != (1, 1):  # to which it pools any size
        reduction = net.feature_info[-1]["reduction"]
        return head.grid[0] * reduction, head.grid[1] * reduction
    config: Any = net.pretrained_cfg
    height, width = config["input_size"][1:]
    return height, width
