"""Scoring on fresh draws: what a victim predicts under noise that no attack has seen.

Whatever made the images, this is how the package finds out which of them are classified correctly:
attacks when they choose among their points, adapters, diagnostics, training and the evaluation. The
noise of a draw follows from the victim's seed, a purpose, the image's id and the draw's number, so
neither the split into batches nor anything drawn by an attack changes it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.data.lazy_images import Images
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of, undisturbed
from robust_snn.utils.values import whole
from robust_snn.victim.checked_inputs import check_finite, checked_set, first_images
from robust_snn.victim.victim import Victim

SCORING_DRAWS = 20  # of a noisy victim; a deterministic one needs one


def fresh_logits(
    victim: Victim, images: Tensor, ids: Tensor, draws: int, purpose: str = "report"
) -> list[Tensor]:
    """Logits of the plain float32 network under several noise draws, `[B, K]` for each draw.

    Args:
        victim: The victim, in eval mode.
        images: `[B, C, H, W]`, where the network is.
        ids: Index of each image in the evaluated set, `[B]`.
        draws: Number of draws.
        purpose: Name of the stream of draws; those of two purposes are independent.
    """
    return [victim.sample(images, ids, draw=draw, purpose=purpose) for draw in range(draws)]


def scoring_logits(victim: Victim, images: Tensor, ids: Tensor, draw: int, purpose: str) -> Tensor:
    """Logits `[B, K]` as of `Victim.sample`, under noise that is every image's own.

    A network that draws once for a whole batch answers one image at a time here: else images would
    be right and wrong together, and what is beside an image would change its noise.
    """
    if victim.draws_by_batch:
        return logits_one_by_one(victim, images, ids, draw, purpose)
    return victim.sample(images, ids, draw, purpose)


def logits_one_by_one(
    victim: Victim, images: Tensor, ids: Tensor, draw: int, purpose: str
) -> Tensor:
    """Logits `[B, K]` as of `Victim.sample`, where every image is alone in its batch."""
    pairs = zip(images.split(1), ids.split(1), strict=True)
    return torch.cat([victim.sample(image, one, draw, purpose) for image, one in pairs])


@checked_types
def correct(
    victim: Victim,
    images: Images,
    labels: Tensor,
    *,
    draws: int = SCORING_DRAWS,
    ids: Tensor | None = None,
    purpose: str = "report",
    batch_size: int = 250,
) -> Tensor:
    """Whether each image is classified correctly under each draw.

    The network runs in eval mode; its modes and the global generators stay as they were.

    Args:
        victim: The victim.
        images: `[N, C, H, W]`, in memory or on disk; batches of them move to the network's device.
        labels: `[N]`.
        draws: Number of draws; a deterministic victim is scored once.
        ids: Index of each image in the evaluated set, `[N]`; positions if left out.
        purpose: Name of the stream of draws.
        batch_size: Images that pass together.

    Returns:
        Bool `[N, draws]`, where the labels are; `[N, 1]` for a deterministic victim.

    Raises:
        InputError: If there is nothing to score, or the images and labels do not suit the victim.
    """
    labels, _ = checked_set(victim, images, labels)
    if not len(images):
        raise InputError("no images to score")
    batch_size, draws = whole(batch_size, "batch_size", 1), whole(draws, "draws", 1)
    draws = draws if victim.stochastic else 1
    ids = torch.arange(len(images), device="cpu") if ids is None else ids
    device, right = device_of(victim, first_images(images)), list[Tensor]()
    with undisturbed(victim):
        for start in range(0, len(images), batch_size):
            x, y, of = (each[start : start + batch_size] for each in (images, labels, ids))
            x = x.to(device)
            logits = [scoring_logits(victim, x, of, draw, purpose) for draw in range(draws)]
            for drawn in logits:
                check_finite(drawn)
            predicted = torch.stack([z.argmax(1) for z in logits], 1)
            right.append(predicted.to(y.device) == y[:, None])
    return torch.cat(right)


@checked_types
def accuracy(
    victim: Victim,
    images: Images,
    labels: Tensor,
    *,
    draws: int = SCORING_DRAWS,
    batch_size: int = 250,
) -> float:
    """Share of correct classifications over all images and draws, in [0, 1]; see `correct`."""
    right = correct(victim, images, labels, draws=draws, batch_size=batch_size)
    return float(right.double().mean())
