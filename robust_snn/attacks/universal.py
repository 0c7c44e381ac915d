"""One perturbation for all images, fitted on other images than those that it is put on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import cross_entropy
from robust_snn.attacks.base import Attack
from robust_snn.attacks.events.event_frames import check_binary, check_budget
from robust_snn.attacks.norm_ball import NormBall
from robust_snn.attacks.problem import AttackInputs, fresh_answers
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.values import whole


@dataclass(frozen=True, kw_only=True)
class Universal(Attack):
    """A universal perturbation (Moosavi-Dezfooli et al., CVPR 2017), by gradient ascent.

    The images of every class are dealt into two halves in turn. The perturbation of either half is
    fitted on the other, so that no image has a part in what is put on it; so there must be two. A
    step follows the gradient over the images that are still right. In L0, on binary event frames,
    the same `eps` entries flip in all recordings.

    Attributes:
        steps: Gradients per start.
        restarts: Starts: no perturbation, then random ones.
        eot_loss: Draws that a gradient averages, of a noisy victim.
    """

    name = "universal"
    norms = ("Linf", "L2", "L0")
    least_images = 2
    steps: int = 50
    restarts: int = 2
    eot_loss: int = 4

    def __post_init__(self) -> None:
        check_fields(self)
        for option in ("steps", "restarts", "eot_loss"):
            whole(getattr(self, option), option, 1)

    def check_inputs(self, images: Tensor, eps: float, norm: str) -> None:
        super().check_inputs(images, eps, norm)
        if norm == "L0":
            check_budget(self.name, eps)
            check_binary(self.name, images)

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        images, labels = inputs.images, inputs.labels
        adversarial, first = images.clone(), halves(labels, inputs.ids)
        if not len(images):
            return adversarial, torch.zeros_like(labels, dtype=torch.bool)
        for fitted in (first, ~first):
            change = self.fit(inputs.subset(fitted.nonzero()[:, 0]))
            adversarial[~fitted] = changed(images[~fitted], change, inputs.eps, inputs.norm)
        _, errors = fresh_answers(inputs, adversarial)
        return adversarial, errors > 0.5

    def fit(self, inputs: AttackInputs) -> Tensor:
        """The perturbation that misleads most of these images, `[1, ...]`; of frames, the flips."""
        images, eps, norm = inputs.images, inputs.eps, inputs.norm
        best, highest = torch.zeros_like(images[:1]), -torch.inf
        for start in range(self.restarts):
            latent = self._start(inputs, start)
            for step in range(self.steps + 1):
                change = _within(latent, eps, norm)
                gradient, wrong, loss = self._gradient(inputs, change, (start, step))
                if (found := wrong + 1e-3 * min(loss, 999.0) / 1e3) > highest:
                    best, highest = change, found
                if norm == "L0":
                    latent = latent + gradient / gradient.abs().max().clamp(min=1e-30)
                else:
                    ball = NormBall(torch.zeros_like(gradient), eps, norm)
                    length = eps * max(1 - step / self.steps, 0.05) / 2
                    latent = change + length * ball.steepest(gradient)
        return best

    def _start(self, inputs: AttackInputs, start: int) -> Tensor:
        if not start:
            return torch.zeros_like(inputs.images[:1])
        random = inputs.rng.uniform("start", start)[:1]
        return random if inputs.norm == "L0" else inputs.eps * random.sign()

    @torch.enable_grad()
    def _gradient(
        self, inputs: AttackInputs, change: Tensor, at: tuple[int, int]
    ) -> tuple[Tensor, float, float]:
        """Gradient for the change `[1, ...]`, share of wrong answers, mean loss.

        Args:
            inputs: The images.
            change: The change.
            at: Numbers of the start and of the step.
        """
        victim, images, labels, ids = inputs[:4]
        draws = self.eot_loss if victim.stochastic else 1
        x = changed(images, change, inputs.eps, inputs.norm)
        total, wrong, loss = torch.zeros_like(change), 0.0, 0.0
        for draw in range(draws):
            leaf = x.detach().requires_grad_()
            logits = victim(leaf, ids, (*at, draw))
            each, right = cross_entropy(logits, labels), logits.argmax(1) == labels
            weight = right.float() if right.any() else torch.ones_like(each)
            (gradient,) = torch.autograd.grad((each * weight).sum(), leaf)
            if inputs.norm == "L0":
                gradient = gradient * (1 - 2 * images)
            total += torch.nan_to_num(gradient).sum(0, keepdim=True)
            wrong += float((~right).float().mean())
            loss += float(each.detach().mean())
        return total, wrong / draws, loss / draws


def halves(labels: Tensor, ids: Tensor) -> Tensor:
    """Whether an image belongs to the first half: every class is dealt in turn, by id, bool `[B]`.

    The turn goes on from class to class, so that classes of one image are shared out too.
    """
    order = torch.argsort(labels * (int(ids.max()) + 1 if len(ids) else 1) + ids)
    first = torch.zeros_like(labels, dtype=torch.bool)
    first[order[::2]] = True
    return first


def changed(images: Tensor, change: Tensor, eps: float, norm: str) -> Tensor:
    """Images `[B, ...]` under a change `[1, ...]`, within the threat."""
    if norm == "L0":
        return (images - change).abs()
    return NormBall(images, eps, norm).project(images + change)


def _within(latent: Tensor, eps: float, norm: str) -> Tensor:
    """The change that a latent tensor stands for, `[1, ...]`."""
    if norm == "Linf":
        return latent.clamp(-eps, eps)
    if norm == "L2":
        return latent * (eps / latent.norm().clamp(min=1e-30)).clamp(max=1)
    flat = latent.flatten()
    top = flat.topk(min(int(eps), len(flat))).indices
    flips = torch.zeros_like(flat)
    flips[top] = (flat[top] > 0).float()
    return flips.view(latent.shape)
