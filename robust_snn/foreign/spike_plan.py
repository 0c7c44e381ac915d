"""What is known of the spike functions of a network: its neurons, in the order of their calls."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from robust_snn.foreign.comparison import Places
from robust_snn.foreign.image_axis import ImageAxis
from robust_snn.foreign.recurrence import SILENT, Recurrence
from robust_snn.foreign.staircase import Staircase

COMPARISON = "a comparison"  # the form of neurons that call no autograd function
ROUNDING = "a straight-through rounding"
SCRIPTED = "torch.jit.script"
JUMP = "a jump"
UNCUT = "that its gradient is as the network has it; detach_reset=false reaches it"
HIDDEN = "scripted code shows nothing of what fires in it; give adapt the module before it"


class SpikeNeuron(NamedTuple):
    """The neurons of one layer, which fire by calls of one function.

    Attributes:
        name: Path of the module whose forward pass calls it, numbered where that calls several.
        form: The function, for people.
        steps: Calls in a forward pass.
        staircase: The function; None where it is no staircase of its membrane.
        recurrence: The recursion of its membrane, or why it was not recognised.
        images: Where the images are in its membrane, or why that is not known; None on the first
            axis.
    """

    name: str
    form: str
    steps: int
    staircase: Staircase | None
    recurrence: Recurrence | str
    images: ImageAxis | str | None = None

    @property
    def of_function(self) -> bool:
        """Whether it fires by an autograd function of the network."""
        return self.form not in (COMPARISON, ROUNDING, SCRIPTED, JUMP)

    @property
    def refusal(self) -> str:
        """Why its gradient cannot be exchanged, if it has no staircase."""
        why = "its spikes are no step function of a membrane"
        if self.of_function:
            return (
                f"{why}, and none was found in its forward pass, which must be made of PyTorch's "
                f"operations and called as {self.form}.apply(...)"
            )
        return str(self.recurrence) if self.form in (SCRIPTED, JUMP) else why


class PlannedCall(NamedTuple):
    """One call of a spike function in a forward pass.

    Attributes:
        function: Qualified name of its class.
        path: Path of the module whose forward pass calls it.
        neuron: Place of the neuron; -1 where the call makes no spikes that matter.
        step: Number of the call among those of its neuron.
    """

    function: str
    path: str
    neuron: int
    step: int


@dataclass(frozen=True)
class SpikePlan:
    """Every call of a spike function in a forward pass, in order.

    Attributes:
        neurons: The neurons, in the order of their first calls.
        calls: The calls.
        comparisons: Spikes that comparisons make; see `Comparisons`.
        loop: How many time steps the pass has.
        feedback: Why averaging over time is not possible, if so.
        no_gradient: Why the network has no gradient by itself, if so.
        unreached: Why no gradient reaches the image in any mode, if so.
        own_alone: Why no gradient mode but the network's own takes it, if so.
        copies: Whether membranes have to be copied, since the network changes them in place later.
        idle: Paths of neurons of known libraries that the pass leaves out, as of a second head.
        hooked: Whether the network changes its gradients by hooks.
        unwrapped: Functions whose forward passes run as code of the network; see `Listener`.
        wrapped: The plan without these, in case no gradient passes through them.
    """

    neurons: tuple[SpikeNeuron, ...] = ()
    calls: tuple[PlannedCall, ...] = ()
    comparisons: Places = field(default_factory=dict)
    loop: int = 0
    feedback: str | None = None
    copies: bool = False
    no_gradient: str | None = None
    unreached: str | None = None
    own_alone: str | None = None
    idle: tuple[str, ...] = ()
    hooked: bool = False
    unwrapped: frozenset[str] = frozenset()
    wrapped: SpikePlan | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all neurons."""
        return tuple(neuron.name for neuron in self.neurons)

    @property
    def reached(self) -> tuple[str, ...]:
        """Names of the neurons whose gradient can be exchanged."""
        return tuple(n.name for n in self.neurons if n.staircase is not None)

    @property
    def opaque(self) -> list[str]:
        """Functions that make spikes, and are no step function of a membrane."""
        calls = [
            (call.function, self.neurons[call.neuron]) for call in self.calls if call.neuron >= 0
        ]
        missed = [f for f, neuron in calls if neuron.staircase is None and neuron.of_function]
        return [*dict.fromkeys(missed)]

    @property
    def missed(self) -> dict[str, str]:
        """Why that of the others cannot."""
        return {n.name: f"{n.form}: {n.refusal}" for n in self.neurons if n.staircase is None}

    @property
    def jumps(self) -> dict[str, str]:
        """Where values of the image go on without a gradient that could be exchanged, and why."""
        return {n.name: str(n.recurrence) for n in self.neurons if n.form == JUMP}

    @property
    def whole_resets(self) -> dict[str, str]:
        """Neurons whose gradient cannot be kept from passing through their reset, and why."""
        return {
            n.name: f"its reset was not told apart from its membrane, so {UNCUT}"
            for n in self.neurons
            if n.steps > 1 and n.staircase is not None
            if isinstance(n.recurrence, str) or n.recurrence.resets is None
        }

    @property
    def unrecognised(self) -> dict[str, str]:
        """Why the recursion of neurons is not known, by their names."""
        return {
            n.name: n.recurrence for n in self.neurons if isinstance(n.recurrence, str)
        } | self.missed

    @property
    def mixed(self) -> dict[str, str]:
        """Why neurons cannot be measured image by image, by their names."""
        return {n.name: n.images for n in self.neurons if isinstance(n.images, str)}

    def outside(self, paths: Collection[str]) -> SpikePlan:
        """The plan of a pass in which some modules call none of their own functions.

        Comparisons, which are known by their place among all operations, are not in it.
        """
        calls = [call for call in self.calls if not inside(call.path, *paths)]
        return replace(self, calls=tuple(calls), comparisons={})

    def compares(self, paths: Collection[str]) -> bool:
        """Whether a neuron outside of some modules fires by a comparison."""
        others = [n for n in self.neurons if not inside(n.name, *paths)]
        return any(neuron.form == COMPARISON for neuron in others)

    @property
    def unsettled(self) -> bool:
        """Whether other images could show more of a neuron."""
        return any(neuron.recurrence == SILENT for neuron in self.neurons)

    def with_neurons(self, neurons: Sequence[SpikeNeuron]) -> SpikePlan:
        """The plan with other neurons, of the same names."""
        return replace(self, neurons=tuple(neurons))

    def completed(self, other: SpikePlan) -> SpikePlan:
        """The plan with what another look at the same network showed."""
        if [n.name for n in other.neurons] != [n.name for n in self.neurons]:
            return self
        known = {n.name: n.recurrence for n in other.neurons}
        neurons = [
            n._replace(recurrence=known[n.name]) if n.recurrence == SILENT else n
            for n in self.neurons
        ]
        return replace(self.with_neurons(neurons), feedback=other.feedback)


def inside(name: str, *paths: str) -> bool:
    """Whether a neuron, or a module, is inside one of the modules at some paths."""
    bare = name.split("#")[0]
    return any(path in ("", bare) or name.startswith(f"{path}.") for path in paths)
