"""Spiking nets of other libraries as victims: SpikingJelly, snnTorch, or one that you register.

Scores always come from the user's own net, run as its library runs it. For attacks, neurons whose
dynamics can be read are replaced by ours for the length of a call: a net that takes single steps
then runs once with all steps as one batch, through the fused kernels and in any gradient mode.
Before an attack both are compared in double precision, spike by spike; where they differ, the net
keeps its own neurons, and `refusals` says why.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn

from robust_snn.foreign.library import (
    Unreadable,
    find_nodes,
    find_states,
    library_names,
    takes_all_steps,
)
from robust_snn.foreign.net_state import (
    at_rest,
    counting_calls,
    loses_gradient_in_eval,
    spikes_of,
    twins_in_place,
)
from robust_snn.foreign.spike_function import in_its_precision, swapping
from robust_snn.foreign.twin import TwinNeuron
from robust_snn.foreign.twin_check import Finding, find_differences, images_on_which
from robust_snn.gradients import GradientMode, Own, Reach
from robust_snn.kernels import Dynamics, Recursion
from robust_snn.neurons import LatencyEncoder, PhaseEncoder, PoissonEncoder
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.neurons.pass_settings import keyed, layer_gradient
from robust_snn.utils.errors import InputError, unknown

ENCODERS: dict[str, type[nn.Module]] = {
    "latency": LatencyEncoder,
    "phase": PhaseEncoder,
    "poisson": PoissonEncoder,
}
READOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda out: out.mean(0),
    "sum": lambda out: out.sum(0),
    "max": lambda out: out.amax(0),
    "last": lambda out: out[-1],
}
_log = logging.getLogger("robust_snn")


class ForeignSNN(NoisyModule):
    """A spiking net of another library as a plain function from images to logits.

    Args:
        net: The net, which keeps its neurons, its weights and its modes.
        T: Time steps that images are presented for. None for a net whose `forward` takes images
            and returns logits by itself.
        encoder: Turns images into steps: None presents them as they are, `"poisson"`, `"latency"`
            and `"phase"` code them, a function is called once per step.
        readout: What becomes of the outputs of all steps: `"mean"`, `"sum"`, `"max"` or `"last"`.
        random: Whether the net draws random numbers. They then come from the victim's seed, as one
            draw for a whole batch.

    Raises:
        InputError: If a name is not known, or the net has no neuron of a known library.
    """

    def __init__(
        self,
        net: nn.Module,
        T: int | None = None,
        encoder: str | Callable[[Tensor], Tensor] | None = None,
        readout: str = "mean",
        random: bool = False,
    ) -> None:
        super().__init__()
        nodes = find_nodes(net)
        if not nodes:
            raise InputError(
                f"found no spiking neuron of {', '.join(library_names())} in "
                f"{type(net).__name__}; see robust_snn.foreign.register"
            )
        if readout not in READOUTS:
            raise unknown("readout", readout, READOUTS)
        if isinstance(encoder, str) and encoder not in ENCODERS:
            raise unknown("encoder", encoder, ENCODERS)
        if T is None and encoder is not None:
            raise InputError("an encoder needs the number of steps; give adapt(net, T=...) too")
        if T is not None and T < 1:
            raise InputError(f"T must be at least 1, got {T}")
        self.net = net
        self.T = T
        self.encoder: Any = ENCODERS[encoder]() if isinstance(encoder, str) else encoder
        self.readout = readout
        self.random = random
        self.sequences = takes_all_steps(net)
        self.paths = tuple(nodes)
        self.twins = nn.ModuleList(
            TwinNeuron(node, owner, folded=T is not None and not self.sequences)
            for node, owner in nodes.values()
        )
        self.whole_refusal: str | None = None
        self.checked: set[torch.Size] = set()
        self.steps_counted = False
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
        return self.random

    @property
    def members(self) -> list[TwinNeuron]:
        """The twins, in the order of `paths`."""
        return cast(list[TwinNeuron], list(self.twins))

    @property
    def refusals(self) -> dict[str, str]:
        """Why neurons keep their own forward pass, by path; complete after the first attack."""
        reasons = {
            path: self.whole_refusal or twin.refusal
            for path, twin in zip(self.paths, self.members, strict=True)
        }
        return {path: reason for path, reason in reasons.items() if reason is not None}

    def takes(self, mode: GradientMode) -> Reach:
        """Which neurons the mode reaches; see `Victim.takes`."""
        if isinstance(mode, Own):
            return Reach(self.paths)
        try:
            self._refuse_fixed(mode)
            if self.whole_refusal is not None:
                self._recursion(mode)
        except InputError as error:
            return Reach(refusal=str(error))
        for path, twin in zip(self.paths, self.members, strict=True):
            if self.whole_refusal is None and (reason := twin.refuses(mode)) is not None:
                needed = f"{mode.name} needs our neuron in the place of {path}, and {reason}"
                return Reach(refusal=f"{needed}; choose bptt with a surrogate, or ste")
        return Reach(self.paths)

    def own_mode(self) -> GradientMode:
        """The gradient mode that the net has by itself."""
        found = set()
        for twin in self.members:
            try:
                found.add(twin.owner.own_mode(twin.node))
            except Unreadable as reason:
                _log.info("keeping the net's own gradient: %s", reason)
                return Own()
        return found.pop() if len(found) == 1 else Own()

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `[B, C, H, W]` or event frames `[B, T, C, H, W]` to logits `[B, K]`."""
        mode = layer_gradient(self.members[0]).mode
        if not isinstance(mode, Own):
            self._refuse_fixed(mode)
            self.check(x)
        with self._at_rest(x):
            if isinstance(mode, Own):
                logits = self._with_own_neurons(x)
            elif self.whole_refusal is None:
                logits = self._with_twins(x)
            else:
                logits = self._with_surrogates(x, mode)
        if torch.is_grad_enabled() and x.requires_grad and not logits.requires_grad:
            raise InputError(
                f"no gradient of {type(self.net).__name__} reaches the image; a random encoder "
                "needs encoder='poisson', a neuron without a surrogate another gradient mode"
            )
        return logits

    def _at_rest(self, x: Tensor) -> AbstractContextManager[None]:
        """The net at rest, with gradients, and with the random numbers of the victim's keys."""
        seed = int(self.draw(len(x), x.device)[0][0]) if self.random else None
        broken = [self.net.get_submodule(path) for path in self.without_eval_gradient]
        return at_rest(self.net, broken, seed, x.device)

    @torch.no_grad()
    def check(self, x: Tensor) -> None:
        """Compares the neurons with their twins on some of these images, in double precision.

        It does so once for every shape of images, and again when a neuron fires that was silent
        before. What was refused once stays refused.
        """
        fired = [twin.fired for twin in self.members if twin.fired is not None]
        if x.shape in self.checked and not fired:
            return
        rows = images_on_which(fired, len(x)).to(x.device)
        keys, mean = self.draw(len(x), x.device)
        with keyed(keys[rows], mean), torch.autocast(x.device.type, enabled=False):
            if not self.checked:
                self._refuse_random(x[rows])
            found = self._compare(x[rows])
        self.whole_refusal = self.whole_refusal or found.whole
        for twin, neuron in zip(self.members, found.neurons, strict=False):
            twin.learn(neuron)
        self.checked.add(x.shape)
        for path, reason in self.refusals.items():
            _log.info("%s keeps its own forward pass: %s", path or type(self.net).__name__, reason)

    def _refuse_random(self, probe: Tensor) -> None:
        """Refuses a net that answers the same images differently and is not said to be random."""
        runs = [self._from_rest(self._with_own_neurons, probe) for _ in range(2)]
        if not self.random and not torch.equal(*runs):
            raise InputError(
                f"{type(self.net).__name__} answers the same images differently; if it draws "
                "random numbers, say adapt(net, ..., random=True)"
            )

    def _compare(self, probe: Tensor) -> Finding:
        """What a copy in double precision shows of the twins."""
        if self.T is None and not self.sequences:
            return Finding("the net runs its steps itself; give T, and a net that takes one step")
        try:
            with self._at_rest(probe):
                double = copy.deepcopy(self).double()
        except Exception as error:  # whatever a net holds that cannot be copied or converted
            return Finding(f"it has no copy in double precision ({error})")
        images = probe.detach().double()
        with ExitStack() as stack:
            for twin in double.members:
                spike = in_its_precision(twin.node, twin.owner)
                stack.enter_context(twin.owner.swap(twin.node, spike, False))
            found = find_differences(
                lambda: double._from_rest(double._with_own_neurons, images),
                lambda: double._from_rest(double._with_twins, images),
                double.members,
            )
        for twin, copied in zip(self.members, double.members, strict=True):
            twin.others = copied.others
        return found

    def _from_rest(self, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with self._at_rest(x):
            return run(x)

    def _with_own_neurons(self, x: Tensor) -> Tensor:
        """The net with its own neurons, step by step if it takes steps."""
        if self.T is None:
            if self.steps_counted:
                return self._logits(self.net(x))
            with counting_calls([twin.node for twin in self.members]) as calls:
                logits = self._logits(self.net(x))
            self._refuse_one_step(max(calls))
            return logits
        frames = self._frames(x)
        if self.sequences:
            return self._logits(self.net(frames))
        return self._logits(torch.stack([spikes_of(self.net(frame)) for frame in frames.unbind(0)]))

    def _refuse_one_step(self, calls: int) -> None:
        """Refuses, after a forward pass, a net that ran a single time step and needs `T`."""
        if calls == 1 and all(twin.owner.takes_one_step(twin.node) for twin in self.members):
            raise InputError(
                f"{type(self.net).__name__} runs a single time step: every neuron was called once "
                "for an image; say robust_snn.adapt(net, T=...) with its number of time steps"
            )
        self.steps_counted = True

    def _with_surrogates(self, x: Tensor, mode: GradientMode) -> Tensor:
        """The net with its own neurons, whose surrogates are exchanged."""
        rule = self._recursion(mode)
        nodes = [(twin.node, twin.owner) for twin in self.members]
        with swapping(nodes, rule.surrogate, rule.detach_reset):
            return self._with_own_neurons(x)

    def _recursion(self, mode: GradientMode) -> Recursion:
        rule = mode.rule(Dynamics())
        if not isinstance(rule, Recursion):
            raise InputError(
                f"{mode.name} cannot be used on {type(self.net).__name__}: {self.whole_refusal}; "
                "choose bptt with a surrogate, or ste"
            )
        return rule

    def _with_twins(self, x: Tensor) -> Tensor:
        """The net with twins in the place of its neurons, all steps at once."""
        with twins_in_place(self, self.members):
            if self.T is None:
                return self._logits(self.net(x))
            frames = self._frames(x)
            if self.sequences:
                return self._logits(self.net(frames))
            for twin in self.members:
                twin.steps = len(frames)
            out = spikes_of(self.net(frames.flatten(0, 1)))
            return self._logits(out.unflatten(0, (len(frames), -1)))

    def _frames(self, x: Tensor) -> Tensor:
        """What the net is shown, `[T, B, ...]`."""
        assert self.T is not None
        if x.dim() == 5:
            return x.transpose(0, 1)
        if self.encoder is None:
            return x.expand(self.T, *x.shape)
        ours = isinstance(self.encoder, tuple(ENCODERS.values()))
        if ours:
            return self.encoder(x[None], steps=self.T)
        return torch.stack([self.encoder(x) for _ in range(self.T)])

    def _logits(self, out: Any) -> Tensor:
        out = spikes_of(out)
        return READOUTS[self.readout](out) if out.dim() == 3 else out

    def _refuse_fixed(self, mode: GradientMode) -> None:
        for path, twin in zip(self.paths, self.members, strict=True):
            reason = twin.owner.fixed(twin.node)
            if reason is not None:
                raise InputError(
                    f"{mode.name} cannot reach {path}: {reason}; adapt the net with gradient='own'"
                )
