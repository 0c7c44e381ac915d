"""Energy attacks: images that make a spiking network work as hard as it can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.base import Attack
from robust_snn.attacks.norm_ball import NormBall, where_images
from robust_snn.attacks.problem import AttackInputs, of_mean_one
from robust_snn.metrics.image_energy import recorded_costs
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.scoring import fresh_logits


class _Point(NamedTuple):
    """Means over draws at points: their cost and its gradient, the answer's lead and gradient."""

    cost: Tensor
    uphill: Tensor
    kept: Tensor
    towards_answer: Tensor


@dataclass(frozen=True, kw_only=True)
class EnergyAttack(Attack):
    """Projected ascent on the joules of an inference: spike operations, and steps until the exit.

    Energy attacks on networks with sparse activations are sponge examples (Shumailov et al., 2021,
    arXiv 2006.03463); spikes are a network's energy. Steps go along the gradient of the costs
    through the surrogates, and, of a network that stops early, by equal shares away from what makes
    it sure; where an answer must stay and another leads, they go back to it.

    Attributes:
        steps: Gradients per start.
        restarts: Starts: at the image, then at random points.
        answer: `"keep"`: only points count whose answer is that of the clean image in every draw;
            `"free"`: any do.
        eot_loss: Draws that a gradient averages, of a noisy victim.
    """

    name = "energy"
    steps: int = 50
    restarts: int = 2
    answer: str = "keep"
    eot_loss: int = 4

    def __post_init__(self) -> None:
        check_fields(self)
        for option in ("steps", "restarts", "eot_loss"):
            whole(getattr(self, option), option, 1)
        if self.answer not in ("keep", "free"):
            raise InputError(f"answer of {self.name} must be 'keep' or 'free', got {self.answer!r}")

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        images = inputs.images
        if not len(images):
            return images.clone(), torch.zeros_like(inputs.labels, dtype=torch.bool)
        victim = inputs.victim.replace(eot=1, cost=inputs.victim.cost)
        draws = self.eot_loss if victim.stochastic else 1
        clean = torch.stack(fresh_logits(victim, images, inputs.ids, draws, "clean")).mean(0)
        answers, ball = clean.argmax(1), NormBall(images, inputs.eps, inputs.norm)
        best, highest = images.clone(), torch.full((len(images),), -torch.inf, device=images.device)
        for start in range(self.restarts):
            x = images if start == 0 else ball.random_inside(inputs.rng, start)
            for step in range(self.steps + 1):
                drawn = [(start, step, draw) for draw in range(draws)]
                point = self._point(victim, x, answers, inputs.ids, drawn)
                free = torch.ones_like(point.kept) if self.answer == "free" else point.kept
                better = free & (point.cost > highest)
                best, highest = where_images(better, x, best), point.cost.where(better, highest)
                direction = where_images(free, point.uphill, point.towards_answer)
                length = 2 * inputs.eps * (1 - step / (self.steps + 1))
                x = ball.project(x + length / 4 * ball.steepest(direction))
        final = torch.stack(fresh_logits(victim, best, inputs.ids, draws, "choose")).mean(0)
        return best, final.argmax(1) != inputs.labels

    @torch.enable_grad()
    def _point(
        self,
        victim: Victim,
        x: Tensor,
        answers: Tensor,
        ids: Tensor,
        drawn: list[tuple[int, int, int]],
    ) -> _Point:
        """Means at points `[B, ...]` over draws that follow from ids `[B]` and these numbers."""
        cost = torch.zeros(len(x), device=x.device)
        kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
        uphill, longer, towards = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
        for purpose in drawn:
            leaf = x.clone().requires_grad_()
            with recorded_costs(victim, len(x)) as found:
                logits = victim(leaf, ids, purpose)
            if not found.activity.layers:
                raise InputError("energy attacks need spiking layers that are known here")
            expected, lead = found.expected(len(x)), -margin(logits, answers)
            uphill += torch.autograd.grad(expected.sum(), leaf, retain_graph=True)[0]
            if (sure := found.sureness()) is not None:
                longer -= torch.autograd.grad(sure.sum(), leaf, retain_graph=True)[0]
            towards += torch.autograd.grad(lead.sum(), leaf)[0]
            cost += found.costs(len(x)).picojoules.detach() / len(drawn)
            kept &= logits.argmax(1) == answers
        if longer.any():
            uphill = of_mean_one(uphill) + of_mean_one(longer)
        return _Point(cost, torch.nan_to_num(uphill), kept, torch.nan_to_num(towards))
