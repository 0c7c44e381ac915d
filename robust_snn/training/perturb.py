"""The images a network is trained on: natural, noisy, or moved against it.

These are the single steps and short walks of adversarial training, without the search of
`robust_snn.attacks`: no draw but those of the gradient is spent on choosing a point.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_snn.training.losses import divergence
from robust_snn.training.recipe import Recipe
from robust_snn.utils.modules import evaluating
from robust_snn.victim import Victim

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits [B, K] and labels [B], one number per image


def perturbed(
    victim: Victim, images: Tensor, labels: Tensor, recipe: Recipe, kind: str, noise: Tensor
) -> Tensor:
    """Images as an epoch of a recipe trains on them.

    Batch norm keeps its statistics meanwhile, as in the papers' code.

        none            x
        gaussian        x + eps n
        fgsm            x + eps sign(g(x))
        rfgsm           x + alpha sign(n) + (eps - alpha) sign(g), which stays in the ball
        rfgsm_released  x + alpha n + eps sign(g), which leaves it by the Gaussian step
        pgd             steps of length alpha from a random point of the ball, projected

    Args:
        victim: The network as the attacker sees it: gradient mode, EOT and noise.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        recipe: The recipe.
        kind: Row of `PERTURBATIONS`.
        noise: Standard normal numbers `[B, C, H, W]`.

    Returns:
        `[B, C, H, W]` in [0, 1].
    """
    eps = recipe.eps
    if kind == "none" or eps == 0:
        return images
    if kind == "gaussian":
        return (images + eps * noise).clamp(0, 1)
    loss = _against(victim, images) if recipe.trades else _cross_entropy
    if kind == "pgd":
        length = 2.5 * eps / recipe.steps if recipe.alpha is None else recipe.alpha
        x = (images + eps * torch.erf(noise / 2**0.5)).clamp(0, 1)  # uniform in the ball
        for _ in range(recipe.steps):
            x = _step(x, loss_gradient(victim, x, labels, loss), length)
            x = images + (x - images).clamp(-eps, eps)
        return x
    alpha = eps / 2 if recipe.alpha is None else recipe.alpha
    if kind == "fgsm":
        start, length = images, eps
    elif kind == "rfgsm":
        start, length = _step(images, noise, alpha), eps - alpha
    else:
        start, length = images + alpha * noise, eps
    return _step(start, loss_gradient(victim, start, labels, loss), length)


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
    """TRADES' attack moves the prediction away from that of the clean image."""
    with evaluating(victim), torch.no_grad():
        clean = victim(images)
    return lambda logits, _: divergence(clean, logits)


def _step(images: Tensor, direction: Tensor, length: float) -> Tensor:
    return (images.detach() + length * direction.sign()).clamp(0, 1)
