"""Nets of SpikingJelly, snnTorch and registered libraries: same spikes and gradients, no trace."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import assert_close_rms, logits_and_gradient
from robust_snn import InputError, Victim, adapt
from robust_snn.foreign import ForeignSNN, Library, overriding, register

T, CLASSES = 5, 4
RATE = ("bptr", "rga", "hart")
MODES = (*RATE, "bptt(surrogate=atan(alpha=4))", "ste", "pdsg", "assg")
IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def stack(conv: Any, flatten: Any, linear: Any, neuron: Callable[..., nn.Module]) -> nn.Module:
    """Two convolutions and a linear layer, each with neurons that fire."""
    torch.manual_seed(0)
    net = nn.Sequential(
        conv(3, 4, 3, stride=2, padding=1),
        neuron(),
        conv(4, 8, 3, stride=2, padding=1),
        neuron(),
        flatten(),
        linear(32, CLASSES),
        neuron(last=True),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data *= 6
            module.bias.data += 1
    return net.eval()


def jelly(kind: str = "LIFNode", multi: bool = False, **arguments: Any) -> nn.Module:
    pytest.importorskip("spikingjelly", reason="needs spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    source = layer if multi else nn
    net = stack(
        source.Conv2d,
        source.Flatten,
        source.Linear,
        lambda last=False: getattr(neuron, kind)(**arguments),
    )
    if multi:
        functional.set_step_mode(net, "m")
    return net


def jelly_atan(**arguments: Any) -> nn.Module:
    pytest.importorskip("spikingjelly", reason="needs spikingjelly")
    from spikingjelly.activation_based import surrogate

    return jelly(surrogate_function=surrogate.ATan(), **arguments)


def torch_snn(**arguments: Any) -> nn.Module:
    snntorch = pytest.importorskip("snntorch", reason="needs snntorch")
    arguments = {"beta": 0.9, "init_hidden": True, **arguments}
    return stack(
        nn.Conv2d,
        nn.Flatten,
        nn.Linear,
        lambda last=False: snntorch.Leaky(**arguments, output=last),
    )


READABLE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "single step": (jelly, "bptt(surrogate=sigmoid(alpha=4),detach_reset=false)"),
    "multi step": (
        lambda: jelly(multi=True),
        "bptt(surrogate=sigmoid(alpha=4),detach_reset=false)",
    ),
    "integrate": (
        lambda: jelly_atan(kind="IFNode", multi=True, v_reset=-0.5),
        "bptt(surrogate=atan(alpha=2),detach_reset=false)",
    ),
    "soft reset": (
        lambda: jelly_atan(tau=3.0, v_reset=None, detach_reset=True),
        "bptt(surrogate=atan(alpha=2),detach_reset=true)",
    ),
    "undecayed input": (
        lambda: jelly_atan(tau=3.0, v_reset=-0.3, decay_input=False, multi=True),
        "bptt(surrogate=atan(alpha=2),detach_reset=false)",
    ),
    "parametric": (
        lambda: jelly_atan(kind="ParametricLIFNode", init_tau=1.5),
        "bptt(surrogate=atan(alpha=2),detach_reset=false)",
    ),
    "snntorch": (torch_snn, "bptt(surrogate=atan(alpha=2),detach_reset=true)"),
    "snntorch, to zero": (
        lambda: torch_snn(reset_mechanism="zero", threshold=0.7),
        "bptt(surrogate=atan(alpha=2),detach_reset=true)",
    ),
    "snntorch, to zero at once": (
        lambda: torch_snn(reset_mechanism="zero", reset_delay=False),
        "bptt(surrogate=atan(alpha=2),detach_reset=false)",
    ),
    "snntorch, no reset": (
        lambda: torch_snn(reset_mechanism="none", beta=0.5),
        "bptt(surrogate=atan(alpha=2),detach_reset=true)",
    ),
}
UNREADABLE: dict[str, Callable[[], nn.Module]] = {
    "EIFNode": lambda: jelly("EIFNode", multi=True),
    "QIFNode": lambda: jelly("QIFNode"),
    "two resets": lambda: torch_snn(reset_delay=False),
    "half spikes": lambda: torch_snn(graded_spikes_factor=0.5),
}


def through(victim: Victim, x: Tensor = IMAGES) -> tuple[Tensor, Tensor]:
    return logits_and_gradient(victim, x)


@pytest.mark.parametrize("name", READABLE)
def test_twin_has_the_same_spikes_and_gradients(name: str) -> None:
    build, mode = READABLE[name]
    net = build()
    victim = adapt(net, T=T)
    assert str(victim.gradient) == mode
    logits, gradient = through(victim)
    assert victim.net.refusals == {}
    own_logits, own_gradient = through(adapt(net, T=T, gradient="own"))
    assert logits.std() > 0 and gradient.norm() > 0
    assert torch.equal(logits, own_logits)
    assert torch.equal(victim.sample(IMAGES, torch.arange(3)), logits)
    assert_close_rms(gradient, own_gradient)
    for other in MODES:
        again, changed = through(victim.replace(gradient=other))
        assert torch.equal(again, logits) and not torch.equal(changed, gradient)


@pytest.mark.parametrize("name", UNREADABLE)
def test_others_keep_their_neurons(name: str) -> None:
    net = UNREADABLE[name]()
    victim = adapt(net, T=T)
    logits, gradient = through(victim)
    assert len(victim.net.refusals) == 3 and victim.net.whole_refusal is None
    assert torch.equal(logits, through(adapt(net, T=T, gradient="own"))[0])
    again, changed = through(victim.replace(gradient="bptt(surrogate=triangle(gamma=1))"))
    assert torch.equal(again, logits) and not torch.equal(changed, gradient)
    for mode in (*RATE, "pdsg", "assg"):  # a mode reaches the spike functions, or is refused
        other = victim.replace(gradient=mode)
        if victim.takes(mode).refusal is None:
            assert torch.equal(through(other)[0], logits)
        else:
            with pytest.raises(InputError, match=f"{mode} cannot be used on"):
                other(IMAGES)


@pytest.mark.parametrize("build", [jelly, torch_snn], ids=["spikingjelly", "snntorch"])
def test_net_is_left_as_it_was_and_others_alone(build: Callable[[], nn.Module]) -> None:
    net, bystander = build(), build()
    bystander(IMAGES)
    through(adapt(net, T=T, gradient="own"))  # a run itself adds attributes to snnTorch's neurons
    held = {name: value.clone() for name, value in _memories(bystander)}
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    modules = dict(net.named_modules())
    attributes = {path: sorted(vars(m)) for path, m in modules.items()}
    first = through(victim := adapt(net, T=T, gradient="bptr"))
    second = through(victim)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert dict(net.named_modules()) == modules
    assert {path: sorted(vars(m)) for path, m in modules.items()} == attributes
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert all(not value.requires_grad and not value.any() for _, value in _memories(net))
    assert held and all(torch.equal(value, held[name]) for name, value in _memories(bystander))
    twin = copy.deepcopy(victim)
    assert torch.equal(through(twin)[1], first[1])
    assert twin.net.net[1] is not net[1] and twin.net.members[0].node is twin.net.net[1]


def _memories(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for path, module in net.named_modules():
        held = {**getattr(module, "_memories", {}), "mem": getattr(module, "mem", None)}
        yield from (
            (f"{path}.{name}", value) for name, value in held.items() if isinstance(value, Tensor)
        )


def test_a_victim_can_be_pickled() -> None:
    victim = adapt(jelly(), T=T)
    expected = through(victim)
    found = through(pickle.loads(pickle.dumps(victim)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_state_goes_even_when_a_call_fails() -> None:
    net = jelly()
    victim = adapt(net, T=T)
    with pytest.raises(InputError, match="expected input.* to have 3 channels, but got 5"):
        victim(torch.rand(1, 5, 8, 8))
    assert not list(_memories(net))


class LosesGradient(nn.Module):
    """An integrate-and-fire neuron that forgets its surrogate in eval, as 0.0.0.0.14's do."""

    def __init__(self) -> None:
        super().__init__()
        self.v_threshold, self.detach_reset, self.v = 1.0, False, 0.0
        self.surrogate_function = _Surrogate()

    def reset(self) -> None:
        self.v = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = self.v + x
        z = self.v - self.v_threshold
        spike = self.surrogate_function(z) if self.training else (z >= 0).to(z)
        self.v = (1 - spike) * self.v
        return spike


class _Surrogate(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        soft = torch.sigmoid(4 * z)
        return (z >= 0).to(z) + (soft - soft.detach())


class Skip(nn.Module):
    """With a way round its neurons, an eval gradient is silently partial instead of absent."""

    def __init__(self) -> None:
        super().__init__()
        self.body = stack(nn.Conv2d, nn.Flatten, nn.Linear, lambda last=False: LosesGradient())
        self.way_round = nn.Linear(192, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + 0.01 * self.way_round(x.flatten(1))


def test_gradients_lost_in_eval_come_back(caplog: pytest.LogCaptureFixture) -> None:
    net = Skip().eval()

    def by_hand() -> tuple[Tensor, Tensor]:
        for node in net.modules():
            if isinstance(node, LosesGradient):
                node.reset()
        return logits_and_gradient(
            lambda x: torch.stack([net(x) for _ in range(T)]).mean(0), IMAGES
        )

    logits, partial = by_hand()
    for node in net.modules():
        node.training = isinstance(node, LosesGradient)
    repaired, true = by_hand()
    net.eval()
    assert partial.norm() < 0.1 * true.norm()  # the trap is there

    with caplog.at_level("WARNING", "robust_snn"):
        victim = adapt(net, T=T, gradient="own")
    assert "3 neurons of Skip lose their gradient in eval()" in caplog.text
    found, gradient = through(victim)
    assert torch.equal(found, logits) and torch.equal(found, repaired)
    assert_close_rms(gradient, true)
    assert not any(module.training for module in net.modules())
    surrogate = "bptt(surrogate=sigmoid(alpha=4))"
    assert_close_rms(through(adapt(net, T=T, gradient=surrogate))[1], true)


class ByHand(nn.Module):
    """snnTorch as its tutorials write it: the membrane is passed along, the loop is the net's."""

    def __init__(self) -> None:
        snntorch = pytest.importorskip("snntorch", reason="needs snntorch")
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(192, CLASSES)
        self.neuron = snntorch.Leaky(beta=0.9)
        self.linear.weight.data *= 6

    def forward(self, x: Tensor) -> Tensor:
        membrane, total = self.neuron.reset_mem(), 0
        for _ in range(T):
            spikes, membrane = self.neuron(self.linear(x.flatten(1)), membrane)
            total = total + spikes
        return total


def test_a_forward_of_the_users_own() -> None:
    victim = adapt(ByHand())
    logits, gradient = through(victim)
    own = through(adapt(victim.net.net, gradient="own"))
    assert torch.equal(logits, own[0]) and torch.allclose(gradient, own[1])
    again, changed = through(victim.replace(gradient="bptt(surrogate=triangle(gamma=1))"))
    assert torch.equal(again, logits) and not torch.equal(changed, gradient)
    again, changed = through(victim.replace(gradient="bptr"))
    assert torch.equal(again, logits) and not torch.equal(changed, gradient)


def test_a_multi_step_net_inside_the_users_own_forward() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = jelly(multi=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.expand(T, *x.shape)).mean(0)

    victim = adapt(Whole())
    assert torch.equal(through(victim)[0], through(adapt(jelly(), T=T))[0])
    assert victim.net.refusals == {}
    assert through(victim.replace(gradient="hart"))[1].norm() > 0


def test_a_net_with_feedback_keeps_its_neurons() -> None:
    class Feedback(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.last = jelly(), Memory()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.body(x))

    class Memory(nn.Module):
        _memories: dict[str, float] = {}

        def reset(self) -> None:
            self.held = None

        def forward(self, x: Tensor) -> Tensor:
            held, self.held = getattr(self, "held", None), x
            return x if held is None else x + 0.5 * held

    victim = adapt(Feedback(), T=T)
    logits, gradient = through(victim)
    assert "all steps at once" in victim.net.whole_refusal
    own = through(adapt(victim.net.net, T=T, gradient="own"))
    assert torch.equal(logits, own[0]) and torch.allclose(gradient, own[1], rtol=1e-4)
    rga = through(victim.replace(gradient="rga"))  # by the recursion that its neurons showed
    assert victim.takes("rga").refusal is None and torch.equal(rga[0], logits) and rga[1].any()


def test_neurons_with_a_gradient_of_their_own_are_reported() -> None:
    victim = adapt(jelly("SLTTLIFNode"), T=T)
    assert str(victim.gradient) == "own"
    with pytest.raises(InputError, match="SLTTLIFNode brings a gradient of its own"):
        victim.replace(gradient="bptt")(IMAGES)


def test_a_disabled_surrogate_is_reported() -> None:
    net = torch_snn(surrogate_disable=True)
    with pytest.raises(InputError, match="no gradient of Sequential reaches the image"):
        through(adapt(net, T=T))
    assert through(adapt(net, T=T, gradient="bptt(surrogate=atan(alpha=2))"))[1].norm() > 0


def test_a_registered_library() -> None:
    class Unit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fire, self.u = _Surrogate(), 0.0

        def forward(self, x: Tensor) -> Tensor:
            self.u = 0.5 * self.u + x
            return self.fire(self.u - 1)

    library = Library(
        "units",
        owns=lambda module: isinstance(module, Unit),
        swap=lambda node, spike, detach_reset: overriding(node, fire=spike),
        reset=lambda node: setattr(node, "u", 0.0),
    )
    net = stack(nn.Conv2d, nn.Flatten, nn.Linear, lambda last=False: Unit())
    register(library)
    try:
        with pytest.raises(InputError, match="registered already"):
            register(library)
        victim = adapt(net, T=T)
        logits, gradient = through(victim)
        for mode in ("bptt(surrogate=triangle(gamma=1))", "ste"):
            again, changed = through(victim.replace(gradient=mode))
            assert torch.equal(again, logits) and not torch.equal(changed, gradient)
    finally:
        from robust_snn.foreign import library as _library

        del _library._REGISTERED["units"]


@pytest.mark.parametrize("encoder", ["poisson", "latency", "phase"])
def test_encoders_reach_the_pixels(encoder: str) -> None:
    victim = adapt(jelly("IFNode"), T=T, encoder=encoder)
    assert victim.stochastic == (encoder == "poisson")
    logits, gradient = through(victim.replace(noise="frozen", eot=2))
    assert gradient.norm() > 0
    assert torch.equal(through(victim.replace(noise="frozen", eot=2))[0], logits)


def test_event_frames_need_no_encoder() -> None:
    victim = adapt(jelly(), T=T)
    frames = IMAGES[:, None].expand(-1, T, -1, -1, -1)
    assert torch.equal(victim(frames), victim(IMAGES))


@pytest.mark.parametrize("readout", ["mean", "sum", "max", "last"])
def test_readouts(readout: str) -> None:
    net = jelly(multi=True)
    out = ForeignSNN(net, T, readout=readout)(IMAGES)
    from spikingjelly.activation_based import functional

    spikes = net(IMAGES.expand(T, *IMAGES.shape))
    functional.reset_net(net)
    by_name = {"mean": spikes.mean(0), "sum": spikes.sum(0), "last": spikes[-1]}
    assert torch.equal(out, by_name.get(readout, spikes.amax(0)))


class Shaky(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = jelly("IFNode")

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x + 0.3 * torch.rand_like(x))


def test_random_nets_must_say_so_and_then_draw_from_the_victim() -> None:
    with pytest.raises(InputError, match="answers the same images differently"):
        adapt(Shaky(), T=T)(IMAGES)
    victim = adapt(Shaky(), T=T, random=True)
    assert victim.stochastic
    state = torch.get_rng_state()
    first = through(victim)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first[0], through(victim)[0])
    frozen = victim.replace(noise="frozen", eot=3)
    torch.rand(3)
    expected = through(frozen)
    torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(through(frozen), expected, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "poison", "T": 2}, "did you mean 'poisson'"),
        ({"readout": "men", "T": 2}, "did you mean 'mean'"),
        ({"encoder": "poisson"}, "give adapt"),
        ({"T": 0}, "T must be at least 1"),
        ({"T": 1.5}, "T must be a whole number"),
        ({"T": 10**9}, "T must be at most 1000000 steps"),
        ({"T": 2, "eott": 3}, "did you mean 'eot'"),
        ({"T": 2, "gradient": "bppt"}, "did you mean 'bptt'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapt(jelly(), **arguments)
