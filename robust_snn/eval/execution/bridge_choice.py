"""Whether attacks need a bridge across what has no gradient, found by running the network."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from robust_snn.attacks.norm_ball import BALL_NORMS
from robust_snn.diagnostics import Diagnostic, finite_differences
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.foreign.bridges import Bridge, named, readouts
from robust_snn.utils.errors import InputError, is_out_of_memory
from robust_snn.victim import Victim

GOOD = 0.15  # cosine with the true gradient of a gradient that needs no bridge
BETTER = 0.05  # by which a bridge must raise the cosine
TRIED = 2  # readouts


def choose_bridge(
    victim: Victim, images: Tensor, labels: Tensor, threat: Threat, seed: int
) -> Bridge | None:
    """The first bridge whose gradients move the expected margin as they should, or the best.

    None where the network's own do well, or no bridge helps.

    Args:
        victim: The victim.
        images: Images that are not scored, `[B, C, H, W]`.
        labels: `[B]`.
        threat: What attacks may do.
        seed: Seed of all noise and random numbers.
    """
    if threat.norm not in BALL_NORMS or not threat.eps > 0:
        return None

    def judged(seen: Victim) -> Diagnostic | None:
        size = {"eps": threat.eps, "norm": threat.norm}
        try:
            return finite_differences(seen, images, labels, seed=seed, **size)  # type: ignore[arg-type]
        except (InputError, RuntimeError) as error:  # no gradient, or none that can be taken
            if is_out_of_memory(error):
                raise
            return None

    own = judged(victim)
    if own is not None and own.status == "pass" and own.value >= GOOD:
        return None
    least = BETTER if own is None else max(own.value, 0.0) + BETTER
    best = None
    for bridge in _bridges(victim, images):
        note = judged(bridge.across(victim))
        if note is not None and note.value > least:
            try:
                crossing = named(bridge, victim, images)
            except InputError:  # attacks could not cross it either
                continue
            if note.status == "pass" and note.value >= GOOD:
                return crossing
            best, least = crossing, note.value
    return best


def _bridges(victim: Victim, images: Tensor) -> Iterator[Bridge]:
    """The bridges to try, those that change least first."""
    yield Bridge(operations=True)
    before = readouts(victim, images)[:TRIED]
    yield from (Bridge(readout=path) for path in before)
    yield from (Bridge(operations=True, readout=path) for path in before)
    yield Bridge(operations=True, detached=True)
    yield from (Bridge(operations=True, detached=True, readout=path) for path in before)
