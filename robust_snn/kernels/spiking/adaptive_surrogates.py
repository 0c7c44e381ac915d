"""Rules whose surrogate adapts to the membranes: PDSG (CVPR 2025) and ASSG (arXiv 2512.22522)."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from robust_snn.kernels.blocks import BLOCK, blocks, blockwise
from robust_snn.kernels.spiking.one_step import in_one_pass, row_sums, running_distances
from robust_snn.kernels.spiking.rules import Recursion, Surrogate

Steps: TypeAlias = Tensor | Sequence[Tensor]  # of every step, also where those are apart
_logger = logging.getLogger("robust_snn")


class AdaptiveSurrogate(ABC):
    """Base of the rules whose surrogate depends on the membranes of the pass.

    Attributes:
        detach_reset: Whether the gradient ignores that a spike resets the membrane.
    """

    detach_reset: bool = False

    @abstractmethod
    def recursion(self, z: Steps) -> Recursion:
        """The rule at `z = v - threshold` `[T, B, ...]`: a recursion with a sharpness map."""


@dataclass(frozen=True)
class WidthBySpread(AdaptiveSurrogate):
    """A Gaussian surrogate as wide as the membranes spread, shifted by half its width (PDSG).

    Attributes:
        scope: `"sample"` measures the width in each sample. `"batch"` measures it in the whole
            batch as the paper does, so an image's gradient depends on the others.
        detach_reset: Whether the gradient ignores that a spike resets the membrane.
    """

    scope: Literal["sample", "batch"] = "sample"
    detach_reset: bool = False

    def recursion(self, z: Steps) -> Recursion:
        sharpness = 1 / _spread(z, self.scope)
        return Recursion(Surrogate("shifted", 1.0), self.detach_reset, sharpness=sharpness)


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

    @torch.no_grad()
    def update(self, layer: str, z: Steps, beta: float) -> tuple[Tensor, Tensor]:
        """Mean of the distance `|z|` `[T, B, ...]` and mean deviation from it, with this pass.

        The next pass changes both in place.
        """
        shape = len(z), *z[0].shape
        running = self.layers.get(layer)
        if running is None or running[0].shape != shape:
            running = z[0].new_ones(shape), z[0].new_zeros(shape)
        elif layer in self.learned:
            return running
        for step, *parts in zip(z, *running, strict=True):
            if in_one_pass(step, *parts):
                running_distances(step, parts, beta)
                continue
            for part, mean, deviation in blocks(step, *parts):
                distance = part.abs()
                mean.mul_(beta).add_((1 - beta) * distance)
                distance.sub_(mean).abs_().mul_(1 - beta)
                deviation.mul_(beta).add_(distance)
        self.layers[layer] = running
        if self.images is not None:
            self.learned.add(layer)
        return running


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

    def update(self, z: Steps, beta: float) -> tuple[Tensor, Tensor]:
        """Mean of the distance `|z|` `[T, B, ...]` and mean deviation from it, with this pass."""
        if not self.learning and self.layer in self.memory.layers:
            return self.memory.layers[self.layer]
        return self.memory.update(self.layer, z, beta)


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
    detach_reset = True

    def recursion(self, z: Steps) -> Recursion:
        def sharpness(mean: Tensor, deviation: Tensor) -> Tensor:
            return self.omega / (self.relax * deviation).add_(mean).add_(1e-4)

        statistics = self.statistics.update(z, self.beta)
        with torch.no_grad():
            adapted = blockwise(sharpness, *statistics)
        return Recursion(Surrogate(self.family, 1.0), self.detach_reset, sharpness=adapted)


@torch.no_grad()
def _spread(z: Steps, scope: str) -> Tensor:
    """Standard deviation over the steps so far, per channel of a map or over all features.

    One where it is zero or not defined, which is the case for a single value.
    """
    if not z[0].numel():
        return z[0].new_ones(len(z), *z[0].shape)
    if z[0].dim() == 1:
        return _spread([step[:, None] for step in z], scope)[..., 0]
    pooled = list(range(2, z[0].dim())) if z[0].dim() > 2 else [1]
    total, square = (torch.stack(x) for x in zip(*(_sums(step, pooled) for step in z), strict=True))
    steps = torch.arange(1, len(z) + 1, device=total.device).view(-1, *[1] * (total.dim() - 1))
    count = steps * torch.Size(z[0].shape[d] for d in pooled).numel()
    if scope == "batch":
        total, square, count = total.sum(1, True), square.sum(1, True), count * len(z[0])
    total, square = total.cumsum(0), square.cumsum(0)
    variance = (square - total.square() / count) / (count - 1)
    spread = variance.clamp(min=0).sqrt().to(z[0].dtype)
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def _sums(z: Tensor, pooled: list[int]) -> tuple[Tensor, Tensor]:
    """Sums of `z` `[B, ...]` and of its square over some dimensions, in double precision."""
    if in_one_pass(z):
        shape = *z.shape[: pooled[0]], *[1] * len(pooled)  # these are its last dimensions
        total, square = row_sums(z, z.shape[pooled[0] :].numel())
        return total.view(shape), square.view(shape)
    rows = max(1, BLOCK // z[0].numel()) if z.device.type == "cpu" else len(z)
    sums = []
    for part in z.split(rows):  # its double stays in the cache
        double = part.to(torch.float64, copy=True)  # it is changed in place
        total = double.sum(pooled, keepdim=True)
        sums.append([total, double.square_().sum(pooled, keepdim=True)])
    total, square = map(torch.cat, zip(*sums, strict=True))
    return total, square
