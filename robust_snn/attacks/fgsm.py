"""The fast gradient sign method, plain and with a random start, in the Linf ball."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_snn.errors import InputError
from robust_snn.victim import Victim


def fgsm(victim: Victim, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """One step of length `eps` along the sign of the gradient (Goodfellow et al., ICLR 2015).

    Args:
        victim: The victim; its gradient mode, EOT and noise are those of the attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball, in the unit of the pixels.

    Returns:
        Images `[B, C, H, W]` in [0, 1], at most `eps` away.

    Raises:
        InputError: If `eps` is outside [0, 1].
    """
    _check_radius("eps", eps, 1.0)
    return _step(images, loss_gradient(victim, images, labels), eps)


def rfgsm(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    eps: float,
    alpha: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A random step of length `alpha`, then a gradient step of length `eps - alpha`.

    This is the method of Tramer et al. (ICLR 2018): both steps together stay in the ball. The code
    released with stable-snn and StoG takes a Gaussian step instead, and leaves the ball.

    Args:
        victim: The victim; its gradient mode, EOT and noise are those of the attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball, in the unit of the pixels.
        alpha: Length of the random step; half of `eps` if left out.
        generator: Generator on the CPU that the random step is drawn from.

    Returns:
        Images `[B, C, H, W]` in [0, 1], at most `eps` away.

    Raises:
        InputError: If `eps` is outside [0, 1] or `alpha` outside [0, `eps`].
    """
    _check_radius("eps", eps, 1.0)
    alpha = eps / 2 if alpha is None else alpha
    _check_radius("alpha", alpha, eps)
    # drawn on the CPU, so that every device sees the same start
    start = _step(images, torch.randn(images.shape, generator=generator).to(images.device), alpha)
    return _step(start, loss_gradient(victim, start, labels), eps - alpha)


def loss_gradient(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of each image's cross entropy with respect to the image, `[B, C, H, W]`.

    The network is in eval mode meanwhile, so that no statistics of batch norm move. Its parameters
    get no gradients.
    """
    with evaluating(victim), torch.enable_grad():
        x = images.detach().requires_grad_()
        # the sum leaves each image the gradient that it has alone, whatever the batch
        loss = F.cross_entropy(victim(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
    return gradient


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Inside, every module of `net` is in eval mode; afterwards each is as it was."""
    before = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def _step(images: Tensor, direction: Tensor, length: float) -> Tensor:
    return (images.detach() + length * direction.sign()).clamp(0, 1)


def _check_radius(name: str, value: float, highest: float) -> None:
    if not 0 <= value <= highest:
        raise InputError(f"{name} must be in [0, {highest:g}], got {value:g}")
