"""Checks of a verdict: what was asked, and its numbers against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from robust_snn.diagnostics import Diagnostic, compare_strength
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.noise_draws import PROBE_DRAWS, SAME_LOGITS
from robust_snn.utils.share_texts import percent

OTHER = 0.1  # of the logits; passes with and without a gradient are the same but for rounding
MIXES = 0.3  # of the logits, which rounding in another batch does not change in so few images
CONTRADICTED = 0.25  # of claims without noise, which rounding at the edge of a class does not reach
COPIES = 0.05  # share of copies from which intervals are too narrow by more than a fortieth
SEVERAL = 8  # images, of which chance explains little
GREY = 0.5  # a radius in Linf within which every image can be made grey
BESIDE, FOLLOWED = "images beside", "passes with a gradient"  # names of checks
FIRST_LOOKS = ("quick", "demo")  # suites that are too short for a result


def is_first_look(suite: str) -> bool:
    """Whether a suite is too short for a result."""
    return suite.partition("(")[0] in FIRST_LOOKS


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


def beside(influence: float) -> list[Diagnostic]:
    """What is said of a network whose logits of an image are others in another batch."""
    if influence <= MIXES:
        return []
    why = f"logits of images alone and beside others are {influence:.0%} apart, more than rounding "
    why += "does: accuracies are those of these batches, and of no single image"
    return [Diagnostic(BESIDE, influence, "fail", why)]


def not_looked_at(name: str, why: str, hidden: bool = False) -> list[Diagnostic]:
    """What is said where a check cannot look at a network, or what it looks for is hidden."""
    return [Diagnostic(f"not run: {name}", 1.0, "warn" if hidden else "pass", why)]


def followed(influence: float) -> list[Diagnostic]:
    """What is said of a network whose logits are others where a gradient is asked for."""
    if influence <= OTHER:
        return []
    why = f"logits of passes with a gradient are {influence:.0%} away from those of scoring, more "
    why += "than rounding is: attacks meet another network than the one that is scored"
    return [Diagnostic(FOLLOWED, influence, "fail", why)]


def counted_calls(numbers: str | None) -> list[Diagnostic]:
    """What is said of a network whose answer follows how often it was called; see `adapt`."""
    if numbers is None:
        return []
    why = f"answers change with the number of calls, which the network keeps in {numbers}: these "
    why += "are the accuracies of calls that begin where it was when it was adapted"
    return [Diagnostic("counted calls", 1.0, "warn", why)]


def copies(digests: Sequence[str]) -> list[Diagnostic]:
    """What is said of images that come again, each of which intervals take for a new one."""
    count, distinct = len(digests), len(set(digests))
    if count - distinct <= COPIES * count:
        return []
    share = (count - distinct) / count
    why = (
        f"{percent(share)} of the images are copies of others: intervals are of {count} images and "
    )
    why += f"should be of {distinct}"
    return [Diagnostic("copies of images", share, "warn", why)]


def same_answer(predicted: np.ndarray, labels: np.ndarray) -> list[Diagnostic]:
    """What is said of a network that answers one class to images of several, `[N, draws]`."""
    answers, shares = np.unique(predicted), np.unique(labels, return_counts=True)[1] / len(labels)
    if len(answers) > 1 or len(shares) == 1 or len(labels) < SEVERAL:
        return []
    why = f"class {answers[0]} is the answer to every clean image, of {len(shares)} classes, so "
    why += f"that accuracies say how many images have that label: at most {percent(shares.max())}"
    return [Diagnostic("same answer", 1.0, "fail", why)]


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


def claims(
    attacks: Mapping[str, tuple[np.ndarray, np.ndarray]], exact: bool = False
) -> list[Diagnostic]:
    """What an attack claims must lie in the interval of the measured share of the same images.

    Attacks take an image for broken if most of their draws misclassify it, so that is measured on
    the report draws too; the accuracy of a verdict is the mean over draws.

    Args:
        attacks: By name, of the images that it met: whether it says that they are robust, bool
            `[M]`, and whether the label is right in each report draw, bool `[M, draws]`.
        exact: Whether there is neither noise nor another rounding between the two.
    """
    found = []
    for name, (said, right) in attacks.items():
        if len(said):
            value, (low, high) = intervals.fraction(right.mean(1) >= 0.5, np.ones(len(right)))
            gap, agrees = float(said.mean()) - value, low <= said.mean() <= high
            contradicted = exact and len(said) >= SEVERAL and abs(gap) > CONTRADICTED
            status = "fail" if contradicted else "pass" if agrees else "warn"
            why = f"{name} claims {percent(said.mean())} of the {len(said)} images that it met, "
            why += f"measured {percent(value)} right"
            if contradicted:
                why += ": the network answers attacks otherwise than when it is scored"
            elif not exact:
                why += " in most draws"
            found.append(Diagnostic("claimed against measured", gap, status, why))
    return sorted(found, key=lambda note: (note.rank, abs(note.value)))[-1:]


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
            f"{name} claims {percent(said.mean())} of the {len(said)} images that it met under the "
            f"noise that it saw; fresh noise, which decides, leaves {percent(right.mean())}",
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
    why = (
        f"the worst case is {percent(worst.mean())}, {best} reaches {percent(attacks[best].mean())}"
    )
    if gap > 0:
        why += f"; luck of the select draws costs {percent(gap)}, give or take {percent(error)}"
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


def not_run(
    reasons: Mapping[str, str], adaptive: bool, unfollowed: bool = False
) -> list[Diagnostic]:
    """Attacks of the suite that cannot run on this victim: why, by name.

    A protocol is not whole without them; an adaptive suite has others for the same purpose.

    Args:
        reasons: Why, by name.
        adaptive: Whether the suite chooses attacks.
        unfollowed: Whether all that follow a gradient are among them, and there are some.
    """
    status = "pass" if adaptive else "warn"
    notes = [Diagnostic(f"not run: {name}", 1.0, status, why) for name, why in reasons.items()]
    if unfollowed:
        why = (
            "no attack of the suite that follows gradients can run on this network, so what those "
        )
        why += "without leave is an upper bound"
        notes.append(Diagnostic("attacks along gradients", 0.0, "fail", why))
    return notes


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
