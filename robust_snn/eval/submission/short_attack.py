"""A short attack on what a submission calls robust, to find out whether images were left out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robust_snn.attacks import APGD
from robust_snn.eval.scoring.verdict import AttackResult
from robust_snn.eval.submission.submission_folder import Submission
from robust_snn.gradients import parse_mode
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of
from robust_snn.victim import Victim

STEPS = 10
BATCH = 64


def short_attack(
    submission: Submission,
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    worst: Tensor,
    accuracy: np.ndarray,
) -> Tensor | None:
    """Attacks the images that are still right, with the gradient mode that broke most of them.

    Args:
        submission: Whose threat and attacks count.
        victim: The network.
        images: The clean images, `[N, C, H, W]`.
        labels: `[N]`.
        worst: The worst versions so far, `[N, C, H, W]`.
        accuracy: Their accuracies on fresh draws, `[N]`.

    Returns:
        `worst` with other versions of those images; None where no attack of ours fits.
    """
    threat = submission.verdict.threat
    attack = APGD(steps=STEPS)
    if threat["norm"] not in attack.norms or images.ndim != 4:
        return None
    attacker = _with_mode(victim, submission)
    found, device = worst.clone(), device_of(victim)
    for rows in torch.from_numpy(np.flatnonzero(accuracy > 0)).split(BATCH):
        batch = images[rows].to(device), labels[rows].to(device)
        made = attack(attacker, *batch, eps=threat["eps"], norm=threat["norm"], ids=rows)
        found[rows] = made.images.cpu()
    return found


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
