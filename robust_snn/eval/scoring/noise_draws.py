"""Scores of images: a victim's predictions on noise draws that no attack has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import check_finite
from robust_snn.victim.scoring import fresh_logits, logits_one_by_one, scoring_logits

# AutoAttack's numbers: draws that tell a noisy net from a deterministic one, and the largest
# distance of normalised logits that counts as equal
PROBE_DRAWS, SAME_LOGITS = 5, 1e-4


@dataclass(frozen=True)
class Score:
    """Predictions and margins of `B` images.

    Attributes:
        predictions: Predicted classes, int16 where it holds them all, `[B, draws]`.
        tied: Whether the label has the best logit and another class too, bool `[B, draws]`.
        accuracy: Share of the draws that are correct, `[B]`.
        margin: Logit of the label minus the best other, averaged over draws, `[B]`.
    """

    predictions: np.ndarray
    tied: np.ndarray
    accuracy: np.ndarray
    margin: np.ndarray


def score(
    victim: Victim, images: Tensor, labels: Tensor, ids: Tensor, *, draws: int, purpose: str
) -> Score:
    """Classifies images under several noise draws.

    The noise depends on the victim's seed, `purpose`, the image's id and the draw. So a score does
    not depend on which images are scored together, nor on anything that an attack drew.

    Args:
        victim: The victim; its plain network is asked, one draw at a time.
        images: `[B, C, H, W]`.
        labels: `[B]`.
        ids: Index of every image in the evaluated set, `[B]`.
        draws: Number of draws.
        purpose: Name of the stream of draws: `"select"` or `"report"`.

    Raises:
        InputError: If the victim's logits are not finite.
    """
    predicted, margins = [], []
    for draw in range(draws):
        logits = scoring_logits(victim, images, ids, draw, purpose)
        check_finite(logits)
        predicted.append(logits.argmax(1))
        margins.append(-margin(logits, labels))
    predictions, ahead = torch.stack(predicted, dim=1), torch.stack(margins, dim=1)
    kind = np.int16 if logits.shape[1] <= 2**15 else np.int32
    return Score(
        predictions.cpu().numpy().astype(kind),
        (ahead == 0).cpu().numpy(),
        (predictions == labels[:, None]).double().mean(1).cpu().numpy(),
        ahead.mean(1).cpu().numpy(),
    )


def harder(
    accuracy: np.ndarray, margin: np.ndarray, than_accuracy: np.ndarray, than_margin: np.ndarray
) -> np.ndarray:
    """Which versions of images are harder than others: by accuracy, then margin; bool `[B]`."""
    return (accuracy < than_accuracy) | ((accuracy == than_accuracy) & (margin < than_margin))


def noise_spread(victim: Victim, images: Tensor) -> float:
    """Largest distance between the normalised logits of two draws of an image `[B, C, H, W]`.

    Above `SAME_LOGITS` the victim is noisy, whether it declares it or not.

    Raises:
        InputError: If the victim's logits are not finite.
    """
    ids = torch.arange(len(images), device=images.device)
    return _spread(torch.stack(fresh_logits(victim, images, ids, PROBE_DRAWS, "probe")))


def repeat_spread(victim: Victim, images: Tensor) -> float:
    """The same of two calls of one draw: above `SAME_LOGITS` the noise is not under control."""
    ids = torch.arange(len(images), device=images.device)
    return _spread(torch.stack([victim.sample(images, ids, purpose="probe") for _ in range(2)]))


def batch_influence(victim: Victim, images: Tensor) -> float:
    """Distance of the logits of the first and last image alone and among these, over their size."""
    ids = torch.arange(len(images), device=images.device)
    ends = ids[[0, -1]]
    together = victim.sample(images, ids, purpose="probe")[ends]
    return _distance(together, logits_one_by_one(victim, images[ends], ends, 0, "probe"))


def gradient_influence(victim: Victim, images: Tensor) -> float:
    """Distance of the logits of scoring and of passes that have a gradient, over their size.

    Both are of the same noise and of float32: networks answer alike but for rounding, unless one
    asks whether it is attacked.
    """
    ids = torch.arange(len(images), device=images.device)
    rounding = {"bf16": False, "tf32": False, "sparse": "never"}
    plain = victim.replace(eot=1, noise="fresh", output="logits", graph=False, **rounding)
    with torch.enable_grad():
        attacked = plain(images.detach().clone().requires_grad_(), ids, ("probe",))
    return _distance(victim.sample(images, ids, purpose="probe"), attacked.detach())


def _distance(some: Tensor, others: Tensor) -> float:
    size = float((some.norm() + others.norm()) / 2)
    return float((some - others).norm()) / size if size else 0.0


def _spread(logits: Tensor) -> float:
    check_finite(logits)
    unit = torch.nn.functional.normalize(logits, dim=-1)
    return float((unit[:, None] - unit[None]).norm(dim=-1).max())
