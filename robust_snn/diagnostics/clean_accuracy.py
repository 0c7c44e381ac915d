"""What a network answers to images that nothing has changed."""

from __future__ import annotations

from torch import Tensor

from robust_snn.diagnostics.diagnostic import Diagnostic
from robust_snn.utils.errors import InputError
from robust_snn.utils.share_texts import percent
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import count_classes
from robust_snn.victim.scoring import correct


def clean_accuracy(accuracy: float, classes: int) -> list[Diagnostic]:
    """What is said of a network that is no better than chance without an attack."""
    chance = 1 / classes
    if accuracy > chance:
        return []
    why = f"{percent(accuracy)} are right without an attack, {percent(chance)} by chance: "
    why += "are labels shifted, images scaled twice, or the network not trained?"
    return [Diagnostic("clean accuracy", accuracy, "fail", why)]


def without_clean_errors(
    victim: Victim, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, list[Diagnostic]]:
    """Images that the victim classifies correctly, their labels, and what is said of the rest.

    Raises:
        InputError: If the images or the labels are wrong, or there is no such image.
    """
    right = correct(victim, images, labels, draws=1)[:, 0]
    if not right.any():
        raise InputError(f"the network reads none of {len(images)} images right: nothing to attack")
    share = right.double().mean().item()
    return images[right], labels[right], clean_accuracy(share, count_classes(victim, images))
