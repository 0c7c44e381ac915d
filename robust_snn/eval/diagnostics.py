"""Reasons to believe a verdict or not, from what a run has seen anyway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from robust_snn.eval.scoring import PROBES, SAME
from robust_snn.eval.suite import Attack
from robust_snn.eval.verdict import AttackResult, Diagnostic
from robust_snn.victim import Victim

MANY = 0.1  # share of images without a gradient above which gradient attacks prove little


def zero_gradient(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    """Whether the cross-entropy's gradient is exactly zero at an image, bool `[B]`."""
    with torch.enable_grad():
        leaf = images.detach().clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(victim(leaf), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient.flatten(1).abs().amax(1) == 0


def noise(declared: bool, spread: float) -> Diagnostic:
    """Does the victim's word on its noise agree with what repeated answers show?"""
    measured = spread > SAME
    said, seen = ("noisy" if noisy else "deterministic" for noisy in (declared, measured))
    why = f"the victim says that it is {said}, {PROBES} answers to one image look {seen}"
    if measured and not declared:
        why += "; noise from elsewhere is not under control, so numbers change from run to run"
    return Diagnostic("noise", spread, "pass" if declared == measured else "warn", why)


def zero_gradients(shares: Mapping[str, np.ndarray]) -> list[Diagnostic]:
    """How many attacked images give gradient attacks nothing to follow?

    Args:
        shares: Flags of the attacked images, bool `[images]`, by gradient mode.
    """
    found = []
    for mode, flags in shares.items():
        share = float(flags.mean()) if len(flags) else 0.0
        status = "pass" if share == 0 else "fail" if share > MANY else "warn"
        why = f"{flags.sum()} of {len(flags)} attacked images have a gradient of exactly zero"
        found.append(Diagnostic(f"zero gradients under {mode}", share, status, why))
    return found


def claims(attacks: Sequence[AttackResult]) -> Diagnostic:
    """Do the attacks' own numbers agree with the measured ones?"""
    worst = max(attacks, key=lambda attack: abs(attack.claimed - attack.accuracy))
    low, high = worst.ci
    agrees = low <= worst.claimed <= high
    why = f"{worst.name} claims {worst.claimed:.1%}, measured {worst.accuracy:.1%}"
    gap = worst.claimed - worst.accuracy
    return Diagnostic("claimed against measured", gap, "pass" if agrees else "warn", why)


def selection(worst: float, attacks: Sequence[AttackResult]) -> Diagnostic:
    """Is the worst case over attacks as low as the best attack alone?

    Per image, the select draws choose an attack; where they are too few, they choose by luck.
    """
    best = min(attacks, key=lambda attack: attack.accuracy)
    gap = worst - best.accuracy
    why = f"the worst case is {worst:.1%}, {best.name} alone reaches {best.accuracy:.1%}"
    advice = "; take more select draws" if gap > 0 else ""
    return Diagnostic("selection", gap, "warn" if gap > 0 else "pass", why + advice)


def warnings(messages: Mapping[str, Iterable[str]]) -> list[Diagnostic]:
    """What the attacks' libraries complained about, by attack."""
    counts = {name: list(texts) for name, texts in messages.items()}
    return [
        Diagnostic(f"warning from {name}", texts.count(text), "warn", text)
        for name, texts in counts.items()
        for text in dict.fromkeys(texts)
    ]


def left_out(rows: Iterable[Attack], classes: int) -> list[Diagnostic]:
    """Attacks of the suite that the number of classes rules out."""
    why = f"cannot run with {classes} classes"
    return [Diagnostic(f"not run: {row.name}", 1.0, "warn", why) for row in rows]
