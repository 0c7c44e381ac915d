"""A network of other people: how it is shown images, run from rest, and read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn

from robust_snn.foreign.checkpointed_parts import without_checkpointing
from robust_snn.foreign.hidden_state import Key, find_state
from robust_snn.foreign.library import Library, find_nodes, find_states, takes_all_steps
from robust_snn.foreign.net_state import at_rest, loses_gradient_in_eval, twins_in_place
from robust_snn.foreign.network_modes import inside_network
from robust_snn.foreign.outputs import Reading, check_readout, reduce
from robust_snn.foreign.preprocess import Preprocessed
from robust_snn.foreign.runnable import Layout, Study
from robust_snn.foreign.scripted_code import scripted_functions_as_written
from robust_snn.foreign.survey import tensors_of
from robust_snn.foreign.twin import TwinNeuron
from robust_snn.kernels import sample_keys
from robust_snn.neurons import LatencyEncoder, PhaseEncoder, PoissonEncoder
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.neurons.pass_settings import keyed
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import time_steps

ENCODERS: dict[str, type[nn.Module]] = {
    "latency": LatencyEncoder,
    "phase": PhaseEncoder,
    "poisson": PoissonEncoder,
}
_log = logging.getLogger("robust_snn")


class ShownNet(NoisyModule):
    """A network with everything that its caller says about how it is to be run.

    Args:
        net: The net.
        T: Time steps that images are presented for. None for a net whose `forward` takes images
            and returns logits by itself.
        encoder: Turns images into steps: None presents them as they are, `"poisson"`, `"latency"`
            and `"phase"` code them, a function is called once per step.
        readout: What becomes of the outputs of all steps: `"mean"`, `"sum"`, `"max"` or `"last"`;
            after the word `membrane`, as in `"membrane mean"`, of the second of several outputs.
        random: Whether the net draws random numbers. They then come from the victim's seed, as one
            draw for a whole batch.
        output: Gives logits `[B, K]`, or steps of them `[T, B, K]`, from what the net returns; of
            every step, if it is called once per step.

    Raises:
        InputError: If a name is not known or a number is out of range.
    """

    described_by = ("net", "T", "encoder", "readout", "random", "output")  # for `identity`
    draws_once_a_call = False  # its seed is the same whenever it runs the net in a pass

    def __init__(
        self,
        net: nn.Module,
        T: int | None = None,
        encoder: str | Callable[[Tensor], Tensor] | None = None,
        readout: str = "mean",
        random: bool = False,
        output: Callable[[Any], Tensor] | None = None,
    ) -> None:
        super().__init__()
        check_readout(readout)
        if isinstance(encoder, str) and encoder not in ENCODERS:
            raise unknown("encoder", encoder, ENCODERS)
        if T is None and encoder is not None:
            raise InputError("an encoder needs the number of steps; give adapt(net, T=...) too")
        T = None if T is None else time_steps(T)
        nodes = find_nodes(net)
        self.net = net
        self.T = T
        self.encoder: Any = ENCODERS[encoder]() if isinstance(encoder, str) else encoder
        self.readout = readout
        self.random = random
        self.output = output
        self.sequences = takes_all_steps(net)
        self.paths = tuple(nodes)
        self.twins = nn.ModuleList(
            TwinNeuron(node, owner, folded=T is not None and not self.sequences)
            for node, owner in nodes.values()
        )
        self.rest: dict[Key, Any] = {}
        self.in_pairs = False  # whether it takes no single image, as behind `squeeze()`
        for module, owner in find_states(net):
            owner.reset(module)
        self.train(net.training)
        lost = {path: loses_gradient_in_eval(*found) for path, found in nodes.items()}
        self.without_eval_gradient = tuple(path for path, loses in lost.items() if loses)
        for kept, what in (
            (True, "lose their gradient in eval(); repaired while the victim runs"),
            (None, "cannot be tried alone, so they may have no gradient in eval()"),
        ):
            if count := sum(loses is kept for loses in lost.values()):
                _log.warning("%d neurons of %s %s", count, type(net).__name__, what)

    @property
    def stochastic(self) -> bool:
        return self.random or isinstance(self.encoder, NoisyModule)

    @property
    def draws_by_batch(self) -> bool:
        return self.random

    @property
    def name(self) -> str:
        """Class of the network that was brought."""
        return type(self.net.net if isinstance(self.net, Preprocessed) else self.net).__name__

    @property
    def wants_membrane(self) -> bool:
        return self.readout.startswith("membrane ")

    @property
    def members(self) -> list[TwinNeuron]:
        """The twins, in the order of `paths`."""
        return cast(list[TwinNeuron], list(self.twins))

    def nodes(self) -> list[tuple[nn.Module, Library]]:
        """The neurons of known libraries."""
        return [(twin.node, twin.owner) for twin in self.members]

    def raw(self, x: Tensor, layout: Layout) -> Any:
        """What the net returns for images, from rest; for single steps, the list of its returns."""
        with self.at_rest(x):
            if layout is Layout.IMAGES or (layout is Layout.BATCH_FIRST and x.dim() == 5):
                shown = self._enough(x, 0)
                return self._told(self._run(shown.clone()))  # some networks change their input
            frames = self._enough(self._frames(x), 1)
            if layout is Layout.STEPS:
                return [self._step(self._run(frame.clone())) for frame in frames.unbind(0)]
            if layout is Layout.BATCH_FIRST:
                return self._told(self._run(frames.transpose(0, 1)))
            last = layout is Layout.TIME_LAST
            return self._told(self._run(frames.movedim(0, -1) if last else frames))

    def _enough(self, shown: Tensor, batch: int) -> Tensor:
        """Images as often as the net needs them: twice, where it takes no single one."""
        single = self.in_pairs and shown.shape[batch] == 1
        return torch.cat([shown, shown], batch) if single else shown

    def _run(self, shown: Tensor) -> Any:
        # compiled code shows nothing of what fires; a function, or a part, may be compiled alone
        eagerly = torch.compiler.set_stance("force_eager")
        as_written = scripted_functions_as_written()
        with eagerly, as_written, without_checkpointing(), inside_network():
            return self.net(shown)

    def _told(self, out: Any) -> Any:
        """What the caller's function makes of an output; the output itself where there is none."""
        return out if self.output is None else self.output(out)

    def _step(self, out: Any) -> Any:
        """The part of the output of a single step that is read."""
        out = self._told(out)
        return out[int(self.wants_membrane)] if isinstance(out, tuple) else out

    def find_state(self, x: Tensor, layout: Layout) -> bool:
        """Finds what the net keeps between calls, and says whether there is something.

        Raises:
            InputError: If it is not at rest and cannot be brought there.
        """
        known = frozenset(module for module, _ in find_states(self.net))

        def run(images: Tensor) -> list[Tensor]:
            keys = sample_keys(0, torch.arange(len(images), device=images.device))
            with keyed(keys):  # so that a random network answers alike
                return tensors_of(self.raw(images, layout))

        found = find_state(self.net, run, (x, 1 - x), known)
        self.rest |= {key: value for key, value in found.items() if key not in self.rest}
        paths = {path for path, _ in self.rest}
        return any(module not in known for p, module in self.net.named_modules() if p in paths)

    def at_rest(self, x: Tensor) -> AbstractContextManager[None]:
        """The net at rest, with gradients, and with the random numbers of the victim's keys."""
        seed = int(self.draw(len(x), x.device)[0][0]) if self.random else None
        broken = [self.net.get_submodule(path) for path in self.without_eval_gradient]
        return at_rest(self.net, self._states(), broken, self.rest, seed, x.device)

    def _states(self) -> list[tuple[nn.Module, Library]]:
        """The modules of the net that keep something between calls."""
        return find_states(self.net)

    def with_own_neurons(self, x: Tensor, found: Study) -> Tensor:
        """The net as its author runs it."""
        return self._logits(self.raw(x, found.layout), found.reading, len(x))

    def with_twins(self, x: Tensor, reading: Reading) -> Tensor:
        """The net with twins in the place of its neurons, from rest, all steps at once."""
        with self.at_rest(x), twins_in_place(self, self.members):
            if self.T is None:
                return self._logits(self._told(self.net(self._enough(x, 0))), reading, len(x))
            frames = self._enough(self._frames(x), 1)
            if self.sequences:
                return self._logits(self._told(self.net(frames)), reading, len(x))
            for twin in self.members:
                twin.steps = len(frames)
            out: Tensor = self._step(self.net(frames.flatten(0, 1)))
            return reduce(out.unflatten(0, (len(frames), -1)), self.readout)[: len(x)]

    def _frames(self, x: Tensor) -> Tensor:
        """What the net is shown, `[T, B, ...]`."""
        assert self.T is not None or x.dim() == 5
        if x.dim() == 5:
            return x.transpose(0, 1)
        if self.encoder is None:
            return x.expand(cast(int, self.T), *x.shape)
        ours = isinstance(self.encoder, tuple(ENCODERS.values()))
        if ours:
            return cast(Tensor, self.encoder(x[None], steps=self.T))
        return torch.stack([self.encoder(x) for _ in range(cast(int, self.T))])

    def _logits(self, out: Any, reading: Reading, images: int) -> Tensor:
        steps = reading.steps(out)
        logits = reduce(steps, self.readout) if steps.dim() == 3 else steps
        return logits[:images] if self.in_pairs else logits
