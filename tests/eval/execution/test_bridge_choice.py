"""The bridge that is chosen moves the margin as it should; what attacks cannot cross is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from robust_snn import InputError, Victim
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.execution import bridge_choice
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.scoring import gradient_checks
from robust_snn.foreign.bridges import Bridge

WHOLE, INNER = Bridge(operations=True), Bridge(readout="inner")
FAILS: dict[str, tuple[str, Exception]] = {
    "no gradient": ("judged", InputError("no gradient reaches the image")),
    "a sum that fails": ("judged", RuntimeError("shapes differ\nat length")),
    "no names": ("named", InputError("nothing is crossed")),
}


CHOICES: dict[str, tuple[tuple[str, float], tuple[str, float], bool]] = {
    "a good gradient of its own": (("pass", 0.2), ("pass", 0.9), False),
    "a better cosine": (("fail", 0.05), ("pass", 0.4), True),
    "hardly a better cosine": (("pass", 0.1), ("pass", 0.12), False),
    "a part of the network with a true gradient that moves little": (
        ("fail", 0.47),
        ("pass", 0.25),
        True,
    ),
    "no gradient that passes": (("fail", 0.1), ("warn", 0.3), True),
    "a cosine like chance": (("fail", 0.0), ("pass", 0.02), False),
}


def chosen(
    monkeypatch: pytest.MonkeyPatch,
    judged: Callable[[Any], Diagnostic],
    named: Callable[[Bridge], Bridge] = lambda bridge: bridge,
) -> bridge_choice.BridgeChoice:
    """What is chosen of `WHOLE` and `INNER` where the check of a network says so."""
    monkeypatch.setattr(bridge_choice, "_bridges", lambda *_: iter((WHOLE, INNER)))
    monkeypatch.setattr(Bridge, "across", lambda bridge, victim: bridge)
    monkeypatch.setattr(bridge_choice, "finite_differences", lambda net, *_, **__: judged(net))
    monkeypatch.setattr(bridge_choice, "named", lambda bridge, *_: named(bridge))
    victim = Victim(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    x, y = torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.long)
    return bridge_choice.choose_bridge(victim, x, y, Threat("Linf", 0.1), 0)


@pytest.mark.parametrize("kind", FAILS)
def test_what_fails_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, error = FAILS[kind]
    seen: list[Any] = []

    def judged(net: Any) -> Diagnostic:
        if net is WHOLE and where == "judged":
            raise error
        return Diagnostic("finite", 0.9 if isinstance(net, Bridge) else 0.0, "fail", "")

    def named(bridge: Bridge) -> Bridge:
        seen.append(bridge)
        if bridge is WHOLE:
            raise error
        return bridge

    found = chosen(monkeypatch, judged, named)
    assert found.bridge is INNER and seen[-1] is INNER
    ((name, why),) = found.left_out.items()
    assert name == str(WHOLE) and "\n" not in why and str(error).split("\n")[0] in why
    (note,) = gradient_checks.bridges_left_out(found.left_out)
    assert note.status == "warn" and name in note.why and why in note.why


BESIDE_A_GOOD_ONE = {  # cosine across a bridge that changes the gradient, whose own is 0.5
    "one more part of the image": (0.55, True),
    "no more than that": (0.5, False),
}


@pytest.mark.parametrize("kind", BESIDE_A_GOOD_ONE)
def test_a_good_gradient_may_leave_something_out(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, taken = BESIDE_A_GOOD_ONE[kind]
    monkeypatch.setattr(bridge_choice, "leads_elsewhere", lambda bridge, *_: bridge == WHOLE)

    def judged(net: Any) -> Diagnostic:
        return Diagnostic("finite", value if net == WHOLE else 0.5, "pass", "")

    assert (chosen(monkeypatch, judged).bridge == WHOLE) is taken


@pytest.mark.parametrize("kind", CHOICES)
def test_a_bridge_that_passes_is_better(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own, across, taken = CHOICES[kind]

    def judged(net: Any) -> Diagnostic:
        status, value = across if net is INNER else own
        return Diagnostic("finite", value, status, "")  # type: ignore[arg-type]

    assert chosen(monkeypatch, judged).bridge is (INNER if taken else None)
