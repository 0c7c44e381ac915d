"""Randomised smoothing: certified radii of the class that wins under random input noise.

What is certified is the smoothed classifier: it answers with the class that the network gives most
often under the noise. The certificate needs the network's answers only, so any victim can have one,
random or not.

Gaussian noise certifies an L2 radius `sigma * Phi^-1(p)` (Cohen, Rosenfeld and Kolter, ICML 2019),
where `p` bounds the winner's probability from below.

Networks that code pixels as random spikes (Poisson, that is Bernoulli rate coding) are smoothed by
their own input layer (Mukhoty et al., ICLR 2024), which certifies an L1 radius. Draw the spikes of
two images from the same uniform numbers: those of a pixel differ in a step with probability
`|x - x'|`, so those of T steps differ somewhere with at most `1 - (1 - r)^T` where the images are
`r` apart in L1, which is the case of a single pixel. The winner stays ahead while that is below
`p - 1/2`, so the radius is `1 - (3/2 - p)^(1/T)`, about `(p - 1/2) / T`. The `p - 1/2` of released
code holds for a single step; a network that tells one spike from none breaks it for more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log
from typing import NamedTuple

import torch
from scipy.stats import beta, norm
from torch import Tensor

from robust_snn.data.checks import check_some_pixels
from robust_snn.kernels import derive_seed
from robust_snn.models.encodings import PoissonEncoding
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of, undisturbed
from robust_snn.utils.text_form import Textual, parse
from robust_snn.utils.values import number, whole
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import check_victim
from robust_snn.victim.scoring import scoring_logits

ABSTAINS = -1  # the prediction where no class is sure to win
LARGEST = 100.0  # sigma, of pixels in [0, 1]: under an endless one all radii are endless
UNIFORM = 2.0**-24  # between two of the uniform numbers that pixels are compared with


class Smoothed(NamedTuple):
    """Certificates of the smoothed classifier, one per image.

    Attributes:
        predicted: Class `[N]`, or `ABSTAINS`.
        probability: Lower bound of that class's probability under the noise, `[N]`.
        radius: Radius within which the answer is the same, `[N]`; 0 where it abstains.
    """

    predicted: Tensor
    probability: Tensor
    radius: Tensor

    def certified_accuracy(self, labels: Tensor, radius: float = 0.0) -> float:
        """Share of images that are classified correctly, and so within the radius."""
        right = (self.predicted == labels) & (self.radius >= radius)
        return float(right.double().mean())


@dataclass(frozen=True)
class GaussianNoise(Textual):
    """Independent Gaussian noise on every pixel.

    Attributes:
        sigma: Its standard deviation.
    """

    name = "gaussian"
    norm = "L2"
    sigma: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= LARGEST:
            raise InputError(f"sigma must be positive and at most {LARGEST:g}, got {self.sigma:g}")

    def radius(self, probability: Tensor, victim: Victim, pixels: int) -> Tensor:
        """The radius that a probability of the winner certifies."""
        return self.sigma * torch.from_numpy(norm.ppf(probability.numpy()))

    def check(self, victim: Victim) -> None:
        """Any network takes it."""

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Adds the noise of as many draws to copies of an image `[draws, C, H, W]`."""
        noise = torch.stack([torch.randn(x.shape[1:], generator=generator) for _ in x])
        return x + self.sigma * noise.to(x.device)


@dataclass(frozen=True)
class RateNoise(Textual):
    """The random spikes of a network's own Poisson coding."""

    name = "rate"
    norm = "L1"

    def check(self, victim: Victim) -> None:
        """Refuses a network whose logits depend on pixels by more than random spikes."""
        if not isinstance(getattr(victim.net, "encoder", None), PoissonEncoding):
            raise InputError(
                f"{type(victim.net).__name__} codes no pixels as random spikes, as the models "
                "snn_*_poisson do; use noise='gaussian(sigma=0.25)'"
            )

    def radius(self, probability: Tensor, victim: Victim, pixels: int) -> Tensor:
        """The radius that a probability of the winner certifies."""
        encoder = victim.net.encoder
        assert isinstance(encoder, PoissonEncoding)
        exact = 1 - (1.5 - probability) ** (1 / encoder.steps)
        return (exact - pixels * UNIFORM).clamp(min=0)

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Leaves the noise to the network."""
        return x


NOISES: dict[str, type[GaussianNoise | RateNoise]] = {
    kind.name: kind for kind in (GaussianNoise, RateNoise)
}


def parse_noise(text: str) -> GaussianNoise | RateNoise:
    """The noise that `"gaussian(sigma=0.25)"` or `"rate"` names."""
    return parse(text, "noise", NOISES, {})


def checked_draws(draws: int, alpha: float) -> int:
    """Refuses so few draws that no image would be certified even if all of them agreed.

    Raises:
        InputError: If they are too few, or no number of draws.
    """
    draws = whole(draws, "draws", 1)
    needed = floor(log(alpha) / log(0.5)) + 1  # of which alpha ** (1 / draws) is above 1/2
    if draws < needed:
        raise InputError(
            f"{draws} draws certify nothing at alpha={alpha:g}, even where all of them agree: at "
            f"least {needed} can, and the usual number is 1000"
        )
    return draws


def smooth(
    victim: Victim,
    images: Tensor,
    *,
    noise: str | GaussianNoise | RateNoise = "gaussian(sigma=0.25)",
    choose: int = 100,
    draws: int = 1000,
    alpha: float = 0.001,
    batch_size: int = 250,
    ids: Tensor | None = None,
) -> Smoothed:
    """Certifies the answers of a smoothed classifier.

    The first draws choose a class, further ones bound its probability from below by an exact
    binomial interval (Clopper and Pearson, 1934). Where the bound is not above 1/2, it abstains.

    Args:
        victim: The victim.
        images: `[N, C, H, W]` in [0, 1].
        noise: `"gaussian(sigma=0.25)"`, or `"rate"` for networks with Poisson coding.
        choose: Draws that choose the class.
        draws: Draws that bound its probability.
        alpha: Probability with which the certificate of an image may be wrong.
        batch_size: Draws that pass together.
        ids: Index of each image in the evaluated set, `[N]`, which seeds its noise; positions if
            left out.

    Raises:
        InputError: If an argument is out of range, the pixels are none in [0, 1], or the noise is
            not the network's.
    """
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    check_victim(victim)
    check_some_pixels(images)
    noise.check(victim)
    choose, batch_size = whole(choose, "choose", 1), whole(batch_size, "batch_size", 1)
    alpha = number(alpha, "alpha")
    if not 0 < alpha < 1:
        raise InputError(f"alpha must be between 0 and 1, got {alpha:g}")
    draws = checked_draws(draws, alpha)
    ids = torch.arange(len(images)) if ids is None else torch.as_tensor(ids)
    if ids.shape != (len(images),) or ids.is_floating_point():
        raise InputError(
            f"ids must be {len(images)} whole numbers, one for each image, got {ids.dtype} "
            f"{tuple(ids.shape)}"
        )
    rows = []
    with undisturbed(victim):
        for x, key in zip(images.split(1), ids.tolist(), strict=True):
            answers = _answers(victim, x, key, noise, choose + draws, batch_size)
            winner = int(answers[:choose].bincount().argmax())
            hits = int((answers[choose:] == winner).sum())
            rows.append((winner, float(beta.ppf(alpha, hits, draws - hits + 1)) if hits else 0.0))
    winners, probability = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2).unbind(1)
    sure = probability > 0.5
    radius = noise.radius(probability.clamp(min=0.5), victim, images[0].numel())
    return Smoothed(
        torch.where(sure, winners, float(ABSTAINS)).long(),
        probability,
        torch.where(sure, radius, 0.0),
    )


def _answers(
    victim: Victim,
    x: Tensor,
    key: int,
    noise: GaussianNoise | RateNoise,
    draws: int,
    batch_size: int,
) -> Tensor:
    """The class of an image `[1, C, H, W]` under each draw, `[draws]`."""
    generator = torch.Generator().manual_seed(derive_seed(victim.seed, f"smoothing {key}"))
    found = []
    for numbers in torch.arange(draws).split(batch_size):
        noisy = noise.apply(x.to(device_of(victim)).expand(len(numbers), *x.shape[1:]), generator)
        found.append(scoring_logits(victim, noisy, numbers, key, "smoothing").argmax(1).cpu())
    return torch.cat(found)
