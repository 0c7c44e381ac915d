"""Draws that pass together as one batch: the numbers of draws that pass one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import assert_close_rms
from robust_snn import InputError, Victim
from robust_snn.foreign.unadapted import refuse_unreached
from robust_snn.neurons import StochasticGate
from robust_snn.victim.averaged_draws import CPU_PIXELS, DrawBatch
from victims import SHAPE, tiny_victim

VIEWS = (
    {},
    {"noise": "frozen"},
    {"output": "steps", "gradient": "hart"},
    {"gradient": "pdsg"},
    {"channels_last": True},
)


def step(victim: Victim, images: Tensor) -> tuple[Tensor, Tensor]:
    x = images.clone().requires_grad_()
    logits = victim(x)
    weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), x)[0]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, *SHAPE)


@pytest.mark.parametrize("together", [2, 5, 8])
@pytest.mark.parametrize("view", VIEWS)
def test_draws_that_pass_together_give_the_same(view: dict, together: int, images: Tensor) -> None:
    alone = tiny_victim(noisy=True).replace(eot=5, **view)
    batched = alone.replace(eot_batch=together)
    for _ in range(2):
        for got, wanted in zip(step(batched, images), step(alone, images), strict=True):
            assert_close_rms(got, wanted)
        with torch.no_grad():
            assert_close_rms(batched(images), alone(images))
    assert batched.cost.backwards == alone.cost.backwards
    assert batched.cost.forwards <= alone.cost.forwards


class Sum(torch.nn.Module):
    """The sum of an image passes a gate: each pixel has one gradient, which is no memory each."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = StochasticGate((3,), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        passed: Tensor = self.gate(x.sum((1, 2, 3))[:, None].expand(-1, 3)[None])[0]
        return passed


def test_gradients_that_share_memory_add_up(images: Tensor) -> None:
    victim = Victim(Sum(), eot=4, seed=3)
    logits, gradient = step(victim, images)
    # every logit is the sum times the share of open gates
    open_gates = logits / images.sum((1, 2, 3))[:, None]
    wanted = (open_gates * torch.linspace(-1, 1, 9).view(3, 3)).sum(1)
    assert torch.allclose(gradient, wanted[:, None, None, None].expand_as(gradient), atol=1e-6)


class Watched(torch.nn.Module):
    """Notes the sizes of batches, and has memory for so many images."""

    def __init__(self, net: torch.nn.Module, memory: int = 1000) -> None:
        super().__init__()
        self.net, self.memory, self.sizes = net, memory, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.sizes.append(len(x))
        return self.net(x)


def watched(memory: int = 1000, **settings: object) -> tuple[Victim, list[int]]:
    net = Watched(tiny_victim(noisy=True).net, memory)
    refuse_unreached(net, torch.rand(1, *SHAPE), list(net.modules()))  # as a first image does
    net.sizes.clear()
    return Victim(net, eot=5, **settings), net.sizes


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, [3, 3, 3, 3, 3, 3, 3, 3, 3]),  # the last draw keeps its graph
        ({"eot_batch": 2}, [6, 6, 3, 6, 6]),
        ({"eot_batch": 8}, [15]),
        ({"eot_batch": 5, "noise": "mean"}, [3]),
        ({"eot_batch": 5, "gradient": "pdsg(scope=batch)"}, [3, 3, 3, 3, 3, 3, 3, 3, 3]),
        ({"eot_batch": 5, "gradient": "assg"}, [3, 3, 3, 3, 3, 3, 3, 3, 3]),
    ],
)
def test_as_many_draws_pass_together_as_may(settings: dict, sizes: list, images: Tensor) -> None:
    victim, seen = watched(**settings)
    step(victim, images)
    assert seen == sizes
    assert victim.cost.forwards == sum(sizes)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, [15]),
        ({"gradient": "assg"}, [15]),  # no gradient, no mixing
        ({"eot_batch": 2}, [6, 6, 3]),
        ({"eot_batch": 1}, [3, 3, 3, 3, 3]),
    ],
)
def test_draws_of_scores_pass_together(settings: dict, sizes: list, images: Tensor) -> None:
    victim, seen = watched(**settings)
    ids = torch.tensor([7, 3, 9])
    drawn = victim.samples(images, ids, range(2, 7), "query")
    assert seen == sizes
    assert victim.cost.forwards == 15
    for draw, logits in zip(range(2, 7), drawn, strict=True):
        assert_close_rms(logits, victim.sample(images, ids, draw, "query"))


def test_large_images_are_scored_a_draw_at_a_time_on_cpus() -> None:
    assert DrawBatch("auto", CPU_PIXELS).fitting(torch.zeros(8, 1, 16, 16), 64, int) == 16
    assert DrawBatch("auto", CPU_PIXELS).fitting(torch.zeros(12, 3, 32, 32), 64, int) == 1


def test_draws_that_do_not_fit_are_halved_once(images: Tensor) -> None:
    victim, seen = watched(memory=6, eot_batch=5)
    step(victim, images)
    assert seen == [6, 6, 3, 6, 6]
    seen.clear()
    with torch.no_grad():
        victim(images)
    assert seen == [6, 6, 3]
    victim, seen = watched(memory=2, eot_batch=5)
    with pytest.raises(torch.OutOfMemoryError):
        victim(images)


def test_a_backward_pass_that_does_not_fit_starts_over(images: Tensor) -> None:
    victim, seen = watched(eot_batch=2)
    expected = step(victim.replace(), images)[1]
    x = images.clone().requires_grad_()
    logits = victim(x)
    weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    victim.net.memory = 3
    seen.clear()
    (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    assert seen == [3] * 5
    assert_close_rms(gradient, expected)


@pytest.mark.parametrize("wrong", [0, True, "many", 1.5])
def test_a_wrong_setting_is_named(wrong: object) -> None:
    with pytest.raises(InputError, match="eot_batch must be 'auto' or a count of draws"):
        tiny_victim(noisy=True).replace(eot_batch=wrong)
