"""The images a network is trained on: natural, noisy, or moved against it.

These are the single steps and short iterations of adversarial training, without the search of
`robust_snn.attacks`: no noise draw but those of the gradient is spent on choosing a point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_snn.training.training_losses import divergence
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import evaluating
from robust_snn.victim import Victim

if TYPE_CHECKING:
    from robust_snn.training.recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits [B, K] and labels [B], one number per image


@dataclass(frozen=True)
class Batch:
    """What a perturbation may look at.

    Attributes:
        victim: The network as the attacker sees it: gradient mode, EOT and noise.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        noise: Standard normal numbers `[B, C, H, W]`.
        trades: Whether the loss is TRADES' divergence from the clean prediction.
    """

    victim: Victim
    images: Tensor
    labels: Tensor
    noise: Tensor
    trades: bool

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of each image's loss at the points `x`, `[B, C, H, W]`."""
        return loss_gradient(self.victim, x, self.labels, self._loss)

    @cached_property
    def _loss(self) -> Loss:
        return _against(self.victim, self.images) if self.trades else _cross_entropy


def natural(batch: Batch, recipe: Recipe) -> Tensor:
    """`x`."""
    return batch.images


def gaussian(batch: Batch, recipe: Recipe) -> Tensor:
    """`x + eps n`."""
    return (batch.images + recipe.eps * batch.noise).clamp(0, 1)


def gaussian_released(batch: Batch, recipe: Recipe) -> Tensor:
    """`x + eps n` as stable SNN's script has it, which leaves [0, 1]."""
    return batch.images + recipe.eps * batch.noise


def fgsm(batch: Batch, recipe: Recipe) -> Tensor:
    """`x + eps sign(g(x))` (Goodfellow et al., ICLR 2015)."""
    return _step(batch.images, batch.gradient(batch.images), recipe.eps)


def rfgsm(batch: Batch, recipe: Recipe) -> Tensor:
    """`x' + (eps - alpha) sign(g(x'))` with `x' = x + alpha sign(n)`, which stays in the ball.

    R+FGSM of Tramer et al., ICLR 2018; alpha is half of eps if left out.
    """
    alpha = recipe.eps / 2 if recipe.alpha is None else recipe.alpha
    start = _step(batch.images, batch.noise, alpha)
    return _step(start, batch.gradient(start), recipe.eps - alpha)


def rfgsm_released(batch: Batch, recipe: Recipe) -> Tensor:
    """`x' + eps sign(g(x'))` with `x' = x + alpha n`, which leaves the ball by the Gaussian step.

    This is RFGSM as the released code of SNN papers has it.
    """
    alpha = recipe.eps / 2 if recipe.alpha is None else recipe.alpha
    start = batch.images + alpha * batch.noise
    return _step(start, batch.gradient(start), recipe.eps)


def pgd(batch: Batch, recipe: Recipe) -> Tensor:
    """Steps of length alpha from a random point of the ball, projected (Madry et al., ICLR 2018).

    Alpha is `2.5 eps / steps` if left out.
    """
    eps, images = recipe.eps, batch.images
    length = 2.5 * eps / recipe.steps if recipe.alpha is None else recipe.alpha
    x = (images + eps * torch.erf(batch.noise / 2**0.5)).clamp(0, 1)  # uniform in the ball
    for _ in range(recipe.steps):
        x = _step(x, batch.gradient(x), length)
        x = images + (x - images).clamp(-eps, eps)
    return x


def universal(batch: Batch, recipe: Recipe) -> Tensor:
    """One perturbation for all images of the batch: steps along the sign of their summed gradient.

    Universal adversarial training (Shafahi et al., AAAI 2020). They carry one perturbation on from
    batch to batch, a step each; here it begins anew in every batch, at a random point of the ball,
    with `steps` steps, so that a training has no more state than its weights. Alpha is
    `2.5 eps / steps` if left out.
    """
    eps, images = recipe.eps, batch.images
    length = 2.5 * eps / recipe.steps if recipe.alpha is None else recipe.alpha
    shift = eps * torch.erf(batch.noise[:1] / 2**0.5)
    for _ in range(recipe.steps):
        ascent = batch.gradient((images + shift).clamp(0, 1)).sum(0, keepdim=True)
        shift = (shift + length * ascent.sign()).clamp(-eps, eps)
    return (images + shift).clamp(0, 1)


# name -> images [B, C, H, W] to train on; a new perturbation is one row
PERTURBATIONS: dict[str, Callable[[Batch, Recipe], Tensor]] = {
    "none": natural,
    "gaussian": gaussian,
    "gaussian_released": gaussian_released,
    "fgsm": fgsm,
    "rfgsm": rfgsm,
    "rfgsm_released": rfgsm_released,
    "pgd": pgd,
    "universal": universal,
}
NOISELESS = ("none", "fgsm")  # those that read no noise, so that none needs to be drawn


def phases(perturbation: str) -> list[tuple[str, int]]:
    """Perturbations with the epochs that they begin in, such as `[("none", 1), ("fgsm", 5)]`.

    Raises:
        InputError: If it is no such list, or the epochs do not rise from 1.
    """
    found: list[tuple[str, int]] = []
    for word in perturbation.split(","):
        kind, at, first = word.strip().partition("@")
        if kind not in PERTURBATIONS:
            raise unknown("perturbation", kind, PERTURBATIONS)
        if bool(at) != bool(found) or (at and not first.isdecimal()):
            raise InputError(f"expected a form such as 'none,fgsm@5', got '{perturbation}'")
        found.append((kind, int(first) if at else 1))
    if any(later <= sooner for (_, sooner), (_, later) in zip(found, found[1:], strict=False)):
        raise InputError(f"the epochs of '{perturbation}' must rise from 2 on, as in none,fgsm@5")
    return found


def perturbed(
    victim: Victim, images: Tensor, labels: Tensor, recipe: Recipe, kind: str, noise: Tensor
) -> Tensor:
    """Images as an epoch of a recipe trains on them.

    Batch norm keeps its statistics meanwhile, as in the papers' code.

    Args:
        victim: The network as the attacker sees it: gradient mode, EOT and noise.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        recipe: The recipe.
        kind: Row of `PERTURBATIONS`.
        noise: Standard normal numbers `[B, C, H, W]`.

    Returns:
        `[B, C, H, W]`, in [0, 1] but for `"gaussian_released"`.
    """
    batch = Batch(victim, images, labels, noise, trades=recipe.trades > 0)
    return PERTURBATIONS[kind](batch, recipe)


def loss_gradient(victim: Victim, images: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Gradient of each image's loss with respect to the image, `[B, C, H, W]`."""
    with evaluating(victim), torch.enable_grad():
        x = images.detach().requires_grad_()
        # the sum leaves each image the gradient that it has alone, whatever the batch
        (gradient,) = torch.autograd.grad(loss(victim(x), labels).sum(), x)
    return gradient


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _against(victim: Victim, images: Tensor) -> Loss:
    """TRADES' loss, which moves the prediction away from that of the clean images."""
    with evaluating(victim), torch.no_grad():
        clean = victim(images)
    return lambda logits, _: divergence(clean, logits)


def _step(images: Tensor, direction: Tensor, length: float) -> Tensor:
    return (images.detach() + length * direction.sign()).clamp(0, 1)
