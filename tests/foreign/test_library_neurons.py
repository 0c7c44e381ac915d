"""Every neuron of SpikingJelly and snnTorch: its own gradient, ours, and modes or their refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import assert_close_rms, logits_and_gradient
from robust_snn import InputError, Victim, adapt

pytest.importorskip("spikingjelly", reason="needs spikingjelly")
pytest.importorskip("snntorch", reason="needs snntorch")
import snntorch as snn
from snntorch import surrogate as snn_surrogate
from snntorch.functional.quant import state_quant
from spikingjelly.activation_based import functional, layer, neuron, surrogate

T, SIZE, CLASSES = 4, 4, 4
IMAGES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
RATE = ("bptr", "rga", "hart")
MODES = ("bptt(surrogate=atan(alpha=3))", "ste", *RATE, "pdsg", "assg")
ALL, RECURSIONS, NONE = set(MODES), {MODES[0], "ste"}, set[str]()
Row = tuple[Callable[[], nn.Module], set[str]]


class Stateless(nn.Module):
    """Somebody's surrogate without a class that we know."""

    def forward(self, z: Tensor) -> Tensor:
        soft = torch.sigmoid(3 * z)
        return soft + ((z >= 0).to(z) - soft).detach()


class Renamed(neuron.LIFNode):
    """A subclass that overrides nothing of the dynamics."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(tau=2.5, **arguments)

    def extra_repr(self) -> str:
        return "ours"


class Leaking(neuron.SimpleLIFNode):
    """A subclass with a charge of its own."""

    def neuronal_charge(self, x: Tensor) -> None:
        self.v = 0.7 * self.v + x


def jelly(node: Callable[[], nn.Module], multi: bool) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(3, 6, 3, padding=1), node(), layer.Flatten())
    net.append(layer.Linear(6 * SIZE**2, CLASSES))
    net[0].weight.data *= 8
    functional.set_step_mode(net, "m" if multi else "s")
    return net.eval()


def with_threshold(value: Any) -> nn.Module:
    node = neuron.LIFNode(surrogate_function=Stateless())
    node.v_threshold = value
    return node


def patched() -> nn.Module:
    node = neuron.IFNode()
    node.forward = lambda x: 0.5 * neuron.IFNode.forward(node, x)
    return node


JELLY: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "LIF": (lambda: neuron.LIFNode(), ALL),
    "LIF, soft reset": (lambda: neuron.LIFNode(v_reset=None, detach_reset=True), ALL),
    "LIF, reset below": (lambda: neuron.LIFNode(v_reset=-0.4, decay_input=False), ALL),
    "simple LIF": (lambda: neuron.SimpleLIFNode(2.0, False, detach_reset=True), ALL),
    "IF": (lambda: neuron.IFNode(), ALL),
    "simple IF": (lambda: neuron.SimpleIFNode(v_reset=None), ALL),
    "parametric LIF": (lambda: neuron.ParametricLIFNode(init_tau=3.0), ALL),
    "subclass": (lambda: Renamed(detach_reset=True), ALL),
    "subclass with a charge": (lambda: Leaking(2.0, True), RECURSIONS),
    "patched": (patched, RECURSIONS),
    "threshold of one number": (lambda: with_threshold(torch.tensor(0.8)), ALL),
    "threshold for each channel": (
        lambda: with_threshold(torch.linspace(0.5, 1, 6).view(-1, 1, 1)),
        RECURSIONS,
    ),
    "membranes stored": (lambda: neuron.LIFNode(store_v_seq=True), RECURSIONS),
    "half threshold": (lambda: neuron.HalfThresholdIFNode(), RECURSIONS),
    "activation-aware IF": (lambda: neuron.ActivationAwareIFNode(), RECURSIONS),
    "QIF": (lambda: neuron.QIFNode(), RECURSIONS),
    "EIF": (lambda: neuron.EIFNode(), RECURSIONS),
    "Izhikevich": (lambda: neuron.IzhikevichNode(), RECURSIONS),
    "KLIF": (lambda: neuron.KLIFNode(), RECURSIONS),
    "CUBA": (lambda: neuron.CUBALIFNode(), RECURSIONS),
    "LIAF": (lambda: neuron.LIAFNode(torch.relu, False), RECURSIONS),
    "ternary": (lambda: neuron.TernaryLIFNode(), RECURSIONS),
    "normed membrane": (lambda: neuron.MPBNLIFNode(out_channels=6), RECURSIONS),
    "sliding PSN": (lambda: neuron.SlidingPSN(k=2), RECURSIONS),
    "integer spikes": (lambda: neuron.ILIFNode(), NONE),
    "not spiking": (lambda: neuron.IFNode(surrogate_function=surrogate.ATan(spiking=False)), NONE),
    "own surrogate": (lambda: neuron.LIFNode(surrogate_function=Stateless()), ALL),
}
MULTI_STEP_ONLY: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "gated": (lambda: neuron.GatedLIFNode(T), RECURSIONS),
    "PSN": (lambda: neuron.PSN(T), RECURSIONS),
    "masked PSN": (lambda: neuron.MaskedPSN(k=2, T=T, step_mode="m"), RECURSIONS),
    "SLTT": (lambda: neuron.SLTTLIFNode(), NONE),
}
SURROGATES = {
    "ATan": surrogate.ATan(),
    "Erf": surrogate.Erf(),
    "LeakyKReLU": surrogate.LeakyKReLU(),
    "NonzeroSignLogAbs": surrogate.NonzeroSignLogAbs(),
    "PiecewiseExp": surrogate.PiecewiseExp(),
    "PiecewiseLeakyReLU": surrogate.PiecewiseLeakyReLU(),
    "PiecewiseQuadratic": surrogate.PiecewiseQuadratic(),
    "Rect": surrogate.Rect(),
    "Sigmoid": surrogate.Sigmoid(),
    "SoftSign": surrogate.SoftSign(),
    "SuperSpike": surrogate.SuperSpike(),
    "S2NN": surrogate.S2NN(),
    "QPseudoSpike": surrogate.QPseudoSpike(),
    "LogTailedReLU": surrogate.LogTailedReLU(),
    "SquarewaveFourierSeries": surrogate.SquarewaveFourierSeries(),
}


def jelly_author(net: nn.Module, x: Tensor, multi: bool) -> Tensor:
    functional.reset_net(net)
    out = net(x.expand(T, *x.shape)) if multi else torch.stack([net(x) for _ in range(T)])
    functional.reset_net(net)
    return out.mean(0)


class Hidden(nn.Module):
    """snnTorch with `init_hidden`: a call is one step."""

    def __init__(self, neuron: Callable[..., nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3 * SIZE**2, 8), nn.Linear(8, CLASSES)
        self.hidden = neuron(8, init_hidden=True)
        self.last = neuron(CLASSES, init_hidden=True, output=True)
        self.first.weight.data *= 8
        self.second.weight.data *= 8

    def forward(self, x: Tensor) -> Any:
        return self.last(self.second(self.hidden(self.first(x.flatten(1)))))


class ByHand(Hidden):
    """snnTorch as its tutorials write it: the loop and the states are the network's."""

    def __init__(self, neuron: Callable[..., nn.Module]) -> None:
        super().__init__(lambda features, **_: neuron(features))

    def forward(self, x: Tensor) -> Tensor:
        states, total = [_states(n.reset_mem()) for n in (self.hidden, self.last)], 0
        for _ in range(T):
            spikes, states[0] = self._step(self.hidden, self.first(x.flatten(1)), states[0])
            spikes, states[1] = self._step(self.last, self.second(spikes), states[1])
            total = total + spikes
        return total / T

    def _step(self, node: nn.Module, current: Tensor, states: Any) -> tuple[Tensor, Any]:
        out = node(current, *states)
        kept = out if isinstance(node, snn.RLeaky | snn.RSynaptic) else out[1:]
        return out[0], kept


def _states(value: Any) -> Any:
    return value if isinstance(value, tuple) else (value,)


def snn_author(net: nn.Module, x: Tensor) -> Tensor:
    nodes = [m for m in net.modules() if isinstance(m, snn.SpikingNeuron)]
    for node in nodes:
        node.reset_mem()
    by_hand = isinstance(net, ByHand)
    out = net(x) if by_hand else torch.stack([net(x)[0] for _ in range(T)]).mean(0)
    for node in nodes:
        node.reset_mem()
    return out


def leaky(**arguments: Any) -> Callable[..., nn.Module]:
    return lambda features, **form: snn.Leaky(**{"beta": 0.8, **arguments}, **form)


def many(kind: str, **arguments: Any) -> Callable[..., nn.Module]:
    return lambda features, **form: getattr(snn, kind)(**arguments, **form)


def per_neuron(features: int, **form: Any) -> nn.Module:
    beta, threshold = torch.linspace(0.3, 0.9, features), torch.linspace(0.5, 1, features)
    learned = {"learn_beta": True, "learn_threshold": True}
    return snn.Leaky(beta=beta, threshold=threshold, **learned, **form)


def recurrent(kind: str, **arguments: Any) -> Callable[..., nn.Module]:
    def build(features: int, **form: Any) -> nn.Module:
        torch.manual_seed(1)
        return getattr(snn, kind)(linear_features=features, **arguments, **form)

    return build


def lstm(features: int, **form: Any) -> nn.Module:
    torch.manual_seed(1)
    return snn.SLSTM(features, features, threshold=0.1, **form)


SNN: dict[str, tuple[Callable[..., nn.Module], set[str]]] = {
    "subtract": (leaky(), ALL),
    "zero": (leaky(reset_mechanism="zero", threshold=0.7), ALL),
    "none": (leaky(reset_mechanism="none"), ALL),
    "subtract at once": (leaky(reset_delay=False), RECURSIONS),
    "zero at once": (leaky(reset_mechanism="zero", reset_delay=False), ALL),
    "learned": (leaky(learn_beta=True, learn_threshold=True), ALL),
    "for each neuron": (per_neuron, RECURSIONS),
    "graded": (leaky(graded_spikes_factor=2.0), RECURSIONS),
    "inhibition": (leaky(inhibition=True), RECURSIONS),
    "quantised": (leaky(state_quant=state_quant(4, True, 1.0)), RECURSIONS),
    "fast sigmoid": (leaky(spike_grad=snn_surrogate.fast_sigmoid(5)), ALL),
    "sigmoid": (leaky(spike_grad=snn_surrogate.sigmoid(3)), ALL),
    "straight through": (leaky(spike_grad=snn_surrogate.straight_through_estimator()), ALL),
    "triangular": (leaky(spike_grad=snn_surrogate.triangular()), ALL),
    "Lapicque": (many("Lapicque", R=2.0, C=1.0), ALL),
    "Lapicque, zero": (
        many("Lapicque", R=2.0, C=1.0, reset_mechanism="zero"),
        RECURSIONS,
    ),
    "Synaptic": (many("Synaptic", alpha=0.8, beta=0.7), RECURSIONS),
    "Synaptic, zero": (many("Synaptic", alpha=0.8, beta=0.7, reset_mechanism="zero"), RECURSIONS),
    "Alpha": (many("Alpha", alpha=0.8, beta=0.7), RECURSIONS),
    "RLeaky": (recurrent("RLeaky", beta=0.8), RECURSIONS),
    "RLeaky, one to one": (many("RLeaky", beta=0.8, V=0.5, all_to_all=False), RECURSIONS),
    "RSynaptic": (recurrent("RSynaptic", alpha=0.8, beta=0.7), RECURSIONS),
    "SLSTM": (lstm, RECURSIONS),
}


def through(run: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    return logits_and_gradient(run, IMAGES)


def assert_equal_to_author(
    victim: Victim, author: Callable[[Tensor], Tensor], reached: set[str]
) -> None:
    """The victim is the author's network; it takes these modes, and others or refuses them."""
    logits, gradient = through(author)
    own_logits, own_gradient = through(victim.replace(gradient="own"))
    assert logits.std() > 0 and torch.equal(own_logits, logits)
    assert_close_rms(own_gradient, gradient, 1e-6)
    default_logits, default = through(victim)
    assert torch.equal(default_logits, logits)
    assert_close_rms(default, gradient)
    assert torch.equal(victim.sample(IMAGES, torch.arange(len(IMAGES))), logits)
    for mode in MODES:
        other = victim.replace(gradient=mode)
        if mode in reached or victim.takes(mode).refusal is None:
            again, changed = through(other)
            assert victim.takes(mode).refusal is None
            assert torch.equal(again, logits) and changed.isfinite().all()
            assert changed.any() or mode not in reached
        else:
            assert mode.partition("(")[0] in (victim.takes(mode).refusal or "")
            with pytest.raises(InputError, match=mode.partition("(")[0]):
                other(IMAGES)


@pytest.mark.parametrize("multi", [False, True], ids=["single", "multi"])
@pytest.mark.parametrize("name", JELLY)
def test_spikingjelly(name: str, multi: bool) -> None:
    node, reached = JELLY[name]
    net = jelly(node, multi)
    assert_equal_to_author(adapt(net, T=T), lambda x: jelly_author(net, x, multi), reached)


@pytest.mark.parametrize("name", MULTI_STEP_ONLY)
def test_spikingjelly_all_steps_at_once(name: str) -> None:
    node, reached = MULTI_STEP_ONLY[name]
    net = jelly(node, multi=True)
    assert_equal_to_author(adapt(net, T=T), lambda x: jelly_author(net, x, True), reached)


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates_of_spikingjelly(name: str) -> None:
    net = jelly(lambda: neuron.LIFNode(surrogate_function=SURROGATES[name]), multi=True)
    assert_equal_to_author(adapt(net, T=T), lambda x: jelly_author(net, x, True), ALL)


@pytest.mark.parametrize("name", SNN)
def test_snntorch_with_hidden_states(name: str) -> None:
    neuron, reached = SNN[name]
    net = Hidden(neuron).eval()
    assert_equal_to_author(adapt(net, T=T), lambda x: snn_author(net, x), reached)


@pytest.mark.parametrize("name", SNN)
def test_snntorch_with_a_loop_by_hand(name: str) -> None:
    neuron, _ = SNN[name]
    net = ByHand(neuron).eval()
    assert_equal_to_author(adapt(net), lambda x: snn_author(net, x), RECURSIONS)


@pytest.mark.parametrize("name", ["subtract", "zero", "none", "learned", "Lapicque"])
def test_a_reset_of_snntorch_passes_a_gradient_where_it_is_asked_to(name: str) -> None:
    """As in our kernels, which take the neuron's place where a call is one step."""
    neuron, _ = SNN[name]
    mode = "bptt(surrogate=atan(alpha=2),detach_reset=false)"
    expected = through(adapt(Hidden(neuron).eval(), T=T, gradient=mode))[1]
    found = through(adapt(ByHand(neuron).eval(), gradient=mode))[1]
    detached = through(adapt(ByHand(neuron).eval(), gradient=mode.replace("false", "true")))[1]
    assert_close_rms(found, expected)
    assert name == "none" or not torch.allclose(found, detached)


class OfImages(nn.Module):
    """A convolutional LSTM of spikes, which pools its membranes before they fire."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = snn.SConv2dLSTM(3, 4, 3, max_pool=2, threshold=0.1, init_hidden=True)
        self.last = nn.Linear(4 * (SIZE // 2) ** 2, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.last(self.cell(x).flatten(1)),)


def test_convolutional_lstm() -> None:
    net = OfImages().eval()
    assert_equal_to_author(adapt(net, T=T), lambda x: snn_author(net, x), RECURSIONS)


def test_a_neuron_of_snntorch_with_another_forward_keeps_it() -> None:
    class Halved(snn.Leaky):
        def forward(self, current: Tensor, mem: Tensor | None = None) -> Any:
            return super().forward(0.5 * current, mem)

    net = Hidden(lambda features, **form: Halved(0.8, **form)).eval()
    assert_equal_to_author(adapt(net, T=T), lambda x: snn_author(net, x), RECURSIONS)


class Headed(ByHand):
    """Its membranes are read, and a second head has a neuron that is left out."""

    def __init__(self, neuron: Callable[..., nn.Module]) -> None:
        super().__init__(neuron)
        self.other = snn.Leaky(0.5)

    def _step(self, node: nn.Module, current: Tensor, states: Any) -> tuple[Tensor, Any]:
        spikes, states = super()._step(node, current, states)
        return (spikes if node is self.hidden else states[-1]), states


def test_a_neuron_that_fires_for_nothing_stands_in_the_way_of_no_mode() -> None:
    victim = adapt(Headed(SNN["subtract"][0]).eval())
    assert victim.net.paths == ("hidden", "last", "other") and victim.net.neurons == ("hidden",)
    assert all(victim.takes(mode).refusal is None for mode in MODES)


def test_the_choice_of_a_neuron_among_others_is_named() -> None:
    victim = adapt(ByHand(SNN["inhibition"][0]).eval())
    missed = victim.takes("bptt").missed
    assert len(missed) == 2 and all("#argmax in line" in name for name in missed)


@pytest.mark.parametrize("given", [None, T])
def test_neurons_of_snntorch_that_take_all_steps_at_once(given: int | None) -> None:
    class AllSteps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(3 * SIZE**2, 8), nn.Linear(8, CLASSES)
            self.neuron = snn.StateLeaky(beta=0.8, channels=8, threshold=0.3)

        def forward(self, x: Tensor) -> Tensor:
            steps = x.flatten(2) if given else x.flatten(1).expand(T, -1, -1)
            return self.last(self.neuron(2 * self.first(steps))[0])

    victim = adapt(AllSteps().eval(), T=given, images=IMAGES)
    frames = IMAGES.expand(T, *IMAGES.shape) if given else IMAGES
    assert torch.allclose(victim(IMAGES), victim.net.net(frames).mean(0))
    assert victim.takes("bptt").refusal is None


def test_spikes_less_equal_ones_are_no_rounding() -> None:
    """As of a Leaky without delay, whose layer is silent in its first step."""

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3 * SIZE * SIZE, CLASSES)
            self.leaky = snn.Leaky(beta=0.5, reset_mechanism="zero", reset_delay=False)

        def forward(self, x: Tensor) -> Tensor:
            membrane, spikes = self.leaky.init_leaky(), []
            for _ in range(T):
                spike, membrane = self.leaky(
                    0.3 + 2 * self.linear(x.flatten(1)).sigmoid().pow(4), membrane
                )
                spikes.append(spike)
            return torch.stack(spikes)

    torch.manual_seed(0)
    net = Slow()
    spikes = net(IMAGES)
    assert not spikes[0].any() and spikes[1:].any()
    reach = adapt(net, images=IMAGES).takes("bptr")
    assert reach.neurons == ("leaky",) and not reach.missed and reach.refusal is None
