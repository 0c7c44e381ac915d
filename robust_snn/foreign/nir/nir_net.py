"""A NIR graph as a network from images to logits."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from robust_snn.foreign.nir.nir_build import Plan, plan
from robust_snn.foreign.nir.nir_file import NOTE, read_graph
from robust_snn.foreign.nir.nir_neurons import Integrator, SteppedNeuron
from robust_snn.foreign.nir.nir_scheme import SCHEMES, Scheme, parse_scheme
from robust_snn.foreign.nir.nir_steps import Part, missing_rule, run_steps
from robust_snn.foreign.outputs import REDUCTIONS
from robust_snn.foreign.shown_net import ENCODERS
from robust_snn.gradients import MODES, GradientMode, Own, Reach
from robust_snn.kernels import Dynamics
from robust_snn.neurons import LIF, over_time
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import time_steps

Encoder = str | Callable[[Tensor], Tensor] | None
_log = logging.getLogger("robust_snn")


def load_nir(
    source: str | PathLike[str] | Any,
    *,
    T: int | None = None,
    scheme: str | Scheme | None = None,
    dt: float | None = None,
    readout: str = "mean",
    encoder: Encoder = None,
    random: bool = False,
    **others: Any,
) -> NIRNet:
    """Builds the network of a NIR file, or of a graph of the `nir` package.

    A file of `robust_snn.export.nir` knows its steps and scheme; others need them. A line on
    standard error says how the graph is read and which gradient modes reach it.

    Args:
        source: A file, or the graph.
        T: Time steps that static images are presented for; event frames bring their own.
        scheme: What the library that wrote the file computes, a row of `nir_scheme.SCHEMES`. With
            `dt` alone it is `"euler"`, the equations of NIR.
        dt: Time step, in the unit of the file's time constants; that of the scheme if left out.
        readout: What becomes of the outputs of all steps: `"mean"`, `"sum"`, `"max"` or `"last"`.
        encoder: `"poisson"`, `"latency"`, `"phase"` or a function called once per step; None
            presents images as they are.
        random: Not for these networks, whose random numbers are the encoder's.
        **others: Refused by name.

    Raises:
        InputError: If an argument is missing or not known, or the graph is not supported.
        ImportError: If the `nir` package is not installed.
    """
    if others or random:
        name = next(iter(others), "random")
        raise unknown("argument for a NIR file", name, ("T", "scheme", "dt", "readout", "encoder"))
    title = Path(source).name if isinstance(source, str | PathLike) else "this NIR graph"
    graph = read_graph(source)
    noted = graph.metadata.get(NOTE)
    noted = noted if isinstance(noted, Mapping) else {}
    rule, dt = _rule_of(title, noted, scheme, dt)
    if T is None and "T" in noted:
        T = int(noted["T"])
    if T is not None and T < 1:
        raise InputError(f"T must be at least 1, got {T}")
    if readout not in REDUCTIONS:
        raise unknown("readout", readout, REDUCTIONS)
    if isinstance(encoder, str) and encoder not in ENCODERS:
        raise unknown("encoder", encoder, ENCODERS)
    net = NIRNet(plan(graph, rule, dt), T, readout, encoder).eval()
    line = f"{title}: scheme {rule}, dt {dt:g}, T {T}, readout {readout}; {net.summary()}"
    sys.stderr.write(f"robust_snn: {line}\n")
    return net


def _rule_of(
    title: str, noted: Mapping[str, Any], scheme: str | Scheme | None, dt: float | None
) -> tuple[Scheme, float]:
    """What is computed in a time step, and how long that is: as asked, or as the file notes.

    Args:
        title: What messages call the file.
        noted: What `robust_snn.export.nir` has noted in it.
        scheme: That of `load_nir`.
        dt: That of `load_nir`.
    """
    if scheme is None and dt is None:
        if "scheme" not in noted:
            raise InputError(
                f"{title} does not say what its writer computes in a time step: name the scheme of "
                f"that library, scheme='...' ({', '.join(SCHEMES)}), or give dt=... for the "
                "equations of NIR as they stand"
            )
        scheme, dt = str(noted["scheme"]), float(noted["dt"])
    elif scheme is None:
        _log.warning(
            "%s is read as the equations of NIR stand (forward Euler, hard reset, spikes above the "
            "threshold); if snnTorch, SpikingJelly, norse or sinabs wrote it, name its scheme",
            title,
        )
    rule = parse_scheme(scheme or "euler")
    dt = rule.step if dt is None else dt
    if dt is None or not 0 < dt < np.inf:
        raise InputError(f"scheme {rule} needs a positive time step dt, got {dt}")
    if "scheme" in noted and (str(rule), dt) != (str(noted["scheme"]), float(noted["dt"])):
        _log.warning(
            "%s is read as scheme %s, dt %g, and notes that it was written for scheme %s, dt %g",
            *(title, rule, dt, noted["scheme"], float(noted["dt"])),
        )
    return rule, dt


class NIRNet(nn.Module):
    """A NIR graph as a network from images to logits.

    Equal neurons of our family that no loop returns to are our `LIF` on the fused kernels, where
    every gradient mode reaches them. Everything else runs step by step in PyTorch.

    Args:
        plan: The graph.
        T: Time steps that static images are presented for; event frames bring their own.
        readout: What becomes of the outputs of all steps: a row of `outputs.REDUCTIONS`.
        encoder: See `load_nir`.
    """

    def __init__(
        self, plan: Plan, T: int | None = None, readout: str = "mean", encoder: Encoder = None
    ) -> None:
        super().__init__()
        self.T = None if T is None else time_steps(T)
        self.readout = readout
        self.encoder: Any = ENCODERS[encoder]() if isinstance(encoder, str) else encoder
        self.layers = nn.ModuleList(plan.modules.values())  # names of nodes may hold anything
        self._plan = plan._replace(modules={})
        self.names = tuple(plan.modules)

    @property
    def modules_by_name(self) -> dict[str, nn.Module]:
        """The module of each node."""
        return dict(zip(self.names, self.layers, strict=True))

    @property
    def img_size(self) -> int | None:
        """Side of the square images that it takes, where its shape tells."""
        shape = self._plan.shapes[self._plan.input]
        pixels = shape[0] if len(shape) == 1 else int(np.prod(shape[1:]))
        side = math.isqrt(pixels)
        return side if len(shape) in (1, 3) and side**2 == pixels else None

    def takes(self, mode: GradientMode) -> Reach:
        """Which neurons the mode reaches; see `Victim.takes`."""
        if isinstance(mode, Own):
            return Reach(refusal="a NIR file holds no gradient of its own; choose another mode")
        loops = {name for group in self._plan.order if group.loop for name in group.nodes}
        rule = mode.rule(Dynamics())
        for name, module in self.modules_by_name.items():
            if isinstance(module, SteppedNeuron):
                reason = missing_rule(rule, module, name in loops)
                if reason is not None:
                    return Reach(
                        refusal=f"{mode.name} has no gradient for NIR node '{name}': {reason}; "
                        "choose bptt, ste, pdsg or assg"
                    )
        return Reach(tuple(self._firing()))

    def _firing(self) -> dict[str, nn.Module]:
        found = self.modules_by_name.items()
        return {name: m for name, m in found if isinstance(m, LIF | SteppedNeuron)}

    def summary(self) -> str:
        """One line: what there is, how it runs, and which gradient modes reach it."""
        found = self._firing()
        if not found:
            return "no spiking neuron, so gradient modes reach nothing"
        fused = sum(isinstance(module, LIF) for module in found.values())
        reach = {name: self.takes(mode()) for name, mode in MODES.items()}
        refused = [str(answer.refusal) for answer in reach.values() if answer.refusal]
        text = (
            f"{len(found)} layers of spiking neurons, {fused} of them on the fused kernels; modes "
            f"{', '.join(name for name, answer in reach.items() if answer.neurons)}"
        )
        return f"{text}; {refused[0]}" if refused else text

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `[B, C, H, W]` or event frames `[B, T, C, H, W]` to logits `[B, K]`."""
        x = self._presented(x)
        steps = self.T if len(x) == 1 and self.T is not None else len(x)
        values: dict[str, Tensor] = {}
        modules = self.modules_by_name
        for group in self._plan.order:
            sums = {name: self._sum(name, values, group.nodes) for name in group.nodes}
            inputs = {name: total for name, total in sums.items() if total is not None}
            if self._plan.input in group.nodes:
                inputs[self._plan.input] = x
            name = group.nodes[0]
            module = modules[name]
            if group.loop or isinstance(module, SteppedNeuron):
                inside = [edge for edge in self._plan.edges if set(edge) <= set(group.nodes)]
                chosen = {node: modules[node] for node in group.nodes}
                part = Part(group, chosen, self._plan.shapes, inside)
                values |= run_steps(part, inputs, steps)
            elif isinstance(module, LIF | Integrator):
                values[name] = module(inputs[name], steps)
            else:
                values[name] = over_time(module, inputs[name])
        out = values[self._plan.output].flatten(2)
        return REDUCTIONS[self.readout](out.expand(steps, *out.shape[1:]))

    def _sum(self, name: str, values: dict[str, Tensor], inside: list[str]) -> Tensor | None:
        """What comes to a node from outside its group."""
        terms = [values[a] for a, b in self._plan.edges if b == name and a not in inside]
        return sum(terms[1:], terms[0]) if terms else None

    def _presented(self, x: Tensor) -> Tensor:
        """Samples of the graph's shape, `[T, B, ...]`, or `[1, B, ...]` if constant."""
        shape = self._plan.shapes[self._plan.input]
        frames = x.transpose(0, 1) if x.dim() == 5 else x.unsqueeze(0)
        if frames[0, 0].numel() != int(np.prod(shape)):
            raise InputError(
                f"this NIR graph takes samples of shape {list(shape)}, got "
                f"{list(frames.shape[2:])}; adapt(..., resize=..., channels=...) fits images to it"
            )
        if x.dim() == 5 and self.T not in (None, x.shape[1]):
            raise InputError(
                f"T={self.T}, but the event frames have {x.shape[1]} steps: leave T out of adapt"
            )
        if x.dim() == 4 and self.T is None:
            raise InputError(
                "static images need a number of time steps: adapt(FILE, T=...), or on the command "
                "line --model-kwargs T=..."
            )
        if self.encoder is not None and x.dim() == 4:
            frames = self.encoder(frames, self.T)
        return frames.reshape(*frames.shape[:2], *shape)

    def extra_repr(self) -> str:
        return f"T={self.T}, readout={self.readout}, edges={self._plan.edges}"
