"""The diagnostics that every evaluation can afford, and all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from robust_snn.attacks.norm_ball import BALL_NORMS
from robust_snn.attacks.threat_radius import checked_radius
from robust_snn.diagnostics.attack_sanity import (
    Curves,
    ShortAttacks,
    accuracy_over_eps,
    accuracy_over_steps,
    against_random_noise,
)
from robust_snn.diagnostics.diagnostic import Diagnostic
from robust_snn.diagnostics.finite_differences import finite_differences
from robust_snn.diagnostics.hidden_noise import hidden_noise
from robust_snn.diagnostics.input_gradients import (
    batch_independence,
    surrogate_slopes,
    vanishing_gradients,
)
from robust_snn.diagnostics.mode_agreement import mode_agreement
from robust_snn.diagnostics.reached_neurons import reached_neurons
from robust_snn.diagnostics.stochasticity import eot_convergence, known_noise
from robust_snn.diagnostics.tied_answers import NAME as TIES
from robust_snn.diagnostics.tied_answers import ties_under_attack
from robust_snn.foreign import adapt_to
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import first_line, unknown
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import checked_inputs

_log = logging.getLogger("robust_snn")
Measure = Callable[[], Diagnostic | Sequence[Diagnostic]]


@checked_types
def cheap(
    victim: Victim | nn.Module, images: Tensor, labels: Tensor, *, seed: int = 0
) -> list[Diagnostic]:
    """Looks for signs of a masked gradient in a few gradients of each image.

    A diagnostic that fails to run is a warning with the reason, here and in `full`.

    Args:
        victim: The victim, with the gradient mode to be judged; or a network, with its own.
        images: A few dozen images `[B, C, H, W]` in [0, 1]; without the clean errors.
        labels: `[B]`.
        seed: Seed of all noise and random numbers.

    Raises:
        InputError: If the images or the labels are wrong.
    """
    victim, seed = adapt_to(victim, images), whole(seed, "seed")
    images, labels, _ = checked_inputs(victim, images, labels)
    of = victim, images, labels
    notes = measure_or_warn("reached neurons", lambda: reached_neurons(*of, seed=seed))
    if notes[0].value:
        notes += measure_or_warn("agreement of modes", lambda: mode_agreement(*of, seed=seed))
    return [
        *notes,
        *measure_or_warn("vanishing gradients", lambda: vanishing_gradients(*of, seed=seed)),
        *measure_or_warn("silent neurons", lambda: surrogate_slopes(*of, seed=seed)),
        *measure_or_warn("batch independence", lambda: batch_independence(*of, seed=seed)),
    ]


@checked_types
def full(
    victim: Victim | nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    curves: Curves | None = None,
) -> list[Diagnostic]:
    """Looks for signs of a masked gradient with attacks too, some hundred gradients per image.

    Args:
        victim: The victim, with the gradient mode to be judged; or a network, with its own.
        images: A few dozen images `[B, C, H, W]` in [0, 1]; without the clean errors.
        labels: `[B]`.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        curves: Takes what the checks measure along the way: robust accuracy over `"eps"`, `"steps"`
            and `"random points"`, and the cosine of two gradients over `"draws"`.

    Raises:
        InputError: If the images, the labels or the threat are wrong.
    """
    of = adapt_to(victim, images), images, labels
    if norm not in BALL_NORMS:
        raise unknown("norm", str(norm), BALL_NORMS)
    threat: dict[str, Any] = {"eps": checked_radius(eps, norm), "norm": norm, "seed": seed}
    curves = {} if curves is None else curves
    attacks = ShortAttacks(*of, **threat, curves=curves)
    return [
        *cheap(*of, seed=seed),
        *measure_or_warn("hidden noise", lambda: hidden_noise(*of, seed=seed)),
        *measure_or_warn("finite differences", lambda: finite_differences(*of, **threat)),
        *measure_or_warn("accuracy over eps", lambda: accuracy_over_eps(attacks)),
        *measure_or_warn("accuracy over steps", lambda: accuracy_over_steps(attacks)),
        *measure_or_warn("white-box against noise", lambda: against_random_noise(attacks)),
        *measure_or_warn(TIES, lambda: ties_under_attack(attacks)),
        *measure_or_warn("EOT convergence", lambda: eot_convergence(*of, seed=seed, curves=curves)),
        *measure_or_warn("fixed noise", lambda: known_noise(attacks)),
    ]


def measure_or_warn(name: str, measure: Measure) -> list[Diagnostic]:
    """What diagnostics say; a warning with the reason where they cannot be measured.

    Args:
        name: What the warning is called.
        measure: Measures one diagnostic, or some.
    """
    try:
        notes = measure()
    except Exception as error:  # whatever a network of other people does
        _log.debug("%s was not measured", name, exc_info=True)
        return [Diagnostic(name, 0.0, "warn", f"not measured: {first_line(error)}")]
    return [notes] if isinstance(notes, Diagnostic) else list(notes)
