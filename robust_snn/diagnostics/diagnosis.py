"""A diagnosis: every check on one gradient mode, and what a reader wants to see beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.attacks.mode_ranking import ModeTrial, RankingEffort, rank_modes
from robust_snn.data.checks import check_labels
from robust_snn.data.image_set import balanced
from robust_snn.data.lazy_images import Images, LazyImages
from robust_snn.data.map_style import MapStyle, with_labels
from robust_snn.diagnostics.all_checks import full
from robust_snn.diagnostics.attack_sanity import Curves
from robust_snn.diagnostics.clean_accuracy import without_clean_errors
from robust_snn.diagnostics.diagnostic import Diagnostic
from robust_snn.diagnostics.margin_curve import MarginCurve, margin_curve
from robust_snn.diagnostics.mode_agreement import gradient_cosines
from robust_snn.foreign import adapt_to
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.modules import device_of
from robust_snn.utils.optional_work import Attempts
from robust_snn.victim import Victim

MOST_CLASSES = 2**31  # more than any network has
LOOKED_AT = 64  # images of a data set, at most
COMPARED = 8  # gradient modes whose directions are compared: those that attack best


@dataclass(frozen=True)
class ModeResult:
    """What a short attack with one gradient mode leaves.

    Attributes:
        gradient: The mode.
        accuracy: Robust accuracy on fresh draws, in [0, 1].
        flaw: What is wrong with its gradient; "" if nothing is.
    """

    gradient: str
    accuracy: float
    flaw: str


@dataclass(frozen=True)
class Diagnosis:
    """Whether a victim hides its gradient, and what shows it.

    Attributes:
        gradient: The mode that was judged, as it was in force.
        images: Number of images, all of them classified correctly before.
        stochastic: Whether the victim is noisy.
        threat: `norm` and `eps`.
        seed: Seed of everything random.
        notes: What every check says.
        results: What a short attack with every gradient mode leaves, the strongest first.
        compared: Gradient modes of `cosines`.
        cosines: Mean cosine of the input gradients under every two of them; None where they are
            bitwise the same.
        curves: Robust accuracy over `"eps"`, `"steps"` and `"random points"`, and the cosine of two
            gradients over `"draws"`, as pairs.
        margin: The margin along the gradient; None where that could not be measured.
        missing: What could not be measured, and why.
    """

    gradient: str
    images: int
    stochastic: bool
    threat: dict[str, Any]
    seed: int
    notes: tuple[Diagnostic, ...]
    results: tuple[ModeResult, ...]
    compared: tuple[str, ...]
    cosines: tuple[tuple[float | None, ...], ...]
    curves: dict[str, tuple[tuple[float, float], ...]]
    margin: MarginCurve | None
    missing: tuple[tuple[str, str], ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(note.name for note in self.notes if note.status == "fail")

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as JSON values."""
        return asdict(self)


@checked_types
def diagnose(
    victim: Victim | nn.Module,
    images: Images | MapStyle,
    labels: Tensor | None = None,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    progress: Callable[[str], None] = lambda doing: None,
) -> Diagnosis:
    """Looks for signs of a masked gradient, and tries every gradient mode.

    Args:
        victim: The victim, with the gradient mode to be judged; or a network, with its own.
        images: A few dozen images `[B, C, H, W]` in [0, 1]; or a data set on disk or a map-style
            one, of which 64 are read, an equal share of every class. Clean errors are left out.
        labels: `[B]`; those of the data set if left out.
        eps: Radius of the ball.
        norm: `"Linf"` or `"L2"`.
        seed: Seed of all noise and random numbers.
        progress: Is told what begins.

    Raises:
        InputError: If the images, the labels or the threat are wrong, or no image is classified
            correctly.
    """
    found, labels = with_labels(images, labels)
    victim = adapt_to(victim, found)
    if isinstance(found, LazyImages):
        found, labels = _few(victim, found, labels)
    found, labels, doubts = without_clean_errors(victim, found, labels)
    of = victim, found, labels
    threat: dict[str, Any] = {"norm": norm, "eps": eps}
    curves: Curves = {}
    attempt = Attempts()
    progress("the checks")
    notes = [*doubts, *full(*of, seed=seed, curves=curves, **threat)]
    progress("every gradient mode")
    effort = RankingEffort(searched=0)
    none: tuple[ModeTrial, ...] = ()
    trials = attempt(
        "Robust accuracy by gradient mode",
        lambda: rank_modes(*of, seed=seed, effort=effort, **threat),
        none,
    )
    ranked = sorted(trials, key=lambda trial: (trial.accuracy, trial.soft_accuracy))
    results = tuple(ModeResult(trial.gradient, trial.accuracy, trial.flaw) for trial in ranked)
    progress("agreement of gradient modes")
    own = str(victim.gradient_in_force)
    modes = list(dict.fromkeys([own, *(result.gradient for result in results)]))[:COMPARED]
    nothing: tuple[tuple[str, ...], Tensor] = ((), torch.empty(0, 0))
    compared, cosines = attempt(
        "Agreement of gradient modes", lambda: gradient_cosines(*of, modes, seed=seed), nothing
    )
    progress("the margin along the gradient")
    margin = attempt(
        "Margin along the gradient", lambda: margin_curve(*of, seed=seed, **threat), None
    )
    return Diagnosis(
        gradient=own,
        images=len(found),
        stochastic=victim.stochastic,
        threat=threat,
        seed=seed,
        notes=tuple(notes),
        results=results,
        compared=compared,
        cosines=tuple(map(_without_nan, cosines.tolist())),
        curves={name: tuple(sorted(points.items())) for name, points in curves.items()},
        margin=margin,
        missing=tuple(attempt.missing),
    )


def _few(victim: Victim, images: LazyImages, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Some images of a data set, on the victim's device."""
    check_labels(labels, len(images), MOST_CLASSES)
    rows = np.sort(balanced(labels.cpu().numpy())[:LOOKED_AT])
    device = device_of(victim)
    return images.subset(rows)[:].to(device), labels[torch.from_numpy(rows)].to(device)


def _without_nan(row: list[float]) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else value for value in row)
