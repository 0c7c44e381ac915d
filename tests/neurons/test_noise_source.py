from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.kernels import derive_seed, sample_keys
from robust_snn.neurons import (
    LIF,
    NoisyLIF,
    PoissonEncoder,
    StochasticGate,
    change_settings,
    keyed,
    number_layers,
    set_noise,
)
from robust_snn.neurons.noise_source import NoisyModule, policy_keys
from robust_snn.neurons.pass_settings import DrawKeys
from robust_snn.utils.errors import InputError

SHAPE = (2, 5, 4)


@pytest.fixture
def gate(device: torch.device) -> StochasticGate:
    return StochasticGate(SHAPE, 0.5).to(device)


def gates(gate: nn.Module, batch: int = 3, steps: int = 4) -> torch.Tensor:
    return gate(torch.ones(steps, batch, *SHAPE))


def test_fresh_noise_differs_between_calls_and_samples(gate: StochasticGate) -> None:
    first, second = gates(gate), gates(gate)
    assert not torch.equal(first, second)
    assert not torch.equal(first[:, 0], first[:, 1])


def test_frozen_noise_makes_a_function_of_each_image(gate: StochasticGate) -> None:
    set_noise(gate, "frozen")
    first = gates(gate)
    assert torch.equal(first, gates(gate))
    assert torch.equal(first[:, 0], first[:, 2])
    assert torch.equal(first[:, :1], gates(gate, batch=1))


def test_noise_follows_its_seed_and_not_the_global_generator(gate: StochasticGate) -> None:
    set_noise(gate, "fresh", seed=7)
    first = [gates(gate), gates(gate)]
    torch.manual_seed(123)
    set_noise(gate, "fresh", seed=7)
    assert all(torch.equal(a, gates(gate)) for a in first)
    set_noise(gate, "fresh", seed=8)
    assert not torch.equal(first[0], gates(gate))


def test_drawing_leaves_the_global_generator_alone(gate: StochasticGate) -> None:
    before = torch.get_rng_state()
    gates(gate)
    assert torch.equal(before, torch.get_rng_state())


def test_keys_of_the_caller_decide_whatever_the_batch(gate: StochasticGate) -> None:
    keys = sample_keys(5, torch.arange(6))
    with keyed(keys):
        whole = gates(gate, batch=6)
    order = torch.tensor([4, 0, 5, 1])
    with keyed(keys[order]):
        assert torch.equal(whole[:, order], gates(gate, batch=4))


def test_a_later_step_does_not_change_an_earlier_draw(gate: StochasticGate) -> None:
    set_noise(gate, "frozen")
    assert torch.equal(gates(gate, steps=3), gates(gate, steps=9)[:3])


def test_layers_draw_differently_once_numbered(device: torch.device) -> None:
    net = nn.Sequential(StochasticGate(SHAPE, 0.5), StochasticGate(SHAPE, 0.5)).to(device)
    number_layers(net)
    set_noise(net, "frozen", seed=0)
    assert [m.layer for m in net.modules() if isinstance(m, NoisyModule)] == [0, 1]
    assert not torch.equal(gates(net[0]), gates(net[1]))


class EveryStep(nn.Module):
    """One module for every time step, as a network that writes its own loop uses it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.module(x[None]) for _ in range(8)]).transpose(0, 1).flatten(1)


@pytest.mark.parametrize("name", ["gate", "encoder", "neuron"])
def test_a_module_draws_anew_at_every_use_in_a_pass(name: str, device: torch.device) -> None:
    module = {
        "gate": StochasticGate(SHAPE, 0.5),
        "encoder": PoissonEncoder(),
        "neuron": NoisyLIF("gaussian(sigma=0.5)"),
    }[name].to(device)
    victim, x = Victim(EveryStep(module).eval()), torch.full((2, *SHAPE), 0.5)
    if name == "gate":
        x = torch.ones(2, *SHAPE)
    steps = victim.sample(x, torch.arange(2)).unflatten(1, (8, -1))
    assert not any(torch.equal(steps[:, 0], steps[:, t]) for t in range(1, 8))
    assert torch.equal(steps.flatten(1), victim.sample(x, torch.arange(2)))  # of the same draw
    with keyed(sample_keys(derive_seed(0, "report"), torch.arange(2, device=x.device))):
        assert torch.equal(steps[:, 0], module(x[None])[0].flatten(1))  # the first use as ever


def test_a_second_victim_around_a_network_changes_no_draw(device: torch.device) -> None:
    first, second = (LIF(gate=StochasticGate(SHAPE, 0.5)) for _ in range(2))
    net = EveryStep(second).to(device).eval()
    victim, x = Victim(net), torch.ones(2, *SHAPE)
    before = victim.sample(x, torch.arange(2))
    Victim(nn.Sequential(nn.Identity(), EveryStep(first), net))
    assert torch.equal(before, victim.sample(x, torch.arange(2)))


def test_recorded_draws_are_replayed(device: torch.device) -> None:
    layers = [LIF(gate=StochasticGate(SHAPE, 0.5)) for _ in range(2)]
    net = nn.Sequential(*layers).to(device)
    current = torch.rand(4, 3, *SHAPE)
    recorded: list[DrawKeys] = []
    with change_settings(recorded=recorded):
        first = net(current)
    for _ in range(2):  # any number of times
        with change_settings(replayed=iter(recorded)):
            assert torch.equal(first, net(current))
    assert not torch.equal(first, net(current))


def test_keys_of_a_caller_are_replayed_in_place_of_later_keys(gate: StochasticGate) -> None:
    recorded: list[DrawKeys] = []
    with change_settings(recorded=recorded), keyed(sample_keys(1, torch.arange(3))):
        first = gates(gate)
    with change_settings(replayed=iter(recorded)), keyed(sample_keys(2, torch.arange(3))):
        assert torch.equal(first, gates(gate))


def test_policies_name_their_keys() -> None:
    fresh = policy_keys("fresh", 0, 4, call=0)
    assert len(fresh.unique()) == 4
    assert not torch.equal(fresh, policy_keys("fresh", 0, 4, call=1))
    frozen = policy_keys("frozen", 0, 4, call=0)
    assert len(frozen.unique()) == 1
    assert torch.equal(frozen, policy_keys("frozen", 0, 4, call=1))


def test_an_unknown_policy_is_refused(gate: StochasticGate) -> None:
    with pytest.raises(InputError, match="did you mean 'frozen'"):
        set_noise(gate, "frosen")
