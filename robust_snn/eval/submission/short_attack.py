"""A short attack on what a submission calls robust, to find out whether images were left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from robust_snn.attacks import APGD
from robust_snn.eval.scoring.verdict import AttackResult
from robust_snn.eval.submission.submission_folder import Submission
from robust_snn.gradients import parse_mode
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim

STEPS = 10


def short_attack(
    submission: Submission, victim: Victim, events: bool
) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
    """An attack with the gradient mode that broke most images; None where none of ours fits.

    Args:
        submission: Whose threat and attacks count.
        victim: The network.
        events: Whether the images are event frames.

    Returns:
        A function of images `[B, C, H, W]`, labels `[B]` and which images they are `[B]`.
    """
    threat, attack = submission.verdict.threat, APGD(steps=STEPS)
    if threat["norm"] not in attack.norms or events:
        return None
    attacker = _with_mode(victim, submission)

    def attacked(images: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        made = attack(attacker, images, labels, eps=threat["eps"], norm=threat["norm"], ids=ids)
        return made.images

    return attacked


def _with_mode(victim: Victim, submission: Submission) -> Victim:
    """The victim under the gradient mode of the attack that made most worst versions."""
    rows: list[AttackResult] = list(submission.verdict.attacks)
    made = np.bincount(submission.predictions.by + 1, minlength=len(rows) + 1)[1:]
    for row in sorted(range(len(rows)), key=lambda row: -made[row]):
        try:
            mode = parse_mode(rows[row].gradient)
            return victim.replace(gradient=mode, eot=min(rows[row].eot, 10))
        except InputError:  # a network's own gradient, or a mode of another version
            continue
    return victim
