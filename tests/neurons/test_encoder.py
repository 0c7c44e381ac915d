"""Oracle 9: Poisson coding of pixels, and that it is a gate on an input of ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import assert_close_rms
from robust_snn.kernels import open_gates, sample_keys
from robust_snn.neurons import (
    FirstEncoder,
    LatencyEncoder,
    PhaseEncoder,
    PoissonEncoder,
    StochasticGate,
    keyed,
    set_noise,
)
from robust_snn.utils.errors import InputError

PIXELS = [0.0, 0.1, 0.35, 0.5, 0.8, 1.0]
SAMPLES, STEPS = 4000, 8


def spikes(pixels: list[float]) -> torch.Tensor:
    x = torch.tensor(pixels)
    return PoissonEncoder()(x.expand(1, SAMPLES, -1), steps=STEPS)


def test_mean_and_variance_are_those_of_the_pixel() -> None:
    s, pixels = spikes(PIXELS).flatten(0, 1), torch.tensor(PIXELS)
    assert set(s.unique().tolist()) == {0.0, 1.0}
    sigma = (pixels * (1 - pixels) / len(s)).sqrt()
    assert ((s.mean(0) - pixels).abs() <= 5 * sigma).all()
    assert (s.var(0) - pixels * (1 - pixels)).abs().max() < 0.01


def test_pixels_outside_the_range_saturate() -> None:
    s = spikes([-0.5, 1.5])
    assert s[..., 0].sum() == 0
    assert s[..., 1].all()


def test_the_gradient_is_exact_for_a_linear_readout_and_gated_outside_the_range() -> None:
    encoder, weight = PoissonEncoder(), torch.randn(STEPS, 1, 5)
    x = torch.tensor([-0.1, 0.0, 0.4, 1.0, 1.1]).view(1, 1, 5).requires_grad_()
    (encoder(x, steps=STEPS) * weight).sum().backward()
    # E[loss] = sum_t w_t clip(x), whose derivative is sum_t w_t inside [0, 1]
    inside = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    assert_close_rms(x.grad.flatten(), weight.sum(0).flatten() * inside)


def test_frames_are_sampled_one_by_one() -> None:
    frames = torch.rand(STEPS, 3, 4).round()
    assert torch.equal(PoissonEncoder()(frames), frames)


def test_the_mean_field_is_the_clipped_pixel_with_the_same_gradient() -> None:
    encoder = PoissonEncoder()
    set_noise(encoder, "mean")
    x = torch.tensor([[[-0.5, 0.0, 0.3, 1.5]]], requires_grad=True)
    rates = encoder(x, steps=3)
    assert torch.equal(rates, x.clamp(0, 1).expand(3, -1, -1))
    rates.sum().backward()
    assert x.grad.flatten().tolist() == [0.0, 3.0, 3.0, 0.0]


def test_noise_is_keyed_by_sample_and_leaves_images_alone() -> None:
    encoder, x = PoissonEncoder(), torch.rand(1, 6, 9)
    keys, order = sample_keys(3, torch.arange(6)), torch.tensor([5, 2, 0])
    with keyed(keys):
        whole = encoder(x, steps=5)
    with keyed(keys[order]):
        assert torch.equal(whole[:, order], encoder(x[:, order], steps=5))


def test_poisson_coding_is_a_gate_on_an_input_of_ones() -> None:
    keys = sample_keys(0, torch.arange(SAMPLES))
    p = torch.tensor([0.15, 0.5, 0.9])
    gated = torch.ones(STEPS, SAMPLES, 3) * open_gates(p, keys, STEPS, 0, False)
    with keyed(keys):
        coded = PoissonEncoder()(p.expand(1, SAMPLES, -1), steps=STEPS)
    # the same law: every pixel and every pair of (step, pixel) agrees in its first two moments
    for moments in (lambda s: s.mean((0, 1)), lambda s: torch.cov(s.transpose(1, 2).flatten(0, 1))):
        assert (moments(gated) - moments(coded)).abs().max() < 5 / SAMPLES**0.5
    # and the same network: under the mean field, both present p
    gate, encoder = StochasticGate((3,), 0.5), PoissonEncoder()
    gate.probability = nn.Parameter(p)
    for module in (gate, encoder):
        set_noise(module, "mean")
    presented = encoder(p.expand(1, 2, -1), steps=4)
    assert torch.equal(gate(torch.ones(4, 2, 3)), presented)


def test_the_gradient_on_ones_gates_is_that_of_the_pixels_up_to_the_relaxation(
    device: torch.device,
) -> None:
    gate = StochasticGate((1,), 0.5).to(device)
    gate(torch.ones(STEPS, SAMPLES, 1)).mean().backward()
    x = torch.full((1, SAMPLES, 1), 0.5, requires_grad=True)
    PoissonEncoder()(x, steps=STEPS).mean().backward()
    assert float(x.grad.sum()) == pytest.approx(1.0)
    assert float(gate.probability.grad) == pytest.approx(0.86, abs=0.03)


def test_latency_coding_spikes_once_and_earlier_for_brighter_pixels() -> None:
    x = torch.tensor([0.0, 0.1, 0.25, 0.6, 1.0]).view(1, 1, 5)
    s = LatencyEncoder()(x, steps=4)
    assert s.sum(0).flatten().tolist() == [0, 1, 1, 1, 1]
    assert s.argmax(0).flatten()[1:].tolist() == [3, 3, 1, 0]


def test_information_first_coding_is_a_rate_code_whose_spikes_come_first() -> None:
    x = torch.tensor([-0.5, 0.0, 0.1, 0.25, 0.6, 1.0, 1.5]).view(1, 1, 7)
    s = FirstEncoder()(x, steps=4)
    assert s.sum(0).flatten().tolist() == [0, 0, 1, 1, 3, 4, 4]
    assert (s.diff(dim=0) <= 0).all()


def test_phase_coding_adds_up_to_the_pixel() -> None:
    x = torch.rand(1, 2, 50)
    s = PhaseEncoder(bits=6)(x, steps=12)
    for period in (s[:6], s[6:]):
        assert ((x[0] - period.sum(0)) >= 0).all()
        assert (x[0] - period.sum(0)).max() < 2**-6
    assert torch.equal(
        PhaseEncoder(2)(torch.ones(1, 1, 1), steps=2).flatten(), torch.tensor([0.5, 0.25])
    )
    with pytest.raises(InputError, match="at least 1"):
        PhaseEncoder(0)


@pytest.mark.parametrize("encoder", [LatencyEncoder(), PhaseEncoder(), FirstEncoder()])
def test_deterministic_codes_pass_the_gradient_straight_through(encoder: nn.Module) -> None:
    x = torch.tensor([-0.1, 0.0, 0.4, 1.0, 1.1]).view(1, 1, 5).requires_grad_()
    encoder(x, steps=3).sum().backward()
    assert x.grad.flatten().tolist() == [0, 3, 3, 3, 0]


@pytest.mark.parametrize("encoder", [PoissonEncoder(), LatencyEncoder(), PhaseEncoder()])
@pytest.mark.parametrize("shape", [(), (4,), (3, 2), (3, 1, 8, 8), (0, 2, 3)])
def test_pixels_without_an_axis_of_time_are_refused(
    encoder: nn.Module, shape: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match=r"must be \[1, B, \.\.\.\] or .*unsqueeze"):
        encoder(torch.zeros(shape), steps=4)
