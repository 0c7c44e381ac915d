"""Transfer: what fools one victim may fool another, whose own gradient misleads or is noisy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robust_snn.attacks.apgd import apgd
from robust_snn.attacks.base import Adversarial, Search, attack_view, on_device
from robust_snn.neurons.noise_source import POLICIES
from robust_snn.victim import Victim
from robust_snn.victim_scoring import fresh_logits


def transfer(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    source: Victim | str = "mean",
    steps: int = 100,
    **shared: Any,
) -> Adversarial:
    """APGD on another victim, or on another view of this one.

    Args:
        victim: What to attack.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        source: A victim; or of this victim the view with a noise policy, such as its mean field
            `"mean"`, or with a gradient mode, such as `"activation(relu)"`.
        steps: Gradients per start.
        **shared: Options of `Search`.

    Raises:
        InputError: If an option is not known or has a wrong value.
    """
    if isinstance(source, str):
        key = "noise" if source in POLICIES else "gradient"
        source = victim.replace(**{key: source}, cost=victim.cost)
    found = apgd(source, images, labels, eps=eps, norm=norm, seed=seed, steps=steps, **shared)
    options = Search.of(shared)
    with attack_view(victim, seed) as view:
        x, y, ids = on_device(view, found.images, labels, options.ids)
        draws = options.select if view.stochastic else 1
        right = [(z.argmax(1) == y).double() for z in fresh_logits(view, x, ids, draws, "choose")]
        survived = torch.stack(right).mean(0) >= 0.5
    return Adversarial(found.images, survived.to(images.device))
