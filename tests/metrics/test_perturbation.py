"""Oracle 11: perturbation dynamics and their gain."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import assert_close_rms
from robust_snn.metrics import (
    leak_gain,
    membrane_potential,
    mppd,
    ms_mppd,
    operator_norm,
    spike_train_distance,
    tasad,
)
from robust_snn.neurons import LIF
from robust_snn.utils.errors import InputError


@pytest.mark.parametrize(
    ("decay", "steps", "gain"),
    [(0.9, 8, 4.111), (0.5, 4, 1.593), (0.99, 30, 17.3), (0.99, 8, 5.264)],
)
def test_the_gain_is_the_norm_of_the_toeplitz_matrix(decay: float, steps: int, gain: float) -> None:
    assert leak_gain(decay, steps) == pytest.approx(gain, rel=2e-3)
    # and no signal exceeds it, while the best one reaches it
    dynamics = operator_norm(lambda x: mppd(x[0], torch.zeros_like(x[0]), decay)[None], (steps, 1))
    assert dynamics == pytest.approx(leak_gain(decay, steps), rel=1e-4)


def test_the_papers_bound_is_none() -> None:
    assert leak_gain(0.9, 8) > (1 / (1 - 0.9)) ** 0.5
    assert leak_gain(0.9, 300) == pytest.approx(10, rel=1e-2)
    assert leak_gain(0.9, 300) < 10
    with pytest.raises(InputError, match="0 < decay <= 1"):
        leak_gain(1.1, 3)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_a_constant_perturbation_grows_as_the_closed_form(decay: float) -> None:
    steps, j = 8, 0.3
    clean, perturbed = torch.full((steps, 2, 5), j), torch.zeros(steps, 2, 5)
    t = torch.arange(1, steps + 1)
    level = j * (1 - decay**t) / (1 - decay)
    assert_close_rms(mppd(clean, perturbed, decay)[:, 0, 0], level)
    expected = 5 * level.square().sum()
    assert_close_rms(ms_mppd(clean, perturbed, decay), expected.expand(2))
    mean = ms_mppd(clean, perturbed, decay, reduce="mean")
    assert_close_rms(mean, (level.square().mean()).expand(2))


def test_the_leak_may_change_with_the_step() -> None:
    clean, perturbed = torch.rand(4, 1, 3), torch.rand(4, 1, 3)
    assert_close_rms(mppd(clean, perturbed, torch.full((4,), 0.7)), mppd(clean, perturbed, 0.7))


def test_without_spikes_the_dynamics_are_the_difference_of_the_membranes() -> None:
    a, b = torch.rand(6, 2, 4) * 0.1, torch.rand(6, 2, 4) * 0.1
    silent = torch.zeros(6, 2, 4)
    difference = membrane_potential(a, silent, 0.9) - membrane_potential(b, silent, 0.9)
    assert_close_rms(mppd(a, b, 0.9), difference)


@pytest.mark.parametrize(("reset", "v_reset"), [("hard", 0.0), ("hard", -0.5), ("soft", 0.0)])
def test_replayed_membranes_are_those_that_fired(reset: str, v_reset: float) -> None:
    current = torch.rand(9, 3, 20)
    spikes = LIF(0.9, reset=reset, v_reset=v_reset)(current)
    v = membrane_potential(current, spikes, 0.9, reset=reset, v_reset=v_reset)
    assert torch.equal((v >= 1).float(), spikes)
    alone = membrane_potential(current, None, 0.9, reset=reset, v_reset=v_reset)
    assert torch.equal(alone, v)  # a replay that fires itself


def test_spike_distances() -> None:
    clean = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]).unsqueeze(1)
    moved = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]).unsqueeze(1)
    assert tasad(clean, moved).tolist() == pytest.approx([0.25])  # one spike of four steps is lost
    assert spike_train_distance(clean, moved).tolist() == pytest.approx([3**0.5])
    a, b = (torch.rand(2, 8, 5, 3, 4) < 0.4).float()
    assert (tasad(a, b) <= spike_train_distance(a, b) / 8**0.5 + 1e-6).all()


def test_operator_norms() -> None:
    linear = nn.Linear(6, 4)
    assert operator_norm(linear, (6,)) == pytest.approx(
        float(torch.linalg.matrix_norm(linear.weight.detach(), 2)), rel=1e-4
    )
    conv = nn.Conv2d(2, 3, 3, padding=1)
    units = torch.eye(32).view(32, 2, 4, 4)
    matrix = (conv(units) - conv(torch.zeros_like(units))).detach().flatten(1)
    assert operator_norm(conv, (2, 4, 4)) == pytest.approx(
        float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-3
    )


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'mean'"):
        ms_mppd(torch.rand(2, 1, 1), torch.rand(2, 1, 1), 0.9, reduce="men")
