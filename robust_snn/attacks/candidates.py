"""The hardest points that an attack evaluated, and fresh draws to choose among them."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.eot_draws import LossEstimate
from robust_snn.victim import Victim
from robust_snn.victim.scoring import fresh_logits

WRONG = 1e6  # outweighs any loss


class Candidates:
    """Keeps several points per image: those with the most wrong answers, then the highest loss.

    The loss of a noisy victim at a point depends on its draws, and the maximum over many points
    mostly. So it is not simply the point of highest loss: fresh draws choose among several.

    Attributes:
        points: `[keep, B, ...]`; the clean images stand in until there are enough.
        score: What the points are ranked by, `[keep, B]`.
    """

    def __init__(self, images: Tensor, keep: int) -> None:
        self.points = images.expand(keep, *images.shape).clone()
        self.score = torch.full((keep, len(images)), -torch.inf, device=images.device).double()

    def offer(self, rows: Tensor, x: Tensor, estimate: LossEstimate) -> None:
        """Keeps the points `x` of the given rows where they beat the easiest that is kept."""
        score = estimate.loss.double().clamp(-WRONG / 4, WRONG / 4) + WRONG * estimate.wrong
        kept = self.score[:, rows]
        easiest = kept.argmin(0)
        better = (score > kept.amin(0)) & (score != kept).all(0)
        slots, images = easiest[better], rows[better]
        self.points[slots, images] = x[better]
        self.score[slots, images] = score[better]

    @property
    def misclassified(self) -> Tensor:
        """Whether a deterministic victim misclassifies a point, bool `[B]`."""
        return self.score.amax(0) > WRONG / 2

    def choose(
        self, victim: Victim, labels: Tensor, ids: Tensor, draws: int
    ) -> tuple[Tensor, Tensor]:
        """The points that fresh draws find hardest, by the same rule.

        Returns:
            The points `[B, ...]`, and whether more than half of the draws misclassify them, `[B]`.
        """
        points, slot = _distinct(self.points)
        scores, rights = [], []
        for version in points:
            logits = fresh_logits(victim, version, ids, draws, "choose")
            right = torch.stack([(z.argmax(1) == labels).double() for z in logits]).mean(0)
            gap = torch.stack([margin(z, labels).double() for z in logits]).mean(0)
            scores.append(gap.clamp(-WRONG / 4, WRONG / 4) - WRONG * right)
            rights.append(right)
        hardest = torch.stack(scores).gather(0, slot).argmax(0)
        images = torch.arange(len(labels), device=labels.device)
        version = slot[hardest, images]
        return points[version, images], torch.stack(rights)[version, images] < 0.5


def _distinct(points: Tensor) -> tuple[Tensor, Tensor]:
    """Points `[keep, B, ...]` without copies, so that no point is scored twice.

    Returns:
        The distinct points of every image in their order, `[V, B, ...]`, filled up with its first
        where an image has fewer than `V`; and the place of each of `points` in them, `[keep, B]`.
    """
    keep = len(points)
    flat = points.flatten(2)
    # the first point of each image that equals this one
    first = torch.stack([(flat == flat[i]).all(2).long().argmax(0) for i in range(keep)])
    is_first = first == torch.arange(keep, device=points.device)[:, None]
    place = (is_first.cumsum(0) - 1).gather(0, first)
    versions = int(is_first.sum(0).max())
    distinct = points[:1].expand(versions, *points.shape[1:]).clone()
    for i in range(keep):
        images = is_first[i].nonzero()[:, 0]
        distinct[place[i, images], images] = points[i, images]
    return distinct, place
