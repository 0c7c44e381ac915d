"""Whether attacks need a bridge across what has no gradient, found by running the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from robust_snn.attacks.norm_ball import BALL_NORMS
from robust_snn.diagnostics import Diagnostic, finite_differences
from robust_snn.diagnostics.left_out_gradients import ACROSS, leads_elsewhere
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.foreign.bridges import Bridge, named, readouts
from robust_snn.utils.errors import first_line, is_out_of_memory
from robust_snn.victim import Victim

GOOD = 0.15  # cosine with the true gradient of a gradient that needs no bridge
BETTER = 0.05  # by which a bridge must raise the cosine
MORE = 1.02  # times as high it must be where the network's own gradient is good
TRIED = 2  # readouts


class BridgeChoice(NamedTuple):
    """A bridge, if one is of use, and why attacks could not run across others, by what they do."""

    bridge: Bridge | None
    left_out: dict[str, str]


def choose_bridge(
    victim: Victim, images: Tensor, labels: Tensor, threat: Threat, seed: int
) -> BridgeChoice:
    """The first bridge whose gradients move the expected margin as they should, or the best.

    There is none where no bridge helps. Where the network's own do well, a part of the image may
    still be without one, so that those across operations are asked which change the gradient.

    Args:
        victim: The victim.
        images: Images that are not scored, `[B, C, H, W]`.
        labels: `[B]`.
        threat: What attacks may do.
        seed: Seed of all noise and random numbers.
    """
    if threat.norm not in BALL_NORMS or not threat.eps > 0:
        return BridgeChoice(None, {})
    left_out = dict[str, str]()

    def judged(seen: Victim, name: str = "") -> Diagnostic | None:
        size = {"eps": threat.eps, "norm": threat.norm}
        try:
            return finite_differences(seen, images, labels, seed=seed, **size)  # type: ignore[arg-type]
        except Exception as error:  # no gradient, or whatever a network of other people does
            if is_out_of_memory(error):
                raise
            if name:
                left_out[name] = first_line(error)
            return None

    own = judged(victim)
    least = (False, BETTER) if own is None else (_passes(own), max(own.value, 0.0) + BETTER)
    best, bridges = None, _bridges(victim, images)
    if own is not None and _is_good(own):
        # the same places tell small differences apart, but not where noise is between them
        least = (True, own.value + BETTER if victim.stochastic else MORE * own.value)
        of = victim, images, labels, seed
        bridges = (bridge for bridge in ACROSS if leads_elsewhere(bridge, *of, left_out))
    for bridge in bridges:
        note = judged(bridge.across(victim), str(bridge))
        # a small part of the network may have a true gradient of its own, which moves little
        if note is not None and note.value > BETTER and (_passes(note), note.value) > least:
            try:
                crossing = named(bridge, victim, images)
            except Exception as error:  # attacks could not cross it either
                left_out[str(bridge)] = first_line(error)
                continue
            best, least = crossing, (_passes(note), note.value)
            if _is_good(note):
                break
    return BridgeChoice(best, left_out)


def _passes(note: Diagnostic) -> bool:
    return note.status == "pass"


def _is_good(note: Diagnostic) -> bool:
    return _passes(note) and note.value >= GOOD


def _bridges(victim: Victim, images: Tensor) -> Iterator[Bridge]:
    """The bridges to try, those that change least first."""
    yield Bridge(operations=True)
    before = readouts(victim, images)[:TRIED]
    yield from (Bridge(readout=path) for path in before)
    yield from (Bridge(operations=True, readout=path) for path in before)
    yield Bridge(operations=True, detached=True)
    yield from (Bridge(operations=True, detached=True, readout=path) for path in before)
