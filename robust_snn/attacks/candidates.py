"""The hardest points an attack met, and fresh draws to choose among them."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.attacks.eot_draws import Estimate
from robust_snn.attacks.losses import margin
from robust_snn.victim import Victim
from robust_snn.victim_scoring import fresh_logits

WRONG = 1e6  # outweighs any loss


class Best:
    """Keeps several points per image: those with the most wrong answers, then the highest loss.

    The loss that a noisy victim shows at a point is partly luck, and the maximum over many points
    mostly. So the point with the highest loss is not believed: fresh draws choose among several.

    Attributes:
        points: `[keep, B, ...]`; the clean images stand in until there are enough.
        score: What the points are ranked by, `[keep, B]`.
    """

    def __init__(self, images: Tensor, keep: int) -> None:
        self.points = images.expand(keep, *images.shape).clone()
        self.score = torch.full((keep, len(images)), -torch.inf, device=images.device).double()

    def offer(self, rows: Tensor, x: Tensor, estimate: Estimate) -> None:
        """Keeps the points `x` of the given rows where they beat the easiest that is kept."""
        score = estimate.loss.double().clamp(-WRONG / 4, WRONG / 4) + WRONG * estimate.wrong
        kept = self.score[:, rows]
        easiest = kept.argmin(0)
        better = (score > kept.amin(0)) & (score != kept).all(0)
        slots, images = easiest[better], rows[better]
        self.points[slots, images] = x[better]
        self.score[slots, images] = score[better]

    @property
    def fooled(self) -> Tensor:
        """Whether a deterministic victim misclassifies a point, bool `[B]`."""
        return self.score.amax(0) > WRONG / 2

    def choose(
        self, victim: Victim, labels: Tensor, ids: Tensor, draws: int
    ) -> tuple[Tensor, Tensor]:
        """The points that fresh draws find hardest, by the same rule.

        Returns:
            The points `[B, ...]`, and whether the label won at least half of the draws, `[B]`.
        """
        scores, rights = [], []
        for points in self.points:
            logits = fresh_logits(victim, points, ids, draws, "choose")
            right = torch.stack([(z.argmax(1) == labels).double() for z in logits]).mean(0)
            gap = torch.stack([margin(z, labels).double() for z in logits]).mean(0)
            scores.append(gap.clamp(-WRONG / 4, WRONG / 4) - WRONG * right)
            rights.append(right)
        hardest = torch.stack(scores).argmax(0)
        images = torch.arange(len(labels), device=labels.device)
        return self.points[hardest, images], torch.stack(rights)[hardest, images] >= 0.5
