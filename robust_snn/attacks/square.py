"""Square: a random search that asks for logits alone, from the worst points that are known."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import Attack
from robust_snn.attacks.gradient_attack import WORST, checked_start
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.norm_ball import NormBall, where_images
from robust_snn.attacks.problem import AttackInputs
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import whole

LARGEST = 0.8  # share of an image that the first squares cover
SMALLER_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries, half of it
FEW_DRAWS = 4  # after which a query may end; then after twice as many, and so on
DEVIATIONS = 2.0  # of the mean difference by which a point is worse, for its query to end
BLOCK = 100  # queries whose random numbers are drawn together


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Squares of constant change at random places, kept where they raise the margin.

    The search of Andriushchenko et al. (ECCV 2020), with its stripes and, whatever the budget, the
    sizes of its 10,000 queries, but from given points where those are harder than the stripes:
    attacks along gradients come near boundaries that they cross no more, and squares often do. In
    L2 and L1 a square has a length of twice the radius, and the result is projected. A noisy victim
    answers by its mean margin under as many draws as its `eot`, which stay the same; a second
    search would fit the same draws. A query ends early where the draws so far say that the point is
    less hard than the present one, by a paired test of the difference, so most queries take a few
    of many draws.

    Attributes:
        steps: Queries per start.
        restarts: Searches, each from the given points; one of a noisy victim.
        start: Images within the threat, `[B, ...]`; in a suite `"worst"`. The clean images if None.
    """

    name = "square"
    norms = ("Linf", "L2", "L1")
    steps: int = 5000
    restarts: int = 1
    start: Tensor | str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("steps", "restarts"):
            whole(getattr(self, name), name, 1)
        if isinstance(self.start, str) and self.start != WORST:
            raise InputError(f"start must be images or '{WORST}', got {self.start!r}")

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        if not len(inputs.images):
            return inputs.images.clone(), torch.zeros_like(inputs.labels, dtype=torch.bool)
        given = _Points(inputs)
        given.offer(self._given(inputs.images), given.open())
        found = copy(given)
        for start in range(1 if inputs.victim.stochastic else self.restarts):
            at, squares, rows = copy(given), _Squares(inputs, start), found.open()
            at.offer(squares.stripes(), rows)
            for step in range(self.steps):
                rows = rows[at.wrong[rows] < 1]
                if not len(rows):
                    break
                at.offer(at.x + squares.change(step), rows)
            found.take(at, at.margin > found.margin)
        return found.x, found.wrong > 0.5

    def _given(self, images: Tensor) -> Tensor:
        if self.start is None:
            return images
        if isinstance(self.start, str):
            raise InputError(f"start='{WORST}' is for rows of suites; give images")
        return checked_start(self.start, images)


class _Points:
    """A point of every image, with its mean margin and share of wrong answers, `[B]` each.

    Attributes:
        gaps: The margins of all draws, `[B, draws]`.
    """

    def __init__(self, inputs: AttackInputs) -> None:
        self.inputs, victim = inputs, inputs.victim
        self.draws = victim.eot if victim.stochastic else 1
        self.ball = NormBall(inputs.images, inputs.eps, inputs.norm)
        self.x, count = inputs.images, len(inputs.images)
        self.gaps = torch.full((count, self.draws), -torch.inf, device=inputs.images.device)
        self.margin = self.gaps.mean(1)
        self.wrong = torch.zeros_like(self.margin)

    def open(self) -> Tensor:
        """The images that some draw answers rightly."""
        return (self.wrong < 1).nonzero()[:, 0]

    def take(self, other: _Points, condition: Tensor) -> None:
        """Takes the points of others where a condition `[B]` holds."""
        self.x = where_images(condition, other.x, self.x)
        self.gaps = where_images(condition, other.gaps, self.gaps)
        self.margin = torch.where(condition, other.margin, self.margin)
        self.wrong = torch.where(condition, other.wrong, self.wrong)

    @torch.no_grad()
    def offer(self, x: Tensor, rows: Tensor) -> None:
        """Projects points `[B, ...]` and takes those at `rows` that are as hard, or harder.

        A third of all squares changes no spike, and steps on such a plateau lead to its edge. What
        changes nothing in a few draws counts as such a step.
        """
        tried, inputs = copy(self), self.inputs
        tried.x, tried.gaps = self.ball.project(x), self.gaps.clone()
        tried.margin, tried.wrong = self.margin.clone(), torch.zeros_like(self.wrong)
        for drawn in _rounds(self.draws):
            if drawn.start:
                differences = tried.gaps[rows, : drawn.start] - self.gaps[rows, : drawn.start]
                level = (differences == 0).all(1)
                self.x = self.x.index_copy(0, rows[level], tried.x[rows[level]])
                rows = rows[~level & _may_be_harder(differences)]
            if not len(rows):
                return
            labels = inputs.labels[rows]
            for draw, logits in zip(
                drawn,
                inputs.victim.samples(tried.x[rows], inputs.ids[rows], drawn, "square"),
                strict=True,
            ):
                tried.gaps[rows, draw] = margin(logits, labels)
                tried.wrong[rows] += (logits.argmax(1) != labels).float()
        tried.margin[rows] = tried.gaps[rows].mean(1)
        tried.wrong = tried.wrong / self.draws
        harder = torch.zeros_like(tried.margin, dtype=torch.bool)
        harder[rows] = tried.margin[rows] >= self.margin[rows]
        self.take(tried, harder)


def _rounds(draws: int) -> list[range]:
    """The draws of a query, in parts after which it may end."""
    ends = [FEW_DRAWS]
    while ends[-1] < draws:
        ends.append(2 * ends[-1])
    return [range(a, min(b, draws)) for a, b in pairwise([0, *ends])]


def _may_be_harder(differences: Tensor) -> Tensor:
    """Whether paired differences of margins `[B, draws]` leave open that they are not negative."""
    error = differences.std(1) / differences.shape[1] ** 0.5
    return ~(differences.mean(1) + DEVIATIONS * error < 0)  # of the first point, all are infinite


class _Squares:
    """Random changes of one search, for all its images.

    Args:
        inputs: What is attacked.
        start: Number of the search.
    """

    def __init__(self, inputs: AttackInputs, start: int) -> None:
        self.inputs, self.start = inputs, start
        # steps of event frames are channels
        self.channels, self.height, self.width = inputs.images.flatten(1, -3).shape[1:]
        like = inputs.images.new_empty(len(inputs.images), BLOCK, self.channels + 2)
        self.rng = ImageRng(inputs.seed, inputs.ids, like)

    def stripes(self) -> Tensor:
        """The images with vertical stripes of random signs, `[B, ...]`."""
        images = self.inputs.images
        signs = self.inputs.rng.uniform("stripes", self.start).sign()[..., :1, :].expand_as(images)
        return images + self._length(images[0].numel()) / 2 * signs

    def change(self, step: int) -> Tensor:
        """A square of constant change per channel, which shrinks over the steps, `[B, ...]`."""
        if step % BLOCK == 0:
            self.block = self.rng.uniform("squares", self.start, step // BLOCK)
        numbers = self.block[:, step % BLOCK]
        halvings = sum(step > after for after in SMALLER_AFTER)
        side = round((LARGEST / 2**halvings * self.height * self.width) ** 0.5)
        side = max(1, min(side, self.height, self.width))
        down = _span(numbers[:, 0], self.height, side)[:, None, :, None]
        across = _span(numbers[:, 1], self.width, side)[:, None, None, :]
        signs = numbers[:, 2:].sign()[:, :, None, None] * self._length(side**2 * self.channels)
        return (signs * down * across).reshape(self.inputs.images.shape)

    def _length(self, entries: int) -> float:
        """Change of each of so many entries that makes a step of twice the radius."""
        power = {"Linf": 0.0, "L2": 0.5, "L1": 1.0}[self.inputs.norm]
        return float(2 * self.inputs.eps / entries**power)


def _span(number: Tensor, size: int, side: int) -> Tensor:
    """A random stretch of a side, bool `[B, size]`; `number` is uniform in [-1, 1)."""
    first = ((number + 1) / 2 * (size - side + 1)).floor()[:, None]
    places = torch.arange(size, device=number.device)
    return (places >= first) & (places < first + side)
