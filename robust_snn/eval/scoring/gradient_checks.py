"""Checks of the gradients behind a verdict: which modes were tried, and signs of masked ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from robust_snn.attacks.mode_reach import tried_reach
from robust_snn.attacks.norm_ball import BALL_NORMS
from robust_snn.diagnostics import (
    Diagnostic,
    cheap,
    compare_strength,
    finite_differences,
    measure_or_warn,
)
from robust_snn.diagnostics.diagnostic import grade
from robust_snn.diagnostics.hidden_noise import hidden_noise
from robust_snn.diagnostics.left_out_gradients import NAME as LEFT_OUT
from robust_snn.diagnostics.left_out_gradients import left_out
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.gradients import Own, parse_mode
from robust_snn.victim import Victim

UNFOLLOWED = "; no attack followed this gradient"
FEW_LEFT = 0.25  # share of the right answers below which survivors are few
NAMED_MODES = 4  # with a flaw, that a diagnostic names
SILENT = "silent neurons"
SURROGATE_CHECKS = (SILENT, "vanishing degree")
MOVED = "; the margin moves along what attacks followed all the same, see finite differences"
UNHEARD = "; the margin moves along what attacks followed, which is none of what this layer decides"
BESIDE = "; attacks followed another surrogate too, of which more is left"


def weakens_attacks(note: Diagnostic) -> bool:
    """Whether what a diagnostic found concerns an attack, not a gradient that none followed."""
    return not note.why.endswith(UNFOLLOWED)


def not_tried(reasons: Mapping[str, str]) -> list[Diagnostic]:
    """Gradient modes that a probe did not try: why, by mode; one diagnostic for each reason."""
    modes: dict[str, list[str]] = {}
    for text, why in reasons.items():
        mode = parse_mode(text)
        why = f"it{rest}" if (rest := why.removeprefix(mode.name)) != why else why
        modes.setdefault(why, []).append(mode.name)
    return [
        Diagnostic(f"not tried: {', '.join(dict.fromkeys(names))}", float(len(names)), "warn", why)
        for why, names in modes.items()
    ]


def bridges_left_out(reasons: Mapping[str, str]) -> list[Diagnostic]:
    """Bridges that the attacks could not run across: why, by what each does."""
    why = "; ".join(f"{name} ({text})" for name, text in reasons.items())
    if not why:
        return []
    why = f"attacks could not run across what may stand in for gradients, and did without: {why}"
    return [Diagnostic("bridges left out", float(len(reasons)), "warn", why)]


def replaced_gradients(shares: Mapping[str, float], flaws: Mapping[str, str]) -> list[Diagnostic]:
    """How often random signs had to stand in for a gradient, and what is wrong with modes.

    One mode that works is enough; where the best of them mostly climbs by chance, none does.

    Args:
        shares: Share of the gradients that short attacks with each mode had to replace, by mode.
        flaws: What is wrong with the gradient at clean images, by mode.
    """
    if not shares:
        return []
    least = min(shares.values())
    shown = [
        f"{parse_mode(mode).brief}: {share:.0%}{', ' + flaws[mode] if mode in flaws else ''}"
        for mode, share in shares.items()
        if share or mode in flaws
    ]
    more = f" and {len(shown) - NAMED_MODES} more" if shown[NAMED_MODES:] else ""
    why = "random signs stood in for none of the probe's gradients"
    if shown:
        why = f"random signs stood in for gradients of {'; '.join(shown[:NAMED_MODES])}{more}"
    return [Diagnostic("replaced gradients", least, grade(least, 0.1, 0.5), why)]


def own_against_best(trials: Mapping[str, float], images: int) -> list[Diagnostic]:
    """Attacks with the network's own gradient must not be weaker than those with another mode.

    Args:
        trials: Accuracy that a short attack with each mode leaves, by mode.
        images: Number of images.
    """
    own, others = trials.get(str(Own())), {m: a for m, a in trials.items() if m != str(Own())}
    if own is None or not others:
        return []
    best = min(others, key=others.__getitem__)
    name, strong = "own gradient against others", "the network's own gradient"
    return [compare_strength(name, own, others[best], images, strong, parse_mode(best).brief)]


def gradient_masking(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    modes: Iterable[str],
    threat: Threat,
    *,
    seed: int,
) -> list[Diagnostic]:
    """Signs of a masked gradient, at the cost of a few gradients per mode.

    The gradient that a network of other people has by itself is judged too, whether an attack used
    it or not: that it is masked is worth knowing.

    Args:
        victim: The victim.
        images: A few images that are classified correctly, `[B, C, H, W]`.
        labels: `[B]`.
        modes: Gradient modes that the attacks used.
        threat: What the attacks may do.
        seed: Seed of all noise.
    """
    own, followed = str(Own()), list(dict.fromkeys(modes))
    judged, of = list(followed), (victim, images, labels)
    notes = follows_margin(*of, followed, threat, seed=seed)
    moved = bool(notes) and all(note.status == "pass" for note in notes)
    hidden = measure_or_warn("hidden noise", lambda: hidden_noise(*of, seed=seed))
    notes += [note for note in hidden if note.status != "pass"]
    if own not in followed and tried_reach(victim.replace(gradient=own), images).refusal is None:
        judged.append(own)
    found = {
        mode: cheap(victim.replace(gradient=mode), images, labels, seed=seed) for mode in judged
    }
    for mode, checks in _surrogates_together(found, followed, moved).items():
        if mode not in followed:
            checks += follows_margin(*of, [mode], threat, seed=seed)
        aside = "" if mode in followed else UNFOLLOWED
        for note in checks:
            named = f"{note.name} under {parse_mode(mode).brief}"
            why = note.why if note.status == "pass" else note.why + aside
            notes.append(replace(note, name=named, why=why))
    return notes


def _surrogates_together(
    found: Mapping[str, list[Diagnostic]], followed: Sequence[str], moved: bool
) -> dict[str, list[Diagnostic]]:
    """The checks of every mode, where what is lost of a surrogate counts as far as it matters.

    It says why a gradient may be masked, not whether it is. Where a gradient that attacks followed
    moves the margin, the shares are statements, but for a layer beside others of which no attack
    had a surrogate; elsewhere, a surrogate that is lost only warns beside one that is not, because
    the worst case over attacks counts.

    Args:
        found: By mode.
        followed: Modes that the attacks used.
        moved: Whether finite differences found that such a gradient moves the margin.
    """
    held = {
        note.name
        for mode in followed
        for note in found[mode]
        if note.name in SURROGATE_CHECKS and note.status != "fail"
    }

    silent = [n.value for mode in followed for n in found[mode] if n.name == SILENT]
    unheard = bool(silent) and min(silent) == 1

    def counted(mode: str, note: Diagnostic) -> Diagnostic:
        if mode not in followed or note.name not in SURROGATE_CHECKS or note.status == "pass":
            return note
        if moved and unheard and note.name == SILENT:
            return replace(note, status="warn", why=note.why + UNHEARD)
        if moved:
            return replace(note, status="pass", why=note.why + MOVED)
        if note.name not in held or note.status != "fail":
            return note
        return replace(note, status="warn", why=note.why + BESIDE)

    return {mode: [counted(mode, note) for note in notes] for mode, notes in found.items()}


def follows_margin(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    modes: Sequence[str],
    threat: Threat,
    *,
    seed: int,
) -> list[Diagnostic]:
    """Finite differences along the gradients that attacks followed, where the threat has a radius.

    The arguments are those of `gradient_masking`.
    """
    if not _has_radius(modes, threat):
        return []
    size: dict[str, Any] = {"eps": threat.eps, "norm": threat.norm, "seed": seed, "modes": modes}
    measure = partial(finite_differences, victim, images, labels, **size)
    return measure_or_warn("finite differences", measure)


def left_out_on_survivors(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    modes: Sequence[str],
    threat: Threat,
    share: float,
    *,
    seed: int,
) -> list[Diagnostic]:
    """What gradients that attacks followed leave out, where more than a few images are left.

    The arguments are those of `gradient_masking`, of images that every attack left, and `share` is
    that of the images that were right before the attacks.
    """
    if share < FEW_LEFT or not _has_radius(modes, threat):
        return []
    size: dict[str, Any] = {"eps": threat.eps, "norm": threat.norm, "seed": seed}
    return measure_or_warn(LEFT_OUT, partial(left_out, victim, images, labels, modes, **size))


def _has_radius(modes: Sequence[str], threat: Threat) -> bool:
    return bool(modes) and threat.norm in BALL_NORMS and threat.eps > 0


def on_survivors(notes: Sequence[Diagnostic], share: float) -> list[Diagnostic]:
    """What `follows_margin` says of images that every attack left, milder where these are few.

    A handful is left because gradients fail on it, on any network: it says nothing about the
    others.

    Args:
        notes: What it says.
        share: Share of the images that were right before the attacks.
    """
    milder = {"fail": "warn", "warn": "pass"} if share < FEW_LEFT else {}
    return [
        replace(n, name=f"{n.name} on survivors", status=milder.get(n.status, n.status))
        for n in notes
    ]
