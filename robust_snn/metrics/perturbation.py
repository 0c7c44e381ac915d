"""How far a perturbation moves membranes and spikes (stable SNN, ICML 2024; its two rivals)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from robust_snn.kernels.spiking.replay import per_step
from robust_snn.utils.errors import InputError, unknown

ITERATIONS = 200  # of a linear map and its transpose, for a norm


def mppd(clean: Tensor, perturbed: Tensor, decay: Tensor | float) -> Tensor:
    """Membrane potential perturbation dynamics: a leaky sum without resets.

        e[t] = decay * e[t-1] + (clean[t] - perturbed[t]),   e[0] = 0

    Args:
        clean: What is added to the membranes on clean input, `[T, ...]`.
        perturbed: The same on perturbed input.
        decay: Leak, one number or one per step `[T]`.

    Returns:
        `[T, ...]`.
    """
    difference = clean - perturbed
    error = torch.zeros_like(difference[0])
    errors = []
    for leak, step in zip(per_step(decay, len(difference)), difference, strict=True):
        error = leak * error + step
        errors.append(error)
    return torch.stack(errors)


def ms_mppd(
    clean: Tensor,
    perturbed: Tensor,
    decay: Tensor | float,
    reduce: Literal["sum", "mean"] = "sum",
    power: Literal[1, 2] = 2,
) -> Tensor:
    """MS-MPPD per sample, `[B]`: the squared `mppd` over neurons and steps.

    The paper sums, its code takes the mean, so a penalty's weight does not carry over. The code
    also detaches the clean branch and leaves out DLIF's factors: pass `clean.detach()` and the
    currents for it, and the `drive` of both for the dynamics that really happen.

    Args:
        clean: `[T, B, ...]`; see `mppd`.
        perturbed: `[T, B, ...]`.
        decay: Leak, one number or one per step `[T]`.
        reduce: `"sum"` (paper) or `"mean"` (code).
        power: 2, or 1 for absolute values, the TV-l1 form of Lai et al. (ICLR 2026). They show that
            the dynamics are a total variation of the spikes; of their text we had the abstract.

    Raises:
        InputError: If `reduce` is not known.
    """
    if reduce not in ("sum", "mean"):
        raise unknown("reduction", reduce, ("sum", "mean"))
    error = mppd(clean, perturbed, decay)
    sizes = (error.abs() if power == 1 else error.square()).transpose(0, 1).flatten(1)
    return sizes.sum(1) if reduce == "sum" else sizes.mean(1)


def tasad(clean: Tensor, perturbed: Tensor) -> Tensor:
    """Time-averaged spiking activity distance per sample, `[B]` (Kundu et al., ICCV 2021).

    Args:
        clean: Spikes `[T, B, ...]`.
        perturbed: Spikes `[T, B, ...]`.
    """
    return (clean - perturbed).mean(0).flatten(1).norm(dim=1)


def spike_train_distance(clean: Tensor, perturbed: Tensor) -> Tensor:
    """Spike train distance STD per sample, `[B]` (SNN-RAT, NeurIPS 2022).

    Args:
        clean: Spikes `[T, B, ...]`.
        perturbed: Spikes `[T, B, ...]`.
    """
    return (clean - perturbed).transpose(0, 1).flatten(1).norm(dim=1)


def leak_gain(decay: float, steps: int) -> float:
    """L2 gain of the leaky sum over `steps` steps: the factor of the corrected Theorem 3.1.

    It is the spectral norm of the Toeplitz matrix `decay ** (i - j)`, and tends to
    `1 / (1 - decay)`. The paper's `sqrt(1 / (1 - decay))` is no bound: at 0.9 and 8 steps the gain
    is 4.111, not 3.162. The gain of a layer is this times `operator_norm` of its weights.

    Raises:
        InputError: If `decay` is not in (0, 1] or `steps` not positive.
    """
    if not 0 < decay <= 1 or steps < 1:
        raise InputError(f"need 0 < decay <= 1 and steps >= 1, got {decay:g} and {steps}")
    age = torch.arange(steps, dtype=torch.float64)
    age = age[:, None] - age[None, :]
    toeplitz = torch.where(age >= 0, decay ** age.clamp(min=0), 0.0)
    return float(torch.linalg.matrix_norm(toeplitz, 2))


def operator_norm(linear: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> float:
    """Largest singular value of a linear map, by power iteration, from below.

    Args:
        linear: A linear map, such as a convolution; a bias is subtracted.
        shape: Shape of one input.
    """
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(1, *shape, generator=generator)
    offset = linear(torch.zeros(1, *shape)).detach()
    norm = torch.tensor(0.0)
    for _ in range(ITERATIONS):
        vector = (vector / vector.norm()).requires_grad_()
        image = linear(vector) - offset
        norm = image.detach().norm()
        if norm == 0:
            return 0.0
        (vector,) = torch.autograd.grad(image, vector, image.detach())
    return float(norm)
