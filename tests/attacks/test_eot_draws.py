"""Adaptive draws buy the cosine that they state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robust_snn import InputError
from robust_snn.attacks.eot_draws import AdaptiveDraws, FixedDraws, LossEstimate, parse_draws


def noisy(noise: Tensor, generator: torch.Generator):  # type: ignore[no-untyped-def]
    """Draws of gradients whose mean is 1 in every entry and whose noise each image has its own."""

    def draw(rows: Tensor) -> LossEstimate:
        g = 1 + noise[rows, None] * torch.randn((len(rows), 500), generator=generator)
        ones = torch.ones(len(rows))
        return LossEstimate(g, ones, ones.clone(), ones.clone())

    return draw


@pytest.mark.parametrize("error", [0.2, 0.4])
def test_adaptive_draws_buy_the_stated_cosine(error: float) -> None:
    noise = torch.tensor([0.0, 1.0, 2.0, 4.0, 1000.0]).repeat(40)
    result = AdaptiveDraws(error, 30).estimate(
        noisy(noise, torch.Generator().manual_seed(0)), 200, noise.device
    )
    cosine = torch.cosine_similarity(result.gradient, torch.ones(200, 500)).reshape(40, 5).mean(0)
    sign = result.gradient.sign().mean(1).reshape(40, 5).mean(0)
    draws = result.draws.reshape(40, 5).mean(0)
    assert (cosine[:4] > 1 - error - 0.03).all() and (sign[:4] > 1 - error - 0.15).all()
    assert draws[0] == 2 and draws[1] < 2.5 and draws[1] < draws[2] < draws[3] < draws[4] == 30
    assert draws[3] < 2 + 16 / ((1 - error) ** -2 - 1)
    assert torch.equal(result.loss, torch.ones(200))


def test_images_without_gradient_get_two_draws() -> None:
    def draw(rows: Tensor) -> LossEstimate:
        return LossEstimate(torch.zeros(len(rows), 5), *torch.ones(3, len(rows)))

    result = AdaptiveDraws().estimate(draw, 3, torch.get_default_device())
    assert result.draws.tolist() == [2, 2, 2] and (result.gradient == 0).all()


def test_numbers_of_draws_are_read_from_text() -> None:
    assert parse_draws(3) == FixedDraws(3)
    assert parse_draws("adaptive(error=0.3,most=50)") == AdaptiveDraws(0.3, 50)
    assert parse_draws(str(AdaptiveDraws(0.1))) == AdaptiveDraws(0.1)
    for wrong in (0, True, 1.5, "adaptive(error=2)", "adaptive(most=1)", "adaptive(m=1)", "all"):
        with pytest.raises(InputError):
            parse_draws(wrong)  # type: ignore[arg-type]
