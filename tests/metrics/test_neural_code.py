"""Oracle 14: variability over trials."""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close_rms
from robust_snn.metrics import fano_factor, jpsth, prediction_similarity, psth
from robust_snn.utils.errors import InputError


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_fano_factor_of_bernoulli_counts_is_one_minus_p(p: float) -> None:
    counts = (torch.rand(20_000, 30, 4) < p).float().sum(1)
    assert (fano_factor(counts) - (1 - p)).abs().max() < 0.06 * (1 - p) + 0.01


def test_the_fano_factor_of_poisson_counts_is_one() -> None:
    counts = torch.poisson(torch.full((20_000, 4), 5.0))
    assert (fano_factor(counts) - 1).abs().max() < 0.05


def test_the_fano_factor_of_a_silent_neuron_is_not_a_number() -> None:
    factors = fano_factor(torch.tensor([[0.0, 2.0], [0.0, 2.0]]))
    assert factors.isnan().tolist() == [True, False]
    assert factors[1] == 0


def test_the_joint_histogram_of_independent_trials_is_noise() -> None:
    trials = 4000
    first, second = (torch.rand(2, trials, 12) < 0.3).float()
    joint, defined = jpsth(first, second)
    assert defined.all()
    assert abs(float(joint.mean())) < 3 / (trials**0.5 * 12)
    assert float(joint.std()) == pytest.approx(trials**-0.5, rel=0.25)


def test_a_neuron_is_in_synchrony_with_itself() -> None:
    spikes = (torch.rand(500, 6) < 0.4).float()
    joint, _ = jpsth(spikes, spikes)
    assert_close_rms(joint.diagonal(), torch.ones(6))
    assert joint.abs().max() <= 1 + 1e-5
    assert_close_rms(jpsth(spikes, 1 - spikes)[0].diagonal(), -torch.ones(6))


def test_constant_bins_are_masked() -> None:
    first = (torch.rand(50, 3) < 0.5).float()
    first[:, 1] = 1.0
    joint, defined = jpsth(first, first)
    assert not defined[1].any() and not defined[:, 1].any()
    assert not joint[~defined].any()
    assert joint.isfinite().all()


def test_the_histogram_is_the_firing_probability() -> None:
    spikes = (torch.rand(10, 5, 3) < 0.5).float()
    assert torch.equal(psth(spikes), spikes.mean(0))


def test_prediction_similarity_is_the_mean_over_pairs() -> None:
    predictions = torch.randn(4, 3, 10)
    cosine = torch.nn.functional.cosine_similarity
    pairs = [cosine(predictions[i], predictions[j], dim=-1) for i in range(4) for j in range(i)]
    assert_close_rms(prediction_similarity(predictions), torch.stack(pairs).mean(0))
    same = predictions[:1].expand(4, -1, -1)
    assert prediction_similarity(same).tolist() == pytest.approx([1.0] * 3)


def test_one_trial_has_no_variability() -> None:
    for call in (fano_factor, prediction_similarity, lambda x: jpsth(x, x)):
        with pytest.raises(InputError, match="at least 2 trials"):
            call(torch.rand(1, 2))
