"""Input gradients under several gradient modes, and whether they agree."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from itertools import permutations

import torch
from torch import Tensor

from robust_snn.diagnostics.diagnostic import Diagnostic, grade
from robust_snn.diagnostics.input_gradients import cosines, input_gradient
from robust_snn.gradients import GradientMode, Own, parse_mode
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim

REFERENCE_MODES = ("bptt", "bptt(surrogate=atan(alpha=4))", "bptr", "hart")


def gradients_by_mode(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    modes: Iterable[str | GradientMode],
    *,
    seed: int = 0,
    draws: int = 8,
) -> dict[str, Tensor]:
    """Input gradients `[B, ...]` under the modes that the network takes, by their text form.

    Args:
        victim: The victim, whose own mode counts only if it is among `modes`.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        modes: The modes. Those that reach no neuron are `own`, all together.
        seed: Seed of the noise, which is the same under every mode.
        draws: Draws that each gradient averages.
    """
    gradients: dict[str, Tensor] = {}
    for mode in map(parse_mode, modes):
        variant = victim.replace(gradient=mode)
        with suppress(InputError):  # other people's networks do not take every mode
            gradient = input_gradient(variant, images, labels, seed, draws)
            gradients.setdefault(str(variant.gradient_in_force), gradient)
    return gradients


def gradient_cosines(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    modes: Iterable[str | GradientMode],
    *,
    seed: int = 0,
    draws: int = 8,
) -> tuple[tuple[str, ...], Tensor]:
    """Mean cosine of the input gradients under every two gradient modes.

    The arguments are those of `gradients_by_mode`.

    Returns:
        The modes that the network takes, and their cosines, float64 `[M, M]`; NaN for two modes
        with bitwise the same gradient, which is no agreement: one of them has no effect.
    """
    gradients = gradients_by_mode(victim, images, labels, modes, seed=seed, draws=draws)
    taken = list(gradients.values())
    cosine = [[float(cosines(a, b).mean()) for b in taken] for a in taken]
    for i, j in permutations(range(len(taken)), 2):
        if same_gradient(taken[i], taken[j]):
            cosine[i][j] = math.nan
    return tuple(gradients), torch.tensor(cosine, dtype=torch.float64)


def same_gradient(a: Tensor, b: Tensor) -> bool:
    """Whether two gradients are bitwise the same, and something."""
    return torch.equal(a, b) and bool(a.any())


def mode_agreement(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    modes: Iterable[str | GradientMode] = REFERENCE_MODES,
    seed: int = 0,
    draws: int = 8,
) -> Diagnostic:
    """Cosine of the victim's gradient with those of other modes, the largest of which decides.

    A gradient that agrees with no other may mislead. One that is bitwise the same under another
    mode is no second opinion: the other mode has no effect.
    """
    own, name = victim.gradient_in_force, "agreement of modes"
    others = [mode for mode in map(parse_mode, modes) if mode != own]
    found = gradients_by_mode(victim, images, labels, [own, *others], seed=seed, draws=draws)
    refused = [mode.brief for mode in [own, *others] if str(mode) not in found]
    missing = [f"not measured with {', '.join(refused)}"] if refused else []
    if str(own) not in found or len(found) == 1:
        return Diagnostic(name, 0.0, "warn", missing[0] if missing else "there is no other mode")
    gradient = found.pop(str(own))
    same = [mode for mode in found if same_gradient(found[mode], gradient)]
    other = {m: float(cosines(gradient, g).mean()) for m, g in found.items() if m not in same}
    shown = [f"cosine {', '.join(f'{value:.2f} with {mode}' for mode, value in other.items())}"]
    alike = [f"bitwise the gradient of {', '.join(same)}: one or the other has no effect"]
    why = "; ".join((shown if other else []) + (alike if same else []) + missing)
    if not other:  # a single one may be the surrogate that the network has by itself
        known = isinstance(own, Own) and len(same) == 1
        return Diagnostic(name, 0.0, "warn" if known else "fail", why)
    largest = max(other.values())
    return Diagnostic(name, largest, grade(-largest, -0.2, -0.05), why)
