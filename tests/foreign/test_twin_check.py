"""Twins are compared where it counts: per neuron and step, on images that make the neurons fire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robust_snn import InputError, Victim, adapt
from robust_snn.adapters import art
from robust_snn.foreign.twin import SILENT

pytest.importorskip("spikingjelly", reason="needs spikingjelly")
from spikingjelly.activation_based import functional, layer, neuron

T, CLASSES = 6, 4
IMAGES = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(2))
BLACK = torch.zeros(5, 1, 4, 4)


def net_around(middle: nn.Module, multi: bool = False) -> nn.Module:
    """A few layers around `middle`, which maps 12 features to 12."""
    torch.manual_seed(0)
    net = nn.Sequential(layer.Flatten(), layer.Linear(16, 12, bias=False), middle)
    net.append(layer.Linear(12, CLASSES))
    net[1].weight.data *= 8
    if multi:
        functional.set_step_mode(net, "m")
    return net.eval()


def linear_feedback() -> nn.Module:
    container = layer.LinearRecurrentContainer(neuron.LIFNode(), 12, 12, bias=False)
    container.rc.weight.data *= 4
    return container


def elementwise_feedback() -> nn.Module:
    return layer.ElementWiseRecurrentContainer(neuron.IFNode(), lambda x, y: x - 2 * y)


class Twice(nn.Module):
    """One neuron that is called two times a step."""

    def __init__(self) -> None:
        super().__init__()
        self.node = neuron.IFNode()

    def forward(self, x: Tensor) -> Tensor:
        return self.node(self.node(x) + x)


class InSingle(nn.Module):
    """It keeps float32 inside, whatever its weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.node, self.linear = neuron.IFNode(), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.node(x).float())


class OtherwiseFor(nn.Module):
    """Right for any batch, but for that of one size: all steps of a smaller one at once."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.node, self.size = neuron.IFNode(), size

    def forward(self, x: Tensor) -> Tensor:
        return self.node(x if len(x) != self.size else 0.5 * x)


KEEPS_ITS_OWN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "linear feedback": (linear_feedback, "other currents"),
    "elementwise feedback": (elementwise_feedback, "other currents"),
    "two calls a step": (Twice, "called 12 times"),
    "float32 inside": (InSingle, "does not run in double precision"),
}


def assert_true(victim: Victim, x: Tensor = IMAGES) -> None:
    """The attack's view of the net is the net, as its author runs it."""
    x = x.clone().requires_grad_()
    logits = victim(x)
    assert torch.equal(logits, victim.sample(x, torch.arange(len(x))))
    torch.autograd.grad(logits.sum(), x)


@pytest.mark.parametrize("first", ["images", "black images", "to_art"])
@pytest.mark.parametrize("name", KEEPS_ITS_OWN)
def test_what_cannot_run_all_steps_at_once_does_not(name: str, first: str) -> None:
    middle, message = KEEPS_ITS_OWN[name]
    victim = adapt(net_around(middle()), T=T)
    if first == "to_art":
        art.to_art(victim, input_shape=(1, 4, 4))
    else:
        victim(IMAGES if first == "images" else BLACK)
    assert_true(victim)
    assert message in victim.net.whole_refusal
    victim(IMAGES)
    assert_true(victim.replace(gradient="rga"))  # by the recursion that the neuron showed
    fed_back = "act on it" in (victim.takes("hart").refusal or "")
    assert fed_back == (name != "float32 inside")


@pytest.mark.parametrize("middle", [linear_feedback, elementwise_feedback])
def test_a_container_that_runs_its_own_steps_keeps_its_neuron(
    middle: Callable[[], nn.Module],
) -> None:
    net = net_around(middle(), multi=True)
    net.append(neuron.IFNode(step_mode="m"))
    victim = adapt(net, T=T)
    assert_true(victim)
    assert victim.net.whole_refusal is None
    assert "once a step" in victim.net.refusals["2.sub_module"]
    assert set(victim.net.refusals) == {"2.sub_module"}
    assert_true(victim.replace(gradient="rga"))
    with pytest.raises(InputError, match="hart cannot be used on Sequential: .* act on it"):
        victim.replace(gradient="hart")(IMAGES)


def test_a_silent_neuron_is_compared_when_it_fires() -> None:
    victim = adapt(net_around(neuron.LIFNode()), T=T, images=BLACK)
    victim(BLACK)
    assert victim.net.refusals == {"2": SILENT}
    victim(IMAGES)
    assert_true(victim)
    assert victim.net.refusals == {}
    victim(BLACK)
    assert victim.net.refusals == {}


def test_the_images_that_made_it_fire_are_compared() -> None:
    victim = adapt(net_around(neuron.LIFNode()), T=T, images=BLACK)
    one_of_many = torch.cat([torch.zeros(20, 1, 4, 4), IMAGES[:1], torch.zeros(20, 1, 4, 4)])
    victim(one_of_many)
    assert victim.net.refusals == {"2": SILENT}
    victim(one_of_many)
    assert victim.net.refusals == {}


@pytest.mark.parametrize("batch", [1, 20])
def test_it_is_compared_again_when_the_batch_changes_shape(batch: int) -> None:
    victim = adapt(net_around(OtherwiseFor(T * batch)), T=T)
    assert_true(victim)
    assert victim.net.refusals == {}
    assert_true(victim, IMAGES[:1].expand(batch, -1, -1, -1))
    assert "other currents" in victim.net.whole_refusal


def test_event_frames_must_have_as_many_steps_as_the_net() -> None:
    victim = adapt(net_around(neuron.IFNode()), T=T)
    with pytest.raises(InputError, match=f"T is {T}, but the event frames have 3 steps"):
        victim(IMAGES[:, None].expand(-1, 3, -1, -1, -1))


def test_a_net_without_a_copy_keeps_its_neurons() -> None:
    class NoCopy(neuron.IFNode):
        def __deepcopy__(self, memo: object) -> NoCopy:
            raise RuntimeError("cannot be copied")

    victim = adapt(net_around(NoCopy()), T=T)
    assert_true(victim)
    assert "no copy in double precision (cannot be copied)" in victim.net.whole_refusal
