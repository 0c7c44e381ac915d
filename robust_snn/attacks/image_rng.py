"""Random numbers of images, the same ones in any batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robust_snn.kernels import derive_seed


class ImageRng:
    """Random numbers for images: those of one image depend on the seed, its id and their purpose.

    So an image gets the same ones in any batch.

    Args:
        seed: Seed of the attack.
        ids: Index of each image in the attacked set, `[B]`.
        like: Images whose shape and device the numbers take, `[B, ...]`.
    """

    def __init__(self, seed: int, ids: Tensor, like: Tensor) -> None:
        self.seed, self.ids = seed, ids.tolist()
        self.shape, self.device = like.shape[1:], like.device

    def uniform(self, *purpose: str | int) -> Tensor:
        """Numbers uniform in [-1, 1), float32 `[B, ...]`."""
        return self._numbers(torch.rand, purpose) * 2 - 1

    def normal(self, *purpose: str | int) -> Tensor:
        """Standard normal numbers, float32 `[B, ...]`."""
        return self._numbers(torch.randn, purpose)

    def _numbers(
        self, distribution: Callable[..., Tensor], purpose: tuple[str | int, ...]
    ) -> Tensor:
        numbers = torch.empty((len(self.ids), *self.shape))
        for row, image in enumerate(self.ids):
            generator = torch.Generator().manual_seed(derive_seed(self.seed, *purpose, image))
            numbers[row] = distribution(self.shape, generator=generator)
        return numbers.to(self.device)
