"""Number of noise draws that a gradient averages: a fixed count, or as many as it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.norm_ball import per_image
from robust_snn.utils.errors import InputError
from robust_snn.utils.text_form import Textual, parse

MOST = 10**9


@dataclass
class LossEstimate:
    """Means over draws, for the images of a batch.

    Attributes:
        gradient: Gradient of the expected loss, `[B, ...]`.
        loss: Expected loss, `[B]`.
        wrong: Share of the draws that misclassify, `[B]`.
        draws: Number of draws, `[B]`.
        largest: What the gradient was divided by, `[B]`; None if it was not.
    """

    gradient: Tensor
    loss: Tensor
    wrong: Tensor
    draws: Tensor
    largest: Tensor | None = None

    def slope(self, norm: str) -> Tensor:
        """By how much the loss rises at most on a step of length 1 in Linf or L2, `[B]`."""
        steepest = self.gradient.flatten(1).norm(1 if norm == "Linf" else 2, dim=1)
        return steepest if self.largest is None else steepest * self.largest


OneDraw = Callable[[Tensor], LossEstimate]  # one draw for the given rows of a batch


@dataclass(frozen=True)
class FixedDraws:
    """The same number of draws for every image."""

    count: int

    def estimate(self, draw: OneDraw, batch: int, device: torch.device) -> LossEstimate:
        """Means over the draws for a batch of so many images."""
        rows = torch.arange(batch, device=device)
        total = draw(rows)
        for _ in range(self.count - 1):
            _add(total, rows, draw(rows))
        return _mean(total)


@dataclass(frozen=True)
class AdaptiveDraws(Textual):
    """Draws until the direction is settled, for each image on its own.

    With the mean gradient m of n draws and the variance v of one draw summed over pixels, the
    squared cosine between m and the true gradient is estimated without bias in either part by
    `1 - (v / n) / |m|^2`. An L2 step along m keeps that cosine of the gain of a step along the true
    gradient, and so does a sign step if gradient and error are normally distributed. An image is
    settled when its cosine reaches `1 - error`.

    Attributes:
        error: Share of the first-order gain that a step may lose.
        most: Largest number of draws.
    """

    name = "adaptive"
    error: float = 0.06
    most: float = 20

    def __post_init__(self) -> None:
        if not 0 < self.error < 1:
            raise InputError(f"error of adaptive draws must lie between 0 and 1, got {self.error}")
        if not (2 <= self.most <= MOST and float(self.most).is_integer()):
            raise InputError(
                f"most of adaptive draws must be a whole number from 2 to {MOST}: {self.most}"
            )

    def estimate(self, draw: OneDraw, batch: int, device: torch.device) -> LossEstimate:
        """Means over as many draws as each image of a batch needs, at least two."""
        rows = torch.arange(batch, device=device)
        total = draw(rows)
        squares = _squared_length(total.gradient)
        for count in range(2, int(self.most) + 1):
            sample = draw(rows)
            _add(total, rows, sample)
            squares[rows] += _squared_length(sample.gradient)
            mean_square = _squared_length(total.gradient[rows]) / count**2
            variance = (squares[rows] / count - mean_square).clamp(min=0) * count / (count - 1)
            settled = mean_square - variance / count >= (1 - self.error) ** 2 * mean_square
            rows = rows[~settled]
            if not len(rows):
                break
        return _mean(total)


def parse_draws(draws: int | str | FixedDraws | AdaptiveDraws) -> FixedDraws | AdaptiveDraws:
    """Reads a number of draws: a count, or a text such as `"adaptive(error=0.3,most=50)"`.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(draws, FixedDraws | AdaptiveDraws):
        return draws
    if isinstance(draws, str):
        return parse(draws, "number of draws", {"adaptive": AdaptiveDraws}, {})
    if isinstance(draws, bool) or not isinstance(draws, int) or not 1 <= draws <= MOST:
        raise InputError(
            f"draws must be a whole number from 1 to {MOST} or 'adaptive', got {draws!r:.40}"
        )
    return FixedDraws(draws)


def _add(total: LossEstimate, rows: Tensor, other: LossEstimate) -> None:
    for name in ("gradient", "loss", "wrong", "draws"):
        getattr(total, name)[rows] += getattr(other, name)


def _mean(total: LossEstimate) -> LossEstimate:
    draws = total.draws
    gradient = total.gradient / per_image(draws, total.gradient)
    return LossEstimate(gradient, total.loss / draws, total.wrong / draws, draws)


def _squared_length(gradient: Tensor) -> Tensor:
    return gradient.double().flatten(1).square().sum(1)
