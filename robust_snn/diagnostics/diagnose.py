"""The diagnostics that every evaluation can afford, and all of them."""

from __future__ import annotations

from torch import Tensor, nn

from robust_snn.diagnostics.attack_sanity import (
    accuracy_over_eps,
    accuracy_over_steps,
    against_random_noise,
)
from robust_snn.diagnostics.diagnostic import Diagnostic
from robust_snn.diagnostics.input_gradients import (
    batch_independence,
    finite_differences,
    mode_agreement,
    surrogate_slopes,
    vanishing_gradients,
)
from robust_snn.diagnostics.stochasticity import eot_convergence, known_noise
from robust_snn.foreign import adapt
from robust_snn.victim import Victim


def cheap(
    victim: Victim | nn.Module, images: Tensor, labels: Tensor, *, seed: int = 0
) -> list[Diagnostic]:
    """Looks for signs of a masked gradient in a few gradients of each image.

    Args:
        victim: The victim, with the gradient mode to be judged; or a network, with its own.
        images: A few dozen images `[B, C, H, W]` in [0, 1]; without the clean errors.
        labels: `[B]`.
        seed: Seed of all noise and random numbers.
    """
    victim = adapt(victim)
    return [
        *vanishing_gradients(victim, images, labels, seed=seed),
        *surrogate_slopes(victim, images, labels, seed=seed),
        mode_agreement(victim, images, labels, seed=seed),
        batch_independence(victim, images, labels, seed=seed),
    ]


def full(
    victim: Victim | nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
) -> list[Diagnostic]:
    """Looks for signs of a masked gradient with attacks too, some hundred gradients per image.

    Args:
        victim: The victim, with the gradient mode to be judged; or a network, with its own.
        images: A few dozen images `[B, C, H, W]` in [0, 1]; without the clean errors.
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
    """
    victim = adapt(victim)
    return [
        *cheap(victim, images, labels, seed=seed),
        finite_differences(victim, images, labels, eps=eps, norm=norm, seed=seed),
        *accuracy_over_eps(victim, images, labels, eps=eps, norm=norm, seed=seed),
        *accuracy_over_steps(victim, images, labels, eps=eps, norm=norm, seed=seed),
        against_random_noise(victim, images, labels, eps=eps, norm=norm, seed=seed),
        eot_convergence(victim, images, labels, seed=seed),
        known_noise(victim, images, labels, eps=eps, norm=norm, seed=seed),
    ]
