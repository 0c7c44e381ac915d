"""Losses that attacks maximise, one number per image, and the classes they aim at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.loss_schedules import SCHEDULES, Moment
from robust_snn.utils.errors import InputError

TINY = 1e-12  # keeps a ratio of logits finite


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """`-log softmax(logits)[label]`, `[B]`."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Best other logit minus that of the label, `[B]`; positive where misclassified."""
    other = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return other - logits.gather(1, labels[:, None])[:, 0]


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein, 2020): margin over spread of the top 3, `[B]`."""
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + TINY)


def targeted_cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """`log softmax(logits)[target]`, `[B]`."""
    return -F.cross_entropy(logits, targets, reduction="none")


def targeted_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Logit of the target minus that of the label, `[B]`."""
    return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The targeted difference of logits ratio (Croce and Hein, 2020), over the top 4, `[B]`."""
    top = logits.topk(4, dim=1).values
    spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return targeted_margin(logits, labels, targets) / (spread + TINY)


def probability_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Best other probability minus that of the label, `[B]` (PMA, arXiv 2411.15210)."""
    return margin(torch.softmax(logits, 1), labels)


def targeted_probability_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Probability of the target minus that of the label, `[B]`."""
    return targeted_margin(torch.softmax(logits, 1), labels, targets)


def error_chance(logits: Tensor, labels: Tensor) -> Tensor:
    """Logistic function of the margin, `[B]`: with EOT, a smooth count of the draws that are wrong.

    Cross-entropy also grows where every draw is a little nearer to a mistake that none makes.
    """
    return torch.sigmoid(margin(logits, labels))


def targeted_error_chance(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Logistic function of the targeted margin, `[B]`."""
    return torch.sigmoid(targeted_margin(logits, labels, targets))


def tet(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every step, averaged (TET, ICLR 2022), of logits `[T, B, K]`, `[B]`.

    Raises a wrong answer at every step, where the cross-entropy of the mean can saturate.
    """
    return torch.stack([cross_entropy(step, labels) for step in logits]).mean(0)


def targeted_tet(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The targeted cross-entropy of every step, averaged, of logits `[T, B, K]`, `[B]`."""
    return -tet(logits, targets)


LOSSES = {
    "ce": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "tet": tet,
    "pm": probability_margin,
    "chance": error_chance,
    "gama": probability_margin,
    "md": margin,
}
STEPWISE = ("tet",)  # losses that read the logits of every step, `[T, B, K]`
TARGET_RULES = ("random", "least-likely")
TARGET_ORDERS = ("logit", "malt")
TARGETED = {
    "ce": targeted_cross_entropy,
    "margin": targeted_margin,
    "dlr": targeted_dlr,
    "tet": targeted_tet,
    "pm": targeted_probability_margin,
    "chance": targeted_error_chance,
    "gama": targeted_probability_margin,
    "md": targeted_margin,
}


def least_classes_of(loss: str, targeted: bool = False) -> int:
    """Fewest classes for which a loss is defined."""
    return 3 + targeted if loss == "dlr" else 2


class Goal:
    """A loss of some images with its labels and targets.

    Args:
        loss: A row of `LOSSES`.
        labels: `[B]`.
        targets: Classes to be predicted instead, `[B]`; None if any wrong class will do.
        temperature: Divides the logits.
    """

    def __init__(
        self, loss: str, labels: Tensor, targets: Tensor | None, temperature: float = 1.0
    ) -> None:
        self.name, self.labels, self.targets = loss, labels, targets
        self.temperature = temperature

    def loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Losses `[R]` of the `R` given rows, whose logits are `[R, K]`, or `[T, R, K]`.

        Raises:
            InputError: If the logits are of too few classes for the loss.
        """
        classes, least = logits.shape[-1], least_classes_of(self.name, self.targets is not None)
        if classes < least:
            raise InputError(
                f"loss '{self.name}' needs at least {least} classes, the victim has {classes}"
            )
        if self.temperature != 1:
            logits = logits / self.temperature
        if self.targets is None:
            return LOSSES[self.name](logits, self.labels[rows])
        return TARGETED[self.name](logits, self.labels[rows], self.targets[rows])

    def climbed(self, logits: Tensor, rows: Tensor, loss: Tensor, moment: Moment | None) -> Tensor:
        """What a step climbs, `[R]`: the loss, or what its schedule makes of it at a moment."""
        if moment is None or self.name not in SCHEDULES:
            return loss
        scaled = logits / self.temperature
        return SCHEDULES[self.name](loss, scaled, self.labels[rows], moment)

    def wrong(self, logits: Tensor, rows: Tensor) -> Tensor:
        """1 where the given rows are misclassified, else 0, `[R]`."""
        if self.name in STEPWISE:
            logits = logits.mean(0)
        return (logits.argmax(1) != self.labels[rows]).float()


def choose_targets(
    how: str | int | Tensor,
    logits: Tensor,
    labels: Tensor,
    rng: ImageRng,
    others: Tensor | None = None,
) -> Tensor:
    """Target classes for every round, one per image and never the label, `[rounds, B]`.

    Args:
        how: A number n for the n first other classes in turn, `"random"`, `"least-likely"`, or
            the targets themselves, `[B]`.
        logits: Logits of the clean images, `[B, K]`.
        labels: `[B]`.
        rng: Draws random targets.
        others: The other classes in their order, `[K - 1, B]`; the likeliest first if left out.

    Raises:
        InputError: If a given target is the label or no class.
    """
    classes = logits.shape[1]
    if others is None:
        likeliest = logits.scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)
        others = likeliest.T[:-1]
    if isinstance(how, Tensor):
        targets = how.to(labels.device).long()
        fits = targets.shape == labels.shape and bool((targets != labels).all())
        if not (fits and bool(((targets >= 0) & (targets < classes)).all())):
            raise InputError(
                f"targets must be {len(labels)} classes below {classes}, none of them the label, "
                f"got {tuple(how.shape)} with values up to {how.amax() if how.numel() else 'none'}"
            )
        return targets[None]
    if isinstance(how, int):
        return others[:how]
    if how == "random":
        numbers = rng.uniform("target").flatten(1)[:, 0]
        shift = 1 + ((numbers + 1) / 2 * (classes - 1)).long().clamp(max=classes - 2)
        return ((labels + shift) % classes)[None]
    return others[-1:]
