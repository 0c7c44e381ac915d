"""Spiking nets of other people as victims: what `adapt` makes of any module that is not ours.

Scores always come from the net itself, run as its author runs it. For attacks, the backward pass of
its spike functions is exchanged, wherever in its code they are; see `survey` and `spike_pass`.
Neurons of a known library whose dynamics can be read are replaced by ours for the length of a call,
so that all steps run at once through the fused kernels, if a comparison finds them equal; see
`twin_check`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import NoneType
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robust_snn.foreign.call_counters import changing_with_calls
from robust_snn.foreign.changes import Watch
from robust_snn.foreign.comparisons import Comparisons
from robust_snn.foreign.describe import summary
from robust_snn.foreign.gradient_hooks import HooksLeftOut, without_module_hooks
from robust_snn.foreign.gradient_trial import tried_backwards
from robust_snn.foreign.hidden_state import moving_places, restore
from robust_snn.foreign.interception import listening
from robust_snn.foreign.library import Library, Unreadable, find_states
from robust_snn.foreign.mode_refusals import refuse_mode
from robust_snn.foreign.network_modes import watching
from robust_snn.foreign.runnable import Study, open_functions, spike_plan
from robust_snn.foreign.shown_net import ShownNet
from robust_snn.foreign.spike_function import swapping, with_detached_resets
from robust_snn.foreign.spike_pass import Outdated, SpikePass
from robust_snn.foreign.spike_plan import SpikePlan, inside
from robust_snn.foreign.study import study
from robust_snn.foreign.time_average import averaged_over_time
from robust_snn.foreign.twin import UNCHECKED
from robust_snn.foreign.twin_check import (
    COMPARED,
    batch_rewiring,
    compare_with_twins,
    images_on_which,
)
from robust_snn.gradients import BPTT, MODES, GradientMode, Own, Reach
from robust_snn.kernels import Dynamics, Recursion, TimeAverage
from robust_snn.kernels.spiking.adaptive_surrogates import AdaptiveSurrogate
from robust_snn.neurons.fixed_network import fixed_network
from robust_snn.neurons.pass_settings import (
    LayerGradient,
    PassSettings,
    is_neuron,
    keyed,
    layer_gradient,
    use_settings,
)
from robust_snn.utils.errors import InputError
from robust_snn.utils.plain_context import plain_context

TRIES = 8  # batches on which neurons that did not fire are looked at again
_log = logging.getLogger("robust_snn")
_ready: WeakSet[nn.Module] = WeakSet()  # nets whose functions this process listens to


class ForeignSNN(ShownNet):
    """A spiking net of other people as a plain function from images to logits.

    Its arguments are those of `ShownNet`. It keeps its neurons, its weights and its modes.
    """

    def __init__(
        self,
        net: nn.Module,
        T: int | None = None,
        encoder: str | Callable[[Tensor], Tensor] | None = None,
        readout: str = "mean",
        random: bool = False,
        output: Callable[[Any], Tensor] | None = None,
    ) -> None:
        super().__init__(net, T, encoder, readout, random, output)
        self.gradient: GradientMode = Own()
        self.whole_refusal: str | None = None
        self.checked: set[torch.Size] = set()
        self.studies: dict[torch.Size, Study] = {}
        self._tries = 0
        self._watch: Watch | None = None  # before a study
        self._verify = False  # whether its numbers are others than in the study
        self._given: set[GradientMode] = set()
        self._outdated: set[GradientMode] = set()
        self.counters: str | None = None  # numbers that it keeps, by which its calls differ

    @property
    def refusals(self) -> dict[str, str]:
        """Why neurons keep their own forward pass, by path; complete after the first attack."""
        reasons = {
            path: self.whole_refusal or twin.refusal
            for path, twin in zip(self.paths, self.members, strict=True)
        }
        return {path: reason for path, reason in reasons.items() if reason is not None}

    def own_mode(self) -> GradientMode:
        """The gradient mode that the net has by itself, for a victim to keep."""
        if self.ours:
            return BPTT()
        try:
            found = self._own_modes()
        except Unreadable as reason:
            _log.info("keeping the net's own gradient: %s", reason)
            return Own()
        if self._plan.no_gradient is not None and self._plan.reached:
            return BPTT()
        if len(found) != 1 or (self.studies and self.takes(*found).refusal is not None):
            return Own()
        self._given |= found
        return found.pop()

    def _own_modes(self) -> set[GradientMode]:
        """Those of the neurons of known libraries."""
        return {twin.owner.own_mode(twin.node) for twin in self.members}

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `[B, C, H, W]` or event frames `[B, T, C, H, W]` to logits `[B, K]`."""
        gradient = layer_gradient(self)
        self._notice_changes()
        try:
            return self._answer(x, gradient)
        except Outdated:
            self._forget()
            return self._answer(x, gradient)

    def _answer(self, x: Tensor, gradient: LayerGradient) -> Tensor:
        """The logits of a net that is set up as it was when it was studied."""
        self._notice_numbers(gradient.mode)
        found = self.study(x)
        if self._outdated and gradient.mode in self._outdated:
            raise InputError(
                f"{gradient.mode} was the gradient of {self.name} itself when it was adapted, and "
                "its surrogates were changed since; adapt the net again, robust_snn.adapt(net), or "
                "choose a gradient mode"
            )
        own = isinstance(gradient.mode, Own)
        if not own and self.members and self.whole_refusal is None:
            self.check(x)
        if not own and (found.plan.unreached is None or _differentiable(x)):
            refuse_mode(self, gradient.mode, found.plan)
        exchanged = own or self.exchanges(gradient.mode)
        if own or (exchanged and not _differentiable(x)):
            logits = self.with_own_neurons(x, found)
        elif exchanged:
            logits = self.with_exchanged_spikes(x, found, gradient)
        else:
            logits = self.with_twins(x, found.reading)
        if len(logits) != len(x):
            raise InputError(f"{self.name} gives logits {tuple(logits.shape)} for {len(x)} images")
        if _differentiable(x) and not logits.requires_grad:
            raise InputError(
                f"no gradient of {self.name} reaches the image; a random encoder "
                "needs encoder='poisson', a neuron without a surrogate another gradient mode"
            )
        return logits

    def study(self, x: Tensor) -> Study:
        """How the net is run on images of this shape, and what is known of its neurons."""
        shape = x.shape[1:]
        if x.dim() == 5 and self.T not in (None, x.shape[1]):
            raise InputError(
                f"T is {self.T}, but the event frames have {x.shape[1]} steps: leave T out of adapt"
            )
        if shape in self.studies and self in _ready and not self._looks_again(shape):
            return self.studies[shape]
        with fixed_network(self), use_settings(PassSettings()):
            x = x.detach().clone()
            if shape not in self.studies:
                found = study(self, x)
                watch = self._new_watch()
                self.studies[shape] = found._replace(plan=tried_backwards(self, x, found))
                _ready.add(self)
                if self.members and self.whole_refusal is None:
                    self.check(x)
                self._watch = self._watch or watch.without_moved(self.net)
                self._notice_counters(x[:2])
                return self.studies[shape]
            found = self.studies[shape]
            if self not in _ready:
                open_functions(self, x, found)
                _ready.add(self)
            if self._looks_again(shape):
                self._tries += 1
                plan = found.plan.completed(spike_plan(self, x, found.layout, found.reading))
                tried = tried_backwards(self, x, found._replace(plan=plan))
                self.studies[shape] = found._replace(plan=tried)
        return self.studies[shape]

    def _notice_counters(self, x: Tensor) -> None:
        """Says so where the answers of a net follow how often it was called."""
        self.counters = changing_with_calls(self, x, self.studies[x.shape[1:]])
        if self.counters is not None:
            _log.warning(
                "%s answers otherwise the more often it is called, because it keeps %s; every call "
                "of the victim begins there, as it was when it was adapted: adapt it before any "
                "other call. If that is its randomness, draw it from PyTorch and say "
                "robust_snn.adapt(net, random=True)",
                self.name,
                self.counters,
            )

    def _notice_changes(self) -> None:
        """Forgets what was found of a net that was set up anew.

        Raises:
            InputError: If a module was exchanged.
        """
        if self._watch is None or self._watch.unchanged(self.net):
            return
        if (other := self._watch.other_module(self.net)) is not None:
            raise InputError(
                f"{self.name} was changed since it was adapted: {other}; adapt the net again, "
                "robust_snn.adapt(net)"
            )
        self._forget()

    def _notice_numbers(self, mode: GradientMode) -> None:
        """Forgets recursions that were fitted to other numbers in tensors, if a mode needs them.

        Other modes need the thresholds, which the pass verifies: a training that learns a leak does
        not wait for a study in every step.
        """
        self._verify = self._watch is not None and not self._watch.same_numbers(self.net)
        if not self._verify:
            return
        rule = None if isinstance(mode, Own) else mode.rule(Dynamics())
        if isinstance(rule, Recursion | AdaptiveSurrogate | NoneType):
            self._note_own_modes()
        else:
            self._forget()
            self._verify = False

    def _forget(self) -> None:
        """Forgets what was found of the net, but how it is brought to rest, and does that."""
        _log.info("%s was changed and is looked at again", self.name)
        self.studies, self.checked, self.whole_refusal, self._tries = {}, set(), None, 0
        for twin in self.members:
            twin.refusal = UNCHECKED
        self._watch = None
        for module, owner in find_states(self.net):
            owner.reset(module)
        restore(self.net, self.rest)
        self._note_own_modes()

    def _note_own_modes(self) -> None:
        """Notes which modes are not that of the net itself any more."""
        try:
            own = self._own_modes()
        except Unreadable:
            own = set()
        self._outdated = {mode for mode in self._given if own != {mode}}

    def _new_watch(self) -> Watch:
        """The net as it is now, without what moves in its calls."""
        modules, moving = dict(self.net.named_modules()), list[tuple[Any, ...]]()
        for (path, name), kept in self.rest.items():
            if path in modules:
                moving += [(modules[path], name, *place) for place in moving_places(kept)]
        return Watch(self.net, moving, () if self.refusals else [node for node, _ in self.nodes()])

    def _states(self) -> list[tuple[nn.Module, Library]]:
        return super()._states() if self._watch is None else self._watch.states()

    def _replicate_for_data_parallel(self) -> ForeignSNN:
        """A replica of `nn.DataParallel`, whose modules are copies."""
        replica: ForeignSNN = super()._replicate_for_data_parallel()
        replica._watch = None
        return replica

    def _looks_again(self, shape: torch.Size) -> bool:
        """Whether other images of a shape may show more of a neuron that was silent."""
        return self._tries < TRIES and self.studies[shape].plan.unsettled

    @property
    def neurons(self) -> tuple[str, ...]:
        """Names of all neurons that were found."""
        return (*self.unplanned(self._plan), *self._plan.names, *self.ours)

    @property
    def ours(self) -> tuple[str, ...]:
        """Names of neurons of robust_snn in the net, which take their mode by themselves."""
        return tuple(path for path, module in self.net.named_modules() if is_neuron(module))

    @property
    def _last(self) -> Study | None:
        """What is known from the last shape of images."""
        return next(reversed(self.studies.values()), None)

    @property
    def _plan(self) -> SpikePlan:
        return SpikePlan() if self._last is None else self._last.plan

    def summary(self) -> str:
        """One line: how the net is run, what fires in it, and which gradient modes reach that."""
        found = self._last
        if found is None:
            return f"{self.name} has not run yet"
        modes: dict[str, type[GradientMode]] = {"own": Own, **MODES}
        reach = {name: self.takes(mode()) for name, mode in modes.items() if not mode.other_forward}
        return summary(self.name, found, self.neurons, reach)

    def takes(self, mode: GradientMode) -> Reach:
        """Which neurons the mode reaches; see `Victim.takes`."""
        if not self.studies:
            raise InputError(f"{self.name} has not run yet; give adapt(net, images=...) some")
        plan = self._plan
        if isinstance(mode, Own) and self.ours:
            return Reach(refusal=f"{self.name} has neurons of robust_snn, which have no own mode")
        if isinstance(mode, Own) or not self.neurons:
            return Reach(self.neurons, refusal=plan.unreached or plan.no_gradient)
        try:
            refuse_mode(self, mode, plan)
        except InputError as error:
            return Reach(refusal=str(error))
        working = [path for path in self.paths if path not in plan.idle]
        if not self.exchanges(mode):
            return Reach((*working, *self.ours))
        rule = mode.rule(Dynamics())
        swapped = isinstance(rule, Recursion)
        theirs = [n for n in plan.reached if not inside(n, *self.paths)]
        kept = plan.whole_resets if isinstance(rule, Recursion) and rule.detach_reset else {}
        theirs = [n for n in theirs if n not in kept]
        reached = (*(working if swapped else ()), *(theirs if swapped else plan.reached))
        reached = (*reached, *self.ours)
        missed = {n: why for n, why in (plan.missed | kept).items() if n not in reached}
        return Reach(reached, missed)

    def exchanges(self, mode: GradientMode) -> bool:
        """Whether spike functions are exchanged, as opposed to neurons replaced by twins."""
        alone = not self.members or self.whole_refusal is not None
        return alone or any(twin.refuses(mode) is not None for twin in self.members)

    def unplanned(self, plan: SpikePlan) -> list[str]:
        """Neurons of known libraries that call no spike function that was found.

        A readout whose membrane is read calls one whose spikes go nowhere.
        """
        found = [*plan.names, *(call.path for call in plan.calls)]
        working = [path for path in self.paths if path not in plan.idle]
        return [path for path in working if not any(inside(name, path) for name in found)]

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
        keys, mean, _ = self.draw(len(x), x.device)
        with keyed(keys[rows], mean), plain_context(device=x.device):
            found = compare_with_twins(self, x[rows])
        whole = found.whole
        if whole is None and len(x) > COMPARED:
            with keyed(keys, mean), plain_context(device=x.device):
                whole = batch_rewiring(self, x)
        self.whole_refusal = self.whole_refusal or whole
        for twin, neuron in zip(self.members, found.neurons, strict=False):
            twin.learn(neuron)
        self.checked.add(x.shape)
        for path, reason in self.refusals.items():
            _log.info("%s keeps its own forward pass: %s", path or self.name, reason)

    def with_exchanged_spikes(
        self, x: Tensor, found: Study, gradient: LayerGradient, swap: bool = True
    ) -> Tensor:
        """The net as its author runs it, whose spike functions have another backward pass."""
        plan, rule = found.plan, gradient.mode.rule(Dynamics())
        swapped: AbstractContextManager[Any] = nullcontext()
        swap = swap and bool(self.members) and not plan.compares(self.paths)
        if swap and isinstance(rule, Recursion):
            # a library knows more of its neurons than their spike function, such as the reset
            swapped = swapping(self.nodes(), rule.surrogate, rule.detach_reset)
            plan = plan.outside(self.paths)
        elif isinstance(rule, AdaptiveSurrogate) and rule.detach_reset and not plan.comparisons:
            # comparisons are known by their place among all operations, which this would change
            swapped = with_detached_resets(self.nodes() if swap else [])

        def run(image: Tensor) -> tuple[Tensor, SpikePass]:
            spike_pass = SpikePass(plan, gradient, self._verify)
            modes: list[TorchFunctionMode] = [HooksLeftOut()] if plan.hooked else []
            modes += [Comparisons(plan.comparisons)] if plan.comparisons else []
            unhooked = without_module_hooks(self.net) if plan.hooked else nullcontext()
            with swapped, unhooked, listening(spike_pass), watching(*modes):
                logits = self.with_own_neurons(image, found)
            spike_pass.finish()
            return logits, spike_pass

        return averaged_over_time(x, run) if isinstance(rule, TimeAverage) else run(x)[0]


def _differentiable(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad
