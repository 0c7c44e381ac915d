"""Spiking nets of other libraries as victims: SpikingJelly, snnTorch, or one that you register.

Scores always come from the user's own net, run as its library runs it. For attacks, neurons whose
dynamics can be read are replaced by ours for the length of a call: a net that takes single steps
then runs once with all steps as one batch, through the fused kernels and in any gradient mode.
Before the first attack both are compared in double precision, spike by spike; where they differ,
the net keeps its own neurons, and `refusals` says why.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from robust_snn.foreign.library import (
    Unreadable,
    find_nodes,
    find_states,
    library_names,
    swapping,
)
from robust_snn.foreign.twin import Own, StandIn
from robust_snn.gradients import GradientMode
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
PROBES = 2  # images that the twin is compared on
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
        self.sequences = any(getattr(m, "step_mode", "s") == "m" for m in net.modules())
        self.paths = tuple(nodes)
        self.stand_ins = nn.ModuleList(
            StandIn(node, owner, folded=T is not None and not self.sequences)
            for node, owner in nodes.values()
        )
        self.whole_refusal: str | None = None
        self.checked = False
        self.steps_counted = False
        for module, owner in find_states(net):
            owner.reset(module)
        self.train(net.training)
        self.deaf = tuple(path for path, (node, _) in nodes.items() if _is_deaf(node))
        if self.deaf:
            _log.warning(
                "%d neurons of %s lose their gradient in eval(); repaired while the victim runs",
                len(self.deaf),
                type(net).__name__,
            )

    @property
    def stochastic(self) -> bool:
        return self.random

    @property
    def members(self) -> list[StandIn]:
        """The stand-ins, in the order of `paths`."""
        return cast(list[StandIn], list(self.stand_ins))

    @property
    def refusals(self) -> dict[str, str]:
        """Why neurons keep their own forward pass, by path; complete after the first attack."""
        reasons = {
            path: self.whole_refusal or stand_in.refusal
            for path, stand_in in zip(self.paths, self.members, strict=True)
        }
        return {path: reason for path, reason in reasons.items() if reason is not None}

    def own_mode(self) -> GradientMode:
        """The gradient mode that the net has by itself."""
        found = set()
        for stand_in in self.members:
            try:
                found.add(stand_in.owner.own_mode(stand_in.node))
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
        with self._ready(x):
            if isinstance(mode, Own):
                logits = self._as_it_is(x)
            elif self.whole_refusal is None:
                logits = self._with_stand_ins(x)
            else:
                logits = self._with_surrogates(x, mode)
        if torch.is_grad_enabled() and x.requires_grad and not logits.requires_grad:
            raise InputError(
                f"no gradient of {type(self.net).__name__} reaches the image; a random encoder "
                "needs encoder='poisson', a neuron without a surrogate another gradient mode"
            )
        return logits

    @torch.no_grad()
    def check(self, x: Tensor) -> None:
        """Compares, once, the net with its twin of our neurons on the first of the images."""
        if self.checked:
            return
        with self._ready(x):
            twin = copy.deepcopy(self).double()
        for stand_in in twin.members:
            stand_in.judging = True
            stand_in.node.register_forward_hook(_in_double)
        keys, mean = self.draw(len(x), x.device)
        with keyed(keys[:PROBES], mean):
            self.whole_refusal = twin._judge(x[:PROBES].detach().double())
        for own, judged in zip(self.members, twin.members, strict=True):
            own.refusal, own.paired = judged.refusal, judged.paired
        self.checked = True
        for path, reason in self.refusals.items():
            _log.info("%s keeps its own forward pass: %s", path or type(self.net).__name__, reason)

    def _judge(self, probe: Tensor) -> str | None:
        """Lets the stand-ins judge their neurons; says why the net cannot run layer by layer."""
        with self._ready(probe):
            expected = self._as_it_is(probe)
        with self._ready(probe):
            if not self.random and not torch.equal(self._as_it_is(probe), expected):
                raise InputError(
                    f"{type(self.net).__name__} answers the same images differently; if it draws "
                    "random numbers, say adapt(net, ..., random=True)"
                )
        if self.T is None and not self.sequences:
            return "the net runs its steps itself; give T, and a net that takes one step"
        try:
            with self._ready(probe):
                got = self._with_stand_ins(probe)
        except Exception as error:  # whatever a net does that takes single steps only
            return f"it does not run layer by layer ({error})"
        if got.shape != expected.shape or not torch.allclose(got, expected, rtol=1e-9, atol=1e-9):
            return "layer by layer it answers differently, as nets with feedback do"
        return None

    def _as_it_is(self, x: Tensor) -> Tensor:
        """The net with its own neurons, step by step if it takes steps."""
        if self.T is None:
            with nullcontext() if self.steps_counted else self._counting_steps():
                return self._logits(self.net(x))
        frames = self._frames(x)
        if self.sequences:
            return self._logits(self.net(frames))
        return self._logits(torch.stack([_first(self.net(frame)) for frame in frames.unbind(0)]))

    @contextmanager
    def _counting_steps(self) -> Iterator[None]:
        """Refuses, after one forward pass, a net that ran a single time step and needs `T`."""
        calls = dict.fromkeys(self.paths, 0)

        def hook(path: str) -> Callable[..., None]:
            def count(*_: Any) -> None:
                calls[path] += 1

            return count

        hooks = [
            twin.node.register_forward_hook(hook(path))
            for path, twin in zip(self.paths, self.members, strict=True)
        ]
        try:
            yield
        finally:
            for handle in hooks:
                handle.remove()
        if max(calls.values()) == 1 and all(t.owner.takes_one_step(t.node) for t in self.members):
            raise InputError(
                f"{type(self.net).__name__} runs a single time step: every neuron was called once "
                "for an image; say robust_snn.adapt(net, T=...) with its number of time steps"
            )
        self.steps_counted = True

    def _with_surrogates(self, x: Tensor, mode: GradientMode) -> Tensor:
        """The net with its own neurons, whose surrogates are exchanged."""
        rule = mode.rule(Dynamics())
        if not isinstance(rule, Recursion):
            raise InputError(
                f"{mode.name} cannot be used on {type(self.net).__name__}: {self.whole_refusal}; "
                "choose bptt with a surrogate, or ste"
            )
        nodes = [(stand_in.node, stand_in.owner) for stand_in in self.members]
        with swapping(nodes, rule.surrogate, rule.detach_reset):
            return self._as_it_is(x)

    def _with_stand_ins(self, x: Tensor) -> Tensor:
        """The net with our stand-ins in place of its neurons, all steps at once."""
        with self._replaced():
            if self.T is None:
                return self._logits(self.net(x))
            frames = self._frames(x)
            if self.sequences:
                return self._logits(self.net(frames))
            for stand_in in self.members:
                stand_in.steps = len(frames)
            out = _first(self.net(frames.flatten(0, 1)))
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
        out = _first(out)
        return READOUTS[self.readout](out) if out.dim() == 3 else out

    def _refuse_fixed(self, mode: GradientMode) -> None:
        for path, stand_in in zip(self.paths, self.members, strict=True):
            reason = stand_in.owner.fixed(stand_in.node)
            if reason is not None:
                raise InputError(
                    f"{mode.name} cannot reach {path}: {reason}; adapt the net with gradient='own'"
                )

    @contextmanager
    def _ready(self, x: Tensor) -> Iterator[None]:
        """Inside, the net starts from rest, with gradients; it is left without a state."""
        states, deaf = find_states(self.net), [self.net.get_submodule(path) for path in self.deaf]
        modes = [node.training for node in deaf]
        try:
            for module, owner in states:
                owner.reset(module)
            for node in deaf:
                node.training = True
            with self._drawn(x) if self.random else nullcontext():
                yield
        finally:
            for node, training in zip(deaf, modes, strict=True):
                node.training = training
            for module, owner in states:
                owner.reset(module)

    @contextmanager
    def _drawn(self, x: Tensor) -> Iterator[None]:
        """Inside, the global generators are a function of the victim's keys."""
        keys, _ = self.draw(len(x), x.device)
        cuda = [x.device.index or 0] if x.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(int(keys[0]))
            yield

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        """Inside, a stand-in is in the place of every neuron."""
        table = {id(stand_in.node): stand_in for stand_in in self.members}
        places = [
            (parent._modules, name, child)
            for parent in self.modules()
            for name, child in parent._modules.items()
            if id(child) in table
        ]
        try:
            for children, name, child in places:
                children[name] = table[id(child)]
            yield
        finally:
            for children, name, child in places:
                children[name] = child


def _in_double(node: nn.Module, inputs: Any, out: Any) -> Any:
    """snnTorch's spikes are float32 whatever the membranes are."""
    return tuple(o.double() for o in out) if isinstance(out, tuple) else out.double()


def _first(out: Any) -> Tensor:
    """The spikes of an output `(spikes, membrane)`."""
    return out[0] if isinstance(out, tuple) else out


def _is_deaf(node: nn.Module) -> bool:
    """Whether a neuron has a gradient in training and none in eval (SpikingJelly 0.0.0.0.14)."""
    probe = torch.zeros(1, 1, 1, requires_grad=True)
    heard = []
    for training in (True, False):
        try:
            twin = copy.deepcopy(node).cpu().train(training)
            with torch.enable_grad():
                heard.append(_first(twin(probe)).requires_grad)
        except Exception:  # a neuron that does not take a probe of this shape
            return False
    return heard == [True, False]
