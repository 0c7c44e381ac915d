"""Rules whose surrogate adapts to the membranes: PDSG (CVPR 2025) and ASSG (arXiv 2512.22522)."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from robust_snn.kernels.spiking.rules import Recursion, Surrogate

_logger = logging.getLogger("robust_snn")


class AdaptiveSurrogate(ABC):
    """Base of the rules whose surrogate depends on the membranes of the pass."""

    @abstractmethod
    def recursion(self, z: Tensor) -> Recursion:
        """The rule at `z = v - threshold` `[T, B, ...]`: a recursion with a sharpness map."""


@dataclass(frozen=True)
class WidthBySpread(AdaptiveSurrogate):
    """A Gaussian surrogate as wide as the membranes spread, shifted by half its width (PDSG).

    Attributes:
        scope: `"sample"` measures the width in each sample. `"batch"` measures it in the whole
            batch as the paper does, so an image's gradient depends on the others.
    """

    scope: Literal["sample", "batch"] = "sample"

    def recursion(self, z: Tensor) -> Recursion:
        return Recursion(Surrogate("shifted", 1.0), sharpness=1 / _spread(z, self.scope))


class SharpnessMemory:
    """Running statistics of one attack run: how far membranes are from the threshold.

    The statistics of a sample belong to its position in the batch. They restart when the batch size
    changes or another image takes the position. They learn from every point of an attack once, so
    EOT passes over the same images leave them alone. A copy starts empty.
    """

    SAME_IMAGE = 0.15  # mean absolute difference that an attack stays below, and other images above

    def __init__(self) -> None:
        self.restart()

    def __reduce__(self) -> tuple[Any, ...]:
        return SharpnessMemory, ()

    def restart(self) -> None:
        """Forgets everything; an attack calls it when a run starts."""
        self.layers: dict[str, tuple[Tensor, Tensor]] = {}
        self.learned: set[str] = set()
        self.images: Tensor | None = None

    def observe(self, images: Tensor) -> None:
        """Notes the images `[B, ...]` of the coming pass, and what must restart or stay."""
        images, before = images.detach(), self.images
        if before is None or before.shape != images.shape:
            self.restart()
            self.images = images.clone()
            return
        moved = (images - before).flatten(1).abs().mean(1)
        if not moved.any():
            return
        self.images = images.clone()
        self.learned = set()
        other = moved > self.SAME_IMAGE
        if other.any():
            _logger.info("assg: %d of %d images are new; their statistics restart", *_count(other))
            for mean, deviation in self.layers.values():
                mean[:, other], deviation[:, other] = 1.0, 0.0

    @contextmanager
    def part(self, rows: Tensor) -> Iterator[None]:
        """Inside, the places of the batch are those of `rows`, and nothing is learned."""
        kept = self.layers, self.learned, self.images
        self.layers = {name: (m[:, rows], d[:, rows]) for name, (m, d) in self.layers.items()}
        self.learned = set(self.layers)
        self.images = None if self.images is None else self.images[rows]
        try:
            yield
        finally:
            self.layers, self.learned, self.images = kept

    def update(self, layer: str, distance: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """Mean of `distance` `[T, B, ...]` and mean deviation from it, this pass included."""
        mean, deviation = self.layers.get(layer, (None, None))
        if mean is None or deviation is None or mean.shape != distance.shape:
            mean, deviation = torch.ones_like(distance), torch.zeros_like(distance)
        elif layer in self.learned:
            return mean, deviation
        mean = beta * mean + (1 - beta) * distance
        deviation = beta * deviation + (1 - beta) * (distance - mean).abs()
        self.layers[layer] = mean, deviation
        if self.images is not None:
            self.learned.add(layer)
        return mean, deviation


class LayerStatistics(NamedTuple):
    """The running statistics of one layer.

    Attributes:
        memory: The statistics of the attack run.
        layer: Name of the layer in it.
        learning: Whether passes change them; not where a pass is repeated.
    """

    memory: SharpnessMemory
    layer: str
    learning: bool = True

    def update(self, distance: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """Mean of `distance` `[T, B, ...]` and mean deviation from it, this pass included."""
        if not self.learning and self.layer in self.memory.layers:
            return self.memory.layers[self.layer]
        return self.memory.update(self.layer, distance, beta)


def _count(mask: Tensor) -> tuple[int, int]:
    return int(mask.sum()), mask.numel()


@dataclass(frozen=True)
class SharpnessByDistance(AdaptiveSurrogate):
    """A surrogate whose sharpness follows each neuron's distance from the threshold (ASSG).

    `sharpness = omega / (M + relax D + 1e-4)` with the running mean `M` and mean deviation `D` of
    the distance, which keeps the expected share of the surrogate inside that distance below the
    degree that `omega` stands for. The reset is detached, as in the paper.

    Attributes:
        family: Row of `surrogate_shapes.UNIT_SHAPES`.
        omega: Distance in which the unit shape has that share; see `gradients.vanishing`.
        relax: Weight of the mean deviation.
        beta: Decay of the running statistics.
        statistics: What the layer has learned in the attack run.
    """

    family: str
    omega: float
    relax: float
    beta: float
    statistics: LayerStatistics

    def recursion(self, z: Tensor) -> Recursion:
        mean, deviation = self.statistics.update(z.abs(), self.beta)
        sharpness = self.omega / (mean + self.relax * deviation + 1e-4)
        return Recursion(Surrogate(self.family, 1.0), detach_reset=True, sharpness=sharpness)


def _spread(z: Tensor, scope: str) -> Tensor:
    """Standard deviation over the steps so far, per channel of a map or over all features.

    One where it is zero or not defined, which is the case for a single value.
    """
    pooled = list(range(3, z.dim())) if z.dim() > 3 else [2]
    if scope == "batch":
        pooled.append(1)
    values = z.double()
    steps = torch.arange(1, len(z) + 1, device=z.device).view(-1, *[1] * (z.dim() - 1))
    count = steps * torch.Size(z.shape[d] for d in pooled).numel()
    total = values.sum(pooled, keepdim=True).cumsum(0)
    square = values.square().sum(pooled, keepdim=True).cumsum(0)
    variance = (square - total.square() / count) / (count - 1)
    spread = variance.clamp(min=0).sqrt().to(z.dtype)
    return torch.where(spread > 0, spread, torch.ones_like(spread))
