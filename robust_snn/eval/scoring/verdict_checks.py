"""Reasons to believe a verdict or not, from what a run has seen anyway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from robust_snn.diagnostics import Diagnostic, compare_strength
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.eval.scoring.noise_draws import PROBES, SAME
from robust_snn.eval.scoring.verdict import AttackResult


def noise(declared: bool, spread: float) -> Diagnostic:
    """Does the victim's word on its noise agree with what repeated answers show?"""
    measured = spread > SAME
    said, seen = ("noisy" if noisy else "deterministic" for noisy in (declared, measured))
    why = f"the victim says that it is {said}, {PROBES} answers to one image look {seen}"
    if measured and not declared:
        why += "; noise from elsewhere is not under control, so numbers change from run to run"
    return Diagnostic("noise", spread, "pass" if declared == measured else "warn", why)


def claims(attacks: Sequence[AttackResult]) -> list[Diagnostic]:
    """Do the attacks' own numbers agree with the measured ones?"""
    if not attacks:
        return []
    worst = max(attacks, key=lambda attack: abs(attack.claimed - attack.accuracy))
    low, high = worst.ci
    agrees = low <= worst.claimed <= high
    why = f"{worst.name} claims {worst.claimed:.1%}, measured {worst.accuracy:.1%}"
    gap = worst.claimed - worst.accuracy
    return [Diagnostic("claimed against measured", gap, "pass" if agrees else "warn", why)]


def selection(worst: float, attacks: Sequence[AttackResult]) -> list[Diagnostic]:
    """Is the worst case over attacks as low as the best attack alone?

    Per image, the select draws choose an attack; where they are too few, they choose by luck.
    """
    if not attacks:
        return []
    best = min(attacks, key=lambda attack: attack.accuracy)
    gap = worst - best.accuracy
    why = f"the worst case is {worst:.1%}, {best.name} alone reaches {best.accuracy:.1%}"
    advice = "; take more select draws" if gap > 0 else ""
    return [Diagnostic("selection", gap, "warn" if gap > 0 else "pass", why + advice)]


def black_box(left: Sequence[tuple[float, bool]], images: int) -> list[Diagnostic]:
    """Did attacks without a gradient break what attacks with one had left?

    Args:
        left: For every attack in order, the worst case after it, and whether it used gradients;
            first the clean accuracy.
        images: Number of images.
    """
    blind = [before[0] - after[0] for before, after in pairwise(left) if not after[1]]
    if not blind or len(blind) == len(left) - 1:
        return []
    end, name = left[-1][0], "white-box against black-box"
    white = end + sum(blind)
    return [compare_strength(name, white, end, images, "gradients", "all attacks")]


def warnings(messages: Mapping[str, Iterable[str]]) -> list[Diagnostic]:
    """What the attacks' libraries complained about, by attack."""
    counts = {name: list(texts) for name, texts in messages.items()}
    return [
        Diagnostic(f"warning from {name}", texts.count(text), "warn", text)
        for name, texts in counts.items()
        for text in dict.fromkeys(texts)
    ]


def left_out(rows: Iterable[AttackSpec], classes: int) -> list[Diagnostic]:
    """Attacks of the suite that the number of classes rules out."""
    why = f"cannot run with {classes} classes"
    return [Diagnostic(f"not run: {row.name}", 1.0, "warn", why) for row in rows]
