"""The choice of the hardest point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.candidates import Candidates
from robust_snn.attacks.eot_draws import LossEstimate
from robust_snn.neurons.noise_source import NoisyModule


class Lucky(NoisyModule):
    """Right with a probability that falls with the mean pixel."""

    def forward(self, x: Tensor) -> Tensor:
        keys = self.draw(len(x), x.device).keys
        luck = (keys % 1000) / 1000
        right = (luck > x.flatten(1).mean(1)).float()
        return torch.stack([right, 1 - right], 1)


def test_fresh_draws_choose_and_luck_does_not() -> None:
    x = torch.zeros(2, 1, 2, 2)
    candidates = Candidates(x, 3)
    rows, ones = torch.arange(2), torch.ones(2)
    # the first point was wrong by luck on its draw, the second is wrong nine times of ten
    for level, wrong in [(0.1, 1.0), (0.9, 0.75), (0.2, 0.5), (0.3, 0.1)]:
        candidates.offer(rows, torch.full_like(x, level), LossEstimate(x, ones, wrong * ones, ones))
    kept = sorted(round(float(v), 2) for v in candidates.points[:, 0, 0, 0, 0])
    assert kept == [0.1, 0.2, 0.9]
    chosen, success = candidates.choose(Victim(nn.Sequential(Lucky())), rows * 0, rows, 50)
    assert torch.allclose(chosen, torch.full_like(x, 0.9)) and success.all()


def test_copies_of_a_point_are_scored_once() -> None:
    """The result is that of scoring every slot, and costs the passes of the distinct points."""
    torch.manual_seed(0)
    x, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
    victim = Victim(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    candidates, ids, ones = Candidates(x, 4), torch.arange(3), torch.ones(3)
    candidates.offer(ids, x, LossEstimate(x, ones, 0 * ones, ones))
    candidates.offer(ids[:1], x[:1] + 0.5, LossEstimate(x, 2 * ones[:1], 0 * ones[:1], ones))
    points, success = candidates.choose(victim, labels, ids, 1)
    assert victim.cost.forwards == 2 * 3  # two points of one image, and one of the others
    logits = torch.stack([victim.sample(version, ids) for version in candidates.points])
    margins = [margin(z, labels) - 1e6 * (z.argmax(1) == labels) for z in logits]
    hardest = torch.stack(margins).argmax(0)
    assert torch.equal(points, candidates.points[hardest, ids])
    assert torch.equal(success, logits[hardest, ids].argmax(1) != labels)
