"""Noise that an attacker knows: a network that repeats one draw for every image."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robust_snn.kernels import sample_keys
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import modules_of

SIDE = 8  # pixels of the thumbnails by which images are told apart
TOGETHER = 256  # images that are read at once


class Sliced(Protocol):
    """Images `[N, ...]` in a tensor, or others that are read as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: Any) -> Tensor: ...


class KnownDraws:
    """The keys of every image: a function of the image alone, whoever asks and in which batch.

    Attacks ask about changed images in batches of their own, so an image draws as the nearest of
    the known ones, by thumbnails. An attack would have to lead half the way to another image to get
    its draw; even then, scores use the same one.

    Args:
        seed: Seed of the draws.
        images: The known images `[N, ...]`.
    """

    def __init__(self, seed: int, images: Sliced) -> None:
        starts = range(0, len(images), TOGETHER)
        self.seed = seed
        self.thumbnails = torch.cat([thumbnails(images[i : i + TOGETHER]) for i in starts])

    @torch.no_grad()
    def keys(self, x: Tensor) -> Tensor:
        """The keys of images `[B, ...]`, `[B]`."""
        known = self.thumbnails.to(x.device)
        return sample_keys(self.seed, torch.cdist(thumbnails(x), known).argmin(1))


def thumbnails(images: Tensor) -> Tensor:
    """Small versions of images `[B, C, H, W]` or frames `[B, T, C, H, W]`, `[B, n]`."""
    planes = images.detach().float().flatten(1, -3)
    height, width = (min(side, SIDE) for side in planes.shape[2:])
    return F.adaptive_avg_pool2d(planes, (height, width)).flatten(1)


def with_known_noise(net: nn.Module, seed: int = 0, images: Sliced | None = None) -> nn.Module:
    """A copy of a noisy network that repeats its draws: an attacker knows its random numbers.

    It is a deterministic function of each image, so every attack runs on it as on any network, and
    what attacks leave holds without luck.

    Args:
        net: The network.
        seed: Seed of the draws.
        images: The images that will be attacked, `[N, ...]`: each has a draw of its own, which its
            versions share; it does so inside a `Victim`. One draw for all images if left out.

    Raises:
        InputError: If the network has no noise, or there are no images.
    """
    known = deepcopy(net)
    noisy = [m for m in modules_of(known) if isinstance(m, NoisyModule) and m.stochastic]
    if not noisy:
        raise InputError(f"{type(net).__name__} draws nothing at random, so no noise can be known")
    if images is not None and not len(images):
        raise InputError("no images whose noise an attacker could know")
    for module in noisy:
        module.known_seed, module.known_by_image = seed, images is not None
    if images is not None:
        known.known_draws = KnownDraws(seed, images)  # type: ignore[assignment]
    return known


def known_draws(net: nn.Module) -> KnownDraws | None:
    """The draws of every image that a network repeats; None if it repeats none."""
    return getattr(net, "known_draws", None)
