"""Another perturbation in every step of a sequence, each along the loss of its own step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import cross_entropy
from robust_snn.attacks.base import Attack
from robust_snn.attacks.norm_ball import NormBall, where_images
from robust_snn.attacks.problem import AttackInputs, fresh_answers
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import steps_refusal


@dataclass(frozen=True, kw_only=True)
class PerStep(Attack):
    """TG-Attack (CVPR 2026): the frame of step t follows the loss of what is known at step t.

    Takes sequences `[B, T, C, H, W]`, of which every frame may move by `eps`: of a static image
    that is repeated, the attacker has `T` images, so numbers do not compare with those of one. The
    loss of step t is the cross-entropy of the mean of the logits so far, and its gradient for
    frame t a backward pass of its own: a step costs one forward and `T` backward passes.

    Attributes:
        steps: Steps along the sign; 1 is the published one of length `eps`, more are projected
            steps of `2.5 * eps / steps`.
        eot_loss: Draws that a gradient averages, of a noisy victim.
    """

    name = "per-step"
    norms = ("Linf",)
    steps: int = 10
    eot_loss: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        whole(self.steps, "steps", 1)
        whole(self.eot_loss, "eot_loss", 1)

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        if images.ndim != 5:
            raise InputError(
                f"per-step needs sequences [B, T, C, H, W], got {tuple(images.shape)}; repeat an "
                "image by images[:, None].expand(-1, T, -1, -1, -1)"
            )

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        victim, images, labels, ids = inputs[:4]
        if len(images) and (why := steps_refusal(victim, images)) is not None:
            raise InputError(f"per-step reads the logits of every step: {why}")
        ball, x = NormBall(images, inputs.eps, inputs.norm), images
        stepwise = victim.replace(output="steps", cost=victim.cost)
        length = inputs.eps if self.steps == 1 else 2.5 * inputs.eps / self.steps
        draws = self.eot_loss if victim.stochastic else 1
        best, worst = images, torch.full((len(images),), -torch.inf, device=images.device)
        wrong = torch.zeros_like(worst)
        for step in range(self.steps + 1 if len(images) else 0):
            gap, errors = fresh_answers(inputs, x)
            found = errors + 1e-3 * gap.tanh()
            harder = found > worst
            best, worst = where_images(harder, x, best), found.where(harder, worst)
            wrong = errors.where(harder, wrong)
            if step < self.steps:
                drawn = (
                    step_gradients(stepwise, x, labels, ids, ("step", step, draw))
                    for draw in range(draws)
                )
                gradient = sum(drawn)
                x = ball.project(x + length * torch.as_tensor(gradient).sign())
        return best, wrong > 0.5


@torch.enable_grad()
def step_gradients(
    victim: Victim,
    x: Tensor,
    labels: Tensor,
    ids: Tensor | None = None,
    purpose: tuple[str | int, ...] = (),
) -> Tensor:
    """Of every frame, the gradient of the cross-entropy of the logits up to its step.

    Args:
        victim: A victim whose output is `"steps"`.
        x: Sequences `[B, T, C, H, W]`.
        labels: `[B]`.
        ids: Index of each sequence in the attacked set, `[B]`, as in a call of a `Victim`.
        purpose: What the draw is for, likewise.

    Raises:
        InputError: If the network has not one output for every frame.
    """
    leaf = x.detach().requires_grad_()
    logits = victim(leaf, ids, purpose)
    if len(logits) != x.shape[1]:
        raise InputError(
            f"per-step needs a network of as many steps as frames, got {len(logits)} for "
            f"{x.shape[1]} frames"
        )
    counts = torch.arange(1, len(logits) + 1, device=x.device).view(-1, 1, 1)
    so_far, frames = logits.cumsum(0) / counts, []
    for step, known in enumerate(so_far):
        loss = cross_entropy(known, labels).sum()
        (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=step + 1 < len(so_far))
        frames.append(torch.nan_to_num(gradient[:, step]))
    return torch.stack(frames, 1)
