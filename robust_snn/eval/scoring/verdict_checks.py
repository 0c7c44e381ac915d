"""Checks of a verdict: its numbers against each other, and signs of masked gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from robust_snn.attacks.mode_reach import tried_reach
from robust_snn.attacks.norm_ball import BALL_NORMS
from robust_snn.diagnostics import Diagnostic, cheap, compare_strength, finite_differences, measured
from robust_snn.diagnostics.diagnostic import grade
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.noise_draws import PROBE_DRAWS, SAME_LOGITS
from robust_snn.gradients import Own, parse_mode
from robust_snn.victim import Victim

FEW_LEFT = 0.25  # share of the right answers below which survivors are few
NAMED_MODES = 4  # with a flaw, that a diagnostic names
GREY = 0.5  # a radius in Linf within which every image can be made grey
UNFOLLOWED = "; no attack followed this gradient"
SURROGATE_CHECKS = ("silent neurons", "vanishing degree")
FIRST_LOOKS = ("quick", "demo")  # suites that are too short for a result
MOVED = "; the margin moves along what attacks followed all the same, see finite differences"
BESIDE = "; attacks followed another surrogate too, of which more is left"


def is_first_look(suite: str) -> bool:
    """Whether a suite is too short for a result."""
    return suite.partition("(")[0] in FIRST_LOOKS


def weakens_attacks(note: Diagnostic) -> bool:
    """Whether what a diagnostic found concerns an attack, not a gradient that none followed."""
    return not note.why.endswith(UNFOLLOWED)


def noise(declared: bool, spread: float, repeats: bool = True) -> Diagnostic:
    """What the victim declares about its noise must agree with repeated predictions.

    Args:
        declared: Whether the victim says that it is noisy.
        spread: Measured spread of its logits, see `noise_spread`.
        repeats: Whether the same draw gives the same answer again.
    """
    measured = spread > SAME_LOGITS
    said, seen = ("noisy" if noisy else "deterministic" for noisy in (declared, measured))
    why = f"the victim says that it is {said}, {PROBE_DRAWS} answers to one image look {seen}"
    if (measured and not declared) or not repeats:
        why += "; noise from elsewhere is not under control, so numbers change from run to run"
    status = "pass" if declared == measured and repeats else "warn"
    return Diagnostic("noise", spread, status, why)


def clean_accuracy(accuracy: float, classes: int) -> list[Diagnostic]:
    """What is said of a network that is no better than chance without an attack."""
    chance = 1 / classes
    if accuracy > chance:
        return []
    why = (
        f"{accuracy:.1%} are right without an attack, {chance:.1%} by chance: are labels shifted, "
    )
    why += "images scaled twice, or the network not trained?"
    return [Diagnostic("clean accuracy", accuracy, "fail", why)]


def attacked(images: int) -> list[Diagnostic]:
    """What is said of a run in which no attack met an image."""
    if images:
        return []
    return [
        Diagnostic("attacked images", 0.0, "fail", "no attack ran: no image was left to attack")
    ]


def reach(threat: Threat, own_bounds: bool = False) -> list[Diagnostic]:
    """What is said of a radius that allows nothing, or within which any image can be made grey.

    Args:
        threat: What attackers may do.
        own_bounds: Whether all rows have bounds of their own, as corruptions and rotations.
    """
    if own_bounds:
        return []
    if threat.eps == 0:
        why = "eps = 0 allows no change of any image, so that nothing was attacked"
        return [Diagnostic("radius", 0.0, "fail", why)]
    if threat.norm != "Linf" or threat.eps < GREY:
        return []
    why = f"eps = {threat.eps:g} in Linf makes any image grey, and no network can be better than "
    why += "chance; was 0.5 in L2 meant?"
    return [Diagnostic("radius", threat.eps, "warn", why)]


def claims(attacks: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[Diagnostic]:
    """What an attack claims must lie in the interval of the measured share of the same images.

    Attacks take an image for broken if most of their draws misclassify it, so that is measured on
    the report draws too; the accuracy of a verdict is the mean over draws.

    Args:
        attacks: By name, of the images that it met: whether it says that they are robust, bool
            `[M]`, and whether the label is right in each report draw, bool `[M, draws]`.
    """
    found = [
        (low <= said.mean() <= high, float(said.mean()), value, name, len(said))
        for name, (said, right) in attacks.items()
        if len(said)
        for value, (low, high) in [intervals.fraction(right.mean(1) >= 0.5, np.ones(len(right)))]
    ]
    if not found:
        return []
    agrees, claimed, value, name, met = max(found, key=lambda f: (not f[0], abs(f[1] - f[2])))
    why = f"{name} claims {claimed:.1%} of the {met} images that it met, measured {value:.1%} right"
    status = "pass" if agrees else "warn"
    return [Diagnostic("claimed against measured", claimed - value, status, f"{why} in most draws")]


def claims_under_other_noise(
    attacks: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> list[Diagnostic]:
    """What attacks on frozen or averaged noise claim, which fresh noise need not confirm.

    Args:
        attacks: As in `claims`.
    """
    return [
        Diagnostic(
            f"claim of {name}",
            float(said.mean() - right.mean()),
            "pass",
            f"{name} claims {said.mean():.1%} of the {len(said)} images that it met under the "
            f"noise that it saw; fresh noise, which decides, leaves {right.mean():.1%}",
        )
        for name, (said, right) in attacks.items()
        if len(said)
    ]


def selection(worst: np.ndarray, attacks: Mapping[str, np.ndarray]) -> list[Diagnostic]:
    """The worst case over attacks must not exceed the best attack alone by more than its error.

    Per image, the select draws choose an attack; where they are too few, chance chooses.

    Args:
        worst: Whether each report draw is right in the worst case, bool `[N, draws]`.
        attacks: The same under each attack alone, by name.
    """
    if not attacks:
        return []
    best = min(attacks, key=lambda name: attacks[name].mean())
    differences = worst.mean(1) - attacks[best].mean(1)
    gap = float(differences.mean())
    error = 2 * float(differences.std()) / len(differences) ** 0.5
    why = f"the worst case is {worst.mean():.1%}, {best} reaches {attacks[best].mean():.1%}"
    if gap > 0:
        why += f"; luck of the select draws costs {gap:.1%}, give or take {error:.1%}"
        why += ", take more" if gap > error else ""
    return [Diagnostic("selection", gap, "warn" if gap > error else "pass", why)]


def black_box(
    left: Sequence[tuple[float, bool]],
    images: int,
    continued: bool = False,
    alone: Sequence[float] = (),
) -> list[Diagnostic]:
    """Attacks without a gradient must not break what attacks with one did not.

    Args:
        left: For every attack in order, the worst case after it, and whether it used gradients;
            first the clean accuracy.
        images: Number of images.
        continued: Whether those without a gradient start from what the others found. On honest
            networks they break more then too, so that one step less is said.
        alone: What attacks with gradients left of all images, where they met all: those without,
            which came before them, then broke nothing that these did not.
    """
    blind = [before[0] - after[0] for before, after in pairwise(left) if not after[1]]
    if not blind or len(blind) == len(left) - 1:
        return []
    end, name = left[-1][0], "white-box against black-box"
    white = min([end + sum(blind), *alone])
    note = compare_strength(name, white, end, images, "gradients", "all attacks")
    if continued and note.status != "pass":
        status = "warn" if note.status == "fail" else "pass"
        note = replace(note, status=status, why=f"{note.why}, going on from where those ended")
    return [note]


def warnings(messages: Mapping[str, Iterable[str]]) -> list[Diagnostic]:
    """The warnings of the attacks' libraries, by attack."""
    counts = {name: list(texts) for name, texts in messages.items()}
    return [
        Diagnostic(f"warning from {name}", texts.count(text), "warn", text)
        for name, texts in counts.items()
        for text in dict.fromkeys(texts)
    ]


def not_run(reasons: Mapping[str, str], adaptive: bool) -> list[Diagnostic]:
    """Attacks of the suite that cannot run on this victim: why, by name.

    A protocol is not whole without them; an adaptive suite has others for the same purpose.
    """
    status = "pass" if adaptive else "warn"
    return [Diagnostic(f"not run: {name}", 1.0, status, why) for name, why in reasons.items()]


def dropped(met: Mapping[str, int]) -> list[Diagnostic]:
    """Attacks of an adaptive suite that ran on the first images alone: how many they met."""
    if not met:
        return []
    rows = ", ".join(f"{name} ({count})" for name, count in met.items())
    why = f"broke none of the first images (how many they met), so later ones did without: {rows}"
    return [Diagnostic("dropped attacks", float(len(met)), "pass", why)]


def devices(results: Mapping[str, int]) -> list[Diagnostic]:
    """Results that were not all computed on the same kind of device: how many on each."""
    if len(results) < 2:
        return []
    told = ", ".join(f"{name} ({count} results)" for name, count in sorted(results.items()))
    why = f"computed on {told}, which round differently: other machines may give other numbers"
    return [Diagnostic("mixed devices", float(len(results)), "warn", why)]


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
    moves the margin, the shares are statements; elsewhere, a surrogate that is lost only warns
    beside one that is not, because the worst case over attacks counts.

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

    def counted(mode: str, note: Diagnostic) -> Diagnostic:
        if mode not in followed or note.name not in SURROGATE_CHECKS or note.status == "pass":
            return note
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
    if not modes or threat.norm not in BALL_NORMS or not threat.eps > 0:
        return []
    size: dict[str, Any] = {"eps": threat.eps, "norm": threat.norm, "seed": seed, "modes": modes}
    measure = partial(finite_differences, victim, images, labels, **size)
    return measured("finite differences", measure)


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
