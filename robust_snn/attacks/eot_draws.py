"""How many noise draws a gradient averages: a fixed count, or as many as the gradient needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.utils.errors import InputError
from robust_snn.utils.text_form import Textual, parse


@dataclass
class Estimate:
    """Means over draws, for the images of a batch.

    Attributes:
        gradient: Gradient of the expected loss, `[B, ...]`.
        loss: Expected loss, `[B]`.
        wrong: Share of the draws that misclassify, `[B]`.
        draws: Number of draws, `[B]`.
    """

    gradient: Tensor
    loss: Tensor
    wrong: Tensor
    draws: Tensor


Draw = Callable[[Tensor], Estimate]  # one draw for the given rows of a batch


@dataclass(frozen=True)
class Fixed:
    """The same number of draws for every image."""

    count: int

    def estimate(self, draw: Draw, batch: int, device: torch.device) -> Estimate:
        rows = torch.arange(batch, device=device)
        total = draw(rows)
        for _ in range(self.count - 1):
            _add(total, rows, draw(rows))
        return _mean(total)


@dataclass(frozen=True)
class Adaptive(Textual):
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
        if not (self.most >= 2 and float(self.most).is_integer()):
            raise InputError(f"most of adaptive draws must be a number of at least 2: {self.most}")

    def estimate(self, draw: Draw, batch: int, device: torch.device) -> Estimate:
        rows = torch.arange(batch, device=device)
        total = draw(rows)
        squares = _squared_length(total.gradient)
        for count in range(2, int(self.most) + 1):
            one = draw(rows)
            _add(total, rows, one)
            squares[rows] += _squared_length(one.gradient)
            mean_square = _squared_length(total.gradient[rows]) / count**2
            variance = (squares[rows] / count - mean_square).clamp(min=0) * count / (count - 1)
            settled = mean_square - variance / count >= (1 - self.error) ** 2 * mean_square
            rows = rows[~settled]
            if not len(rows):
                break
        return _mean(total)


def parse_draws(draws: int | str | Fixed | Adaptive) -> Fixed | Adaptive:
    """Reads a number of draws: a count, or a text such as `"adaptive(error=0.3,most=50)"`.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(draws, Fixed | Adaptive):
        return draws
    if isinstance(draws, str):
        return parse(draws, "number of draws", {"adaptive": Adaptive}, {})
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
        raise InputError(f"draws must be a whole number of at least 1 or 'adaptive', got {draws!r}")
    return Fixed(draws)


def _add(total: Estimate, rows: Tensor, one: Estimate) -> None:
    for name, value in vars(one).items():
        getattr(total, name)[rows] += value


def _mean(total: Estimate) -> Estimate:
    draws = total.draws
    shape = (-1, *[1] * (total.gradient.ndim - 1))
    return Estimate(
        total.gradient / draws.reshape(shape), total.loss / draws, total.wrong / draws, draws
    )


def _squared_length(gradient: Tensor) -> Tensor:
    return gradient.double().flatten(1).square().sum(1)
