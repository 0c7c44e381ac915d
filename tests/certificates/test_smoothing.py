"""Randomised smoothing, on networks whose probabilities are known."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest, norm
from torch import Tensor

from robust_snn import Victim
from robust_snn.certificates import ABSTAINS, smooth
from robust_snn.certificates.smoothing import parse_noise
from robust_snn.models.encodings import PoissonEncoding
from robust_snn.utils.errors import InputError
from victims import StandIn
from zoo import narrow

SIGMA = "gaussian(sigma=0.5)"


class Halfspace(StandIn):
    """Class 1 where the mean of all pixels is above 1/2: the smoothed answer has a known radius."""

    def forward(self, x: Tensor) -> Tensor:
        lead = x.flatten(1).mean(1) - 0.5
        return torch.stack([-lead, lead], 1)


class AnySpike(StandIn):
    """Class 1 where a pixel spikes in any step."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.encoder = PoissonEncoding(1, steps)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.encoder(x).sum((0, 2, 3, 4))
        return torch.stack([torch.full_like(spikes, 0.5), spikes], 1)


def test_radius_of_a_halfspace_is_its_distance_from_below() -> None:
    images = torch.linspace(0, 1, 9).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    found = smooth(Victim(Halfspace()), images, noise=SIGMA, draws=2000)
    distance = 2 * (images[:, 0, 0, 0] - 0.5)  # four pixels: the mean moves by half of an L2 step
    assert (found.radius <= distance.abs() + 1e-12).all()
    answers = found.predicted != ABSTAINS
    assert answers.sum() >= 7
    assert not answers[4]
    assert torch.equal(found.predicted[answers], (distance > 0).long()[answers])
    assert (found.radius[answers] > 0.5 * distance.abs()[answers]).sum() >= 6


def test_probability_is_the_exact_binomial_bound() -> None:
    image = torch.full((1, 1, 2, 2), 0.6)
    victim = Victim(Halfspace())
    found = smooth(victim, image, noise=SIGMA, choose=10, draws=100, alpha=0.01)
    bound = float(found.probability)
    hits = next(
        k
        for k in range(101)
        if abs(binomtest(k, 100).proportion_ci(0.98, "exact").low - bound) < 1e-9
    )
    assert 0.4 < norm.cdf(0.1 * 2 / 0.5) - bound + 0.5 < 0.9, hits


@pytest.mark.parametrize("steps", [1, 4])
def test_rate_radius_holds_and_is_tight_for_one_pixel(steps: int) -> None:
    victim = Victim(AnySpike(steps))
    found = smooth(victim, torch.zeros(1, 1, 1, 1), noise="rate", draws=4000)
    radius = float(found.radius)
    assert int(found.predicted) == 0
    silent = (1 - radius) ** steps  # the probability that still no pixel spikes at that radius
    assert 0.5 < silent < 0.502
    moved = smooth(victim, torch.full((1, 1, 1, 1), radius * 0.97), noise="rate", draws=40000)
    assert int(moved.predicted) == 0
    beyond = smooth(victim, torch.full((1, 1, 1, 1), radius * 1.1), noise="rate", draws=40000)
    assert int(beyond.predicted) == 1


@pytest.mark.parametrize("noise", [SIGMA, "rate"])
def test_certificates_do_not_depend_on_batches(noise: str) -> None:
    net = narrow("snn_vgg5_poisson", "fresh", T=2, img_size=8, num_classes=4)
    victim, images = Victim(net, seed=3), torch.rand(3, 3, 8, 8)
    whole = smooth(victim, images, noise=noise, choose=10, draws=20)
    part = smooth(
        victim, images[1:], noise=noise, choose=10, draws=20, batch_size=7, ids=torch.tensor([1, 2])
    )
    for all_rows, rows in zip(whole, part, strict=True):
        assert torch.equal(all_rows[1:], rows)
    other = smooth(victim.replace(seed=4), images, noise=noise, choose=10, draws=20)
    assert not torch.equal(other.probability, whole.probability)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"noise": "rate"}, "codes no pixels as random spikes"),
        ({"noise": "gausian(sigma=1)"}, "did you mean"),
        ({"noise": "gaussian(sigma=0)"}, "sigma must be positive"),
        ({"draws": 0}, "at least 1"),
        ({"draws": 9}, "certify nothing at alpha=0.001, .* at least 10 can"),
        ({"draws": 1, "alpha": 0.5}, "at least 2 can"),
        ({"draws": 1.5}, "draws must be a whole number"),
        ({"choose": True}, "choose must be a whole number"),
        ({"batch_size": 0}, "at least 1"),
        ({"alpha": 1.0}, "between 0 and 1"),
        ({"alpha": "x"}, "alpha must be a number"),
        ({"ids": torch.zeros(2, dtype=torch.long)}, "ids must be 1 whole numbers"),
        ({"ids": torch.zeros(1)}, "ids must be 1 whole numbers"),
    ],
)
def test_what_cannot_be_smoothed_is_refused(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        smooth(Victim(Halfspace()), torch.rand(1, 1, 2, 2), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma", ["inf", "nan", "0", "-1", "1e30"])
def test_noise_without_a_size_is_refused(sigma: str) -> None:
    with pytest.raises(InputError, match="sigma must be positive and at most 100"):
        parse_noise(f"gaussian(sigma={sigma})")
