"""Oracle 10: noisy LIF neurons and noise-driven learning."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from helpers import assert_close_rms
from robust_snn.gradients import parse_mode
from robust_snn.kernels.spiking.firing_probability import CUMULATIVE
from robust_snn.neurons import LIF, NOISES, NoisyLIF, parse_noise, set_noise
from robust_snn.utils.errors import InputError

SAMPLES = 40_000
WITH_DEVIATION = ["gaussian", "logistic", "uniform", "triangular"]


def firing_probability(family: str, z: Tensor) -> Tensor:
    density = parse_noise(family).density().kernel()
    return CUMULATIVE[density.family](density.sharpness * z)


def first_spikes(neuron: NoisyLIF, z: Tensor) -> Tensor:
    """Rate of the first spike of neurons whose membrane stands `z` from the threshold."""
    current = (1 + z).expand(1, SAMPLES, -1)
    return neuron(current).mean((0, 1))


@pytest.mark.parametrize("family", NOISES)
def test_the_rate_is_the_distribution_of_the_noise(family: str) -> None:
    z = torch.tensor([-0.8, -0.3, 0.0, 0.2, 0.6])
    p = firing_probability(family, z)
    sigma = (p * (1 - p) / SAMPLES).sqrt()
    assert ((first_spikes(NoisyLIF(family), z) - p).abs() <= 5 * sigma + 1e-5).all()


def test_the_released_form_has_twice_the_variance() -> None:
    z = torch.tensor([-0.8, -0.3, 0.0, 0.2, 0.6])
    found = first_spikes(NoisyLIF("gaussian(sigma=0.3)", form="double"), z)
    expected = Normal(0, 2**0.5 * 0.3).cdf(z)
    assert (found - expected).abs().max() < 5 * 0.5 / SAMPLES**0.5


def test_the_released_form_carries_its_noise_on() -> None:
    # far below the threshold nothing fires, and the injected noise adds up in the membrane
    neuron = NoisyLIF("gaussian(sigma=0.3)", form="double", decay=1.0, threshold=3.0)
    rates = neuron(torch.full((1, SAMPLES, 1), 0.5), steps=4).mean((1, 2))
    single = NoisyLIF("gaussian(sigma=0.3)", decay=1.0, threshold=3.0)
    alone = single(torch.full((1, SAMPLES, 1), 0.5), steps=4).mean((1, 2))
    expected = Normal(0, 5**0.5 * 0.3).cdf(torch.tensor(-1.0))  # four injections and the firing
    assert float(rates[3]) == pytest.approx(float(expected), rel=0.1)
    assert rates[3] > 10 * alone[3]


@pytest.mark.parametrize("family", WITH_DEVIATION)
def test_noises_are_matched_by_standard_deviation(family: str) -> None:
    noise = parse_noise(f"{family}(sigma=0.4)")
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    sample = noise.quantile(u)
    assert float(sample.std()) == pytest.approx(0.4, rel=5e-3)
    assert abs(float(sample.mean())) < 1e-6


@pytest.mark.parametrize("family", NOISES)
def test_samples_follow_the_distribution(family: str) -> None:
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    assert_close_rms(firing_probability(family, parse_noise(family).quantile(u)), u, 1e-6)


@pytest.mark.parametrize("family", NOISES)
def test_the_density_integrates_to_one_and_is_the_slope_of_the_rate(family: str) -> None:
    neuron = NoisyLIF(family, backend="torch")
    set_noise(neuron, "frozen")
    z = torch.linspace(-40, 40, 160_001, dtype=torch.float64)
    current = (1 + z).view(1, 1, -1).requires_grad_()
    neuron(current).sum().backward()
    density = current.grad.flatten()
    tail = 2 / (math.pi**2 * 4.0 * 40) * 2 if family == "arctan" else 0.0
    assert float(torch.trapezoid(density, z)) == pytest.approx(1 - tail, abs=2e-3)
    slope = torch.gradient(firing_probability(family, z), spacing=(z,))[0]
    inside = slice(100, -100)
    assert (density - slope)[inside].abs().max() < 0.02 * density.max() or family == "uniform"


@pytest.mark.parametrize("family", NOISES)
def test_the_gradient_is_finite_far_from_the_threshold(family: str) -> None:
    current = torch.tensor([-1e4, -88.0 * 0.2, 1e4]).view(1, 1, 3).requires_grad_()
    NoisyLIF(family)(current, steps=3).sum().backward()
    assert current.grad.isfinite().all()


def test_noise_driven_learning_is_exact_for_a_linear_loss_of_one_layer() -> None:
    z, weight = torch.tensor([-0.5, -0.1, 0.0, 0.3]), torch.tensor([1.0, -2.0, 3.0, 0.5])
    current = (1 + z).view(1, 1, -1).requires_grad_()
    (NoisyLIF("gaussian(sigma=0.3)")(current) * weight).sum().backward()
    # d/dz E[w s] = w F'(z), for every draw alike
    expected = weight * Normal(0, 0.3).log_prob(z).exp()
    assert_close_rms(current.grad.flatten(), expected)


def test_the_bias_of_two_layers_against_all_spike_patterns() -> None:
    """With a second noisy layer the rule is biased; enumeration says by how much."""
    hidden, sigma, generator = 8, 0.3, torch.Generator().manual_seed(0)
    normal = Normal(0.0, sigma)
    z = 0.3 * torch.randn(hidden, generator=generator)
    weight = torch.randn(hidden, generator=generator)
    offset = 1 - weight.sum() / 2  # keeps the second membrane near its threshold

    firing = normal.cdf(z)
    density = normal.log_prob(z).exp()
    exact, expected = torch.zeros(hidden), torch.zeros(hidden)
    for bits in itertools.product([0.0, 1.0], repeat=hidden):
        s = torch.tensor(bits)
        p = (s * firing + (1 - s) * (1 - firing)).prod()
        distance = s @ weight + offset - 1
        # E[second spike] summed over patterns; its derivative is the difference of two patterns
        given = p / (s * firing + (1 - s) * (1 - firing))
        exact += density * (2 * s - 1) * given * normal.cdf(distance)
        expected += p * normal.log_prob(distance).exp() * weight * density

    current = (1 + z).expand(1, SAMPLES, -1).clone().requires_grad_()
    first, second = NoisyLIF("gaussian(sigma=0.3)"), NoisyLIF("gaussian(sigma=0.3)")
    second.membrane_noise.layer = 1
    out = second((first(current) @ weight + offset).unsqueeze(-1))
    out.sum().backward()
    found = current.grad.mean((0, 1))
    assert_close_rms(found, expected, 0.05)  # the estimator has the mean that it should have
    cosine = torch.nn.functional.cosine_similarity(exact, expected, dim=0)
    bias = (expected - exact).norm() / exact.norm()
    assert cosine > 0.9  # it points where the exact gradient does
    assert 0.05 < bias < 0.5  # and is not that gradient


def test_little_noise_leaves_a_plain_neuron() -> None:
    current = torch.rand(6, 3, 50)
    assert torch.equal(NoisyLIF("gaussian(sigma=1e-6)")(current), LIF(decay=0.5)(current))


def test_the_mean_field_passes_firing_probabilities() -> None:
    neuron = NoisyLIF("logistic(sigma=0.3)")
    set_noise(neuron, "mean")
    z = torch.tensor([-0.4, 0.0, 0.4])
    assert_close_rms(
        neuron((1 + z).view(1, 1, 3)).flatten(), firing_probability("logistic(sigma=0.3)", z)
    )


@pytest.mark.parametrize("form", ["single", "double"])
def test_noise_is_a_function_of_its_keys(form: str) -> None:
    neuron, current = NoisyLIF(form=form), torch.rand(5, 4, 9)
    assert not torch.equal(neuron(current), neuron(current))
    set_noise(neuron, "frozen")
    spikes = neuron(current)
    assert torch.equal(spikes, neuron(current))
    order = torch.tensor([3, 1, 0])
    assert torch.equal(spikes[:, order], neuron(current[:, order]))


def test_the_gradient_mode_is_the_density_unless_chosen() -> None:
    assert str(NoisyLIF("gaussian(sigma=0.2)").gradient).startswith("bptt(surrogate=gaussian(")
    assert NoisyLIF(gradient="bptr").gradient == parse_mode("bptr")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": "gausian"}, "did you mean 'gaussian'"),
        ({"noise": "gaussian(sigm=0.2)"}, "did you mean 'sigma'"),
        ({"noise": "gaussian(sigma=0)"}, "sigma of gaussian noise must be positive"),
        ({"form": "duble"}, "did you mean 'double'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NoisyLIF(**arguments)
