"""Answers that the order of classes decides: another class has the best logit, as the label has.

Sums of few spikes are equal often. The answer is then the class that comes first, here as in other
libraries, so that an attack succeeds or fails by the number of a class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import attack_variant, on_device
from robust_snn.attacks.mode_ranking import SCORE_DRAWS
from robust_snn.diagnostics.attack_sanity import ShortAttacks
from robust_snn.diagnostics.diagnostic import Diagnostic, grade
from robust_snn.utils.share_texts import percent
from robust_snn.victim import Victim
from robust_snn.victim.scoring import scoring_logits

NAME = "tied answers"
SHARE = 0.01  # of the answers, from which on it is a warning


class Answers(NamedTuple):
    """Answers to images under several draws, bool `[N, draws]`: right, and decided by a tie."""

    right: np.ndarray
    tied: np.ndarray


def tied_answers(clean: Answers, attacked: Answers) -> list[Diagnostic]:
    """How many answers are decided by a tie, and between what the accuracies lie for that.

    Args:
        clean: Answers to the clean images.
        attacked: Those to what attacks made of them.
    """
    shares = [float(answers.tied.mean()) for answers in (clean, attacked)]
    if not any(shares):
        return []
    told = []
    for answers in (clean, attacked):
        ends = (answers.right & ~answers.tied).mean(), (answers.right | answers.tied).mean()
        told.append(" to ".join(map(percent, ends)))
    why = f"the label shares the best logit with another class in {percent(shares[0])} of the "
    why += f"answers to clean images and {percent(shares[1])} of those under attack, where the "
    why += "class that comes first is the answer; with such ties counted as wrong or as right, "
    why += f"accuracy is {told[0]} clean and {told[1]} under attack"
    return [Diagnostic(NAME, max(shares), grade(max(shares), SHARE, 1.0), why)]


def ties_under_attack(attacks: ShortAttacks) -> list[Diagnostic]:
    """The same of images, and of what PGD makes of them."""
    victim, labels, seed = attacks.victim, attacks.labels, attacks.seed
    shown = attacks.images, attacks.pgd()
    return tied_answers(*(_answers(victim, images, labels, seed) for images in shown))


def _answers(victim: Victim, images: Tensor, labels: Tensor, seed: int) -> Answers:
    draws = SCORE_DRAWS if victim.stochastic else 1
    with attack_variant(victim, seed) as variant, torch.no_grad():
        x, y, ids = on_device(variant, images, labels, None)
        logits = [scoring_logits(variant, x, ids, draw, "score") for draw in range(draws)]
        right = torch.stack([z.argmax(1) == y for z in logits], 1)
        tied = torch.stack([margin(z, y) == 0 for z in logits], 1)
    return Answers(right.cpu().numpy(), tied.cpu().numpy())
