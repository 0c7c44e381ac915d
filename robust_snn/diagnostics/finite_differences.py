"""Differences of the expected margin: whether an attack's own gradient moves it as one should."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.problem import margin_gradient
from robust_snn.diagnostics.diagnostic import Diagnostic
from robust_snn.gradients import GradientMode, parse_mode
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim
from robust_snn.victim.scoring import fresh_logits

NAME = "finite differences"
WEAK = 0.05  # cosine with the true gradient below which most of a step is wasted
SLOW = 0.15  # speed of the margin along a gradient, in that towards images of other classes
SLUGGISH = 0.5  # the same of a gradient that other attacks may well beat
FLAT = 0.5  # the same along the true gradient; at least 1 where the network is linear
DRAWS = 8  # of the gradients and margins of a noisy victim
PLACES = 4  # in the ball around an image of a victim without noise
MOST = 4  # times as many places, where fewer do not tell
STRIDES = (1.0, 0.85, 0.7, 0.6)  # of half the radius, by place: a ripple fits no four of them
TOO_FEW = "images are too few to tell"
FEW = 2  # draws along a random direction: more directions tell more than more draws


def finite_differences(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    directions: int = 12,
    modes: Iterable[str | GradientMode] = (),
) -> Diagnostic:
    """Whether the expected margin moves along the gradient's steps as along a gradient it must.

    The margin is smooth in expectation over the noise, and over the ball: it is measured from
    random places in it. Differences across half of the ball, under the same noise on both sides,
    are then an oracle that no surrogate enters. Its controls are of the network at hand:

    - Random sign vectors measure the length of the true gradient; the product of two independent
      estimates keeps noise out of its square. They also show how far chance alone moves the margin:
      a gradient fails that is no better than they are, where these images suffice to tell.
    - On the way to an image of another class the margin falls to its end. Where it falls much
      faster on average than along the gradient, the readout is flat and the gradient follows
      something beside it: in a linear network no straight way is faster than the gradient's.

    Args:
        victim: The victim, whose own mode is judged if `modes` are left out.
        images: A few dozen images `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        directions: Number of random sign vectors.
        modes: Gradient modes that attacks follow, of which the best decides: the worst case over
            attacks needs no more.
    """
    length = eps / 2 if norm == "Linf" else eps / 2 / images[0].numel() ** 0.5
    notes: list[Diagnostic] = []
    refused = None
    with attack_variant(victim, seed) as variant:
        x, y, ids = on_device(variant, images, labels, None)
        around = _Surroundings(variant, x, y, ids, length, seed)
        controls = around.by_chance(directions).double(), around.across(norm).double()
        for mode in map(parse_mode, modes or (victim.gradient,)):
            judged = variant.replace(gradient=mode, cost=victim.cost)
            try:
                notes.append(_of_mode(around, judged, controls))
            except InputError as error:  # other people's networks do not take every mode
                refused = error
    if refused is not None and not notes:
        raise refused
    return min(notes, key=lambda note: (note.rank, -note.value))


def _of_mode(around: _Surroundings, judged: Victim, controls: tuple[Tensor, Tensor]) -> Diagnostic:
    """What is said of a victim's gradient, from as many places as that takes."""
    rises: list[Tensor] = []
    while True:
        rises += around.along(judged, len(rises))
        along = torch.stack(rises).double()
        note = _diagnostic(along, *controls, around.x[0].numel(), judged.gradient.brief)
        if not note.why.endswith(TOO_FEW) or len(rises) >= MOST * around.places:
            return note


class _Surroundings:
    """The expected margin around some images, on forward passes alone.

    Args:
        variant: The victim as an attack sees it.
        x: The images, `[B, ...]`.
        labels: `[B]`.
        ids: `[B]`.
        length: Change of every pixel in a step.
        seed: Seed of places and directions.
    """

    def __init__(
        self, variant: Victim, x: Tensor, labels: Tensor, ids: Tensor, length: float, seed: int
    ) -> None:
        self.variant, self.x, self.labels, self.ids = variant, x, labels, ids
        self.length, self.rng = length, ImageRng(seed, ids, x)
        self.draws, self.places = (DRAWS, 1) if variant.stochastic else (1, PLACES)

    def along(self, judged: Victim, first: int = 0) -> list[Tensor]:
        """Rises per unit of every pixel along the signs of a gradient, `[B]` for some places."""
        rises = []
        for number in range(first, first + self.places):
            start = self._place("place", number)
            gradient = margin_gradient(judged, start, self.labels, self.draws)
            stride, purpose = STRIDES[number % len(STRIDES)], f"along{number}"
            rises += self._slopes([start], gradient.sign(), purpose, self.draws, stride)
        return rises

    def by_chance(self, directions: int) -> Tensor:
        """Two such rises along each of some random sign vectors, `[2, directions, B]`."""
        pairs, few = [], min(self.draws, FEW)
        for number in range(directions):
            signs = self.rng.uniform("direction", number).sign()
            starts = [self._place(half, number) for half in ("a", "b")]
            pairs.append(torch.stack(self._slopes(starts, signs, f"chance{number}", few)))
        return torch.stack(pairs, 1)

    def across(self, norm: str) -> Tensor:
        """Mean rise per unit of distance on the way to an image of another class, `[B]`.

        NaN where all images are of one class. The distance is that of the norm, in L2 per pixel.
        """
        logits = self._clean
        rows = torch.arange(len(self.x), device=self.x.device)
        partner = rows.clone()
        for shift in range(1, len(rows)):
            other = rows.roll(shift)
            free = (partner == rows) & (self.labels[other] != self.labels)
            partner = torch.where(free, other, partner)
        rise = margin(logits[partner], self.labels) - margin(logits, self.labels)
        way = (self.x[partner] - self.x).flatten(1)
        distance = way.abs().amax(1) if norm == "Linf" else way.square().mean(1).sqrt()
        return torch.where(partner == rows, torch.nan, rise / distance)

    @cached_property
    def _clean(self) -> Tensor:
        return torch.stack(fresh_logits(self.variant, self.x, self.ids, self.draws, "across")).mean(
            0
        )

    def _place(self, purpose: str, number: int) -> Tensor:
        return self.x + self.length * self.rng.uniform(purpose, number)

    def _slopes(
        self,
        starts: Sequence[Tensor],
        direction: Tensor,
        purpose: str,
        draws: int,
        stride: float = 1.0,
    ) -> list[Tensor]:
        """Change of the expected margin per unit of every pixel, `[B]` for each start.

        Both sides and all starts are asked in one pass, under the same noise; they are `stride`
        times half of the radius away.
        """
        length = stride * self.length
        step = length * direction
        shown = [start + side * step for start in starts for side in (1, -1)]
        ids, labels = self.ids.repeat(len(shown)), self.labels.repeat(len(shown))
        logits = fresh_logits(self.variant, torch.cat(shown), ids, draws, purpose)
        margins = torch.stack([margin(z, labels) for z in logits]).mean(0).chunk(len(shown))
        pairs = zip(margins[::2], margins[1::2], strict=True)
        return [(up - down) / (2 * length) for up, down in pairs]


def _diagnostic(
    along: Tensor, by_chance: Tensor, across: Tensor, pixels: int, mode: str = "the gradient"
) -> Diagnostic:
    """What differences along the gradient and along its controls say together.

    Args:
        along: Of every place and image, `[P, B]`.
        by_chance: Two of every direction and image, `[2, D, B]`.
        across: On the way to an image of another class, `[B]`; NaN where there is none.
        pixels: Numbers in an image.
        mode: Whose gradient it is.
    """
    rise, speed = float(along.mean()), float(across.nanmean())
    chance = float(by_chance.square().mean()) ** 0.5
    error = chance / along.numel() ** 0.5
    if not chance and not speed > 0:
        why = "no random step of half the radius moves the margin, so that nothing can be told"
        return Diagnostic(NAME, 0.0, "warn", why)
    product = by_chance.prod(0)
    square = max(float(product.mean()), chance**2 / product.numel() ** 0.5)
    scale = (square * pixels) ** 0.5  # of the rise along the true gradient's direction
    cosine, uncertain = (rise / scale, 2 * error / scale) if scale else (0.0, 0.0)
    pace, best, unsure = (
        (rise / speed, scale / speed, 2 * error / speed) if speed > 0 else (torch.inf,) * 3
    )
    why = f"along the signs of {mode} the expected margin moves as if the cosine were {cosine:.2f}"
    if pace < torch.inf:
        why += f", {pace:.2f} times as fast as towards images of other classes"
    if pace + unsure < SLOW or best < FLAT:
        return Diagnostic(NAME, cosine, "fail", f"{why}: what it follows decides little")
    if rise > 2 * error:
        weak = cosine < WEAK or pace + unsure < SLUGGISH
        return Diagnostic(NAME, cosine, "warn" if weak else "pass", why)
    if cosine + uncertain < WEAK or not along.any():
        return Diagnostic(NAME, cosine, "fail", f"{why}, no better than along random signs")
    why = f"{why}, give or take {uncertain:.2f}: {along.shape[1]} {TOO_FEW}"
    return Diagnostic(NAME, cosine, "warn", why)
