"""A bridge that attacks cannot run across is left out by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from robust_snn import InputError, Victim
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.execution import bridge_choice
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.scoring import verdict_checks
from robust_snn.foreign.bridges import Bridge

WHOLE, INNER = Bridge(operations=True), Bridge(readout="inner")
FAILS: dict[str, tuple[str, Exception]] = {
    "no gradient": ("judged", InputError("no gradient reaches the image")),
    "a sum that fails": ("judged", RuntimeError("shapes differ\nat length")),
    "no names": ("named", InputError("nothing is crossed")),
}


@pytest.mark.parametrize("kind", FAILS)
def test_what_fails_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, error = FAILS[kind]
    seen: list[Any] = []

    def bridges(*_: Any) -> Iterator[Bridge]:
        yield from (WHOLE, INNER)

    def across(bridge: Bridge, victim: Victim) -> Any:
        return bridge

    def judged(net: Any, *_: Any, **__: Any) -> Diagnostic:
        if net is WHOLE and where == "judged":
            raise error
        return Diagnostic("finite", 0.9 if isinstance(net, Bridge) else 0.0, "fail", "")

    def named(bridge: Bridge, *_: Any) -> Bridge:
        seen.append(bridge)
        if bridge is WHOLE:
            raise error
        return bridge

    monkeypatch.setattr(bridge_choice, "_bridges", bridges)
    monkeypatch.setattr(Bridge, "across", across)
    monkeypatch.setattr(bridge_choice, "finite_differences", judged)
    monkeypatch.setattr(bridge_choice, "named", named)
    victim = Victim(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    x, y = torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.long)
    found = bridge_choice.choose_bridge(victim, x, y, Threat("Linf", 0.1), 0)
    assert found.bridge is INNER and seen[-1] is INNER
    ((name, why),) = found.left_out.items()
    assert name == str(WHOLE) and "\n" not in why and str(error).split("\n")[0] in why
    (note,) = verdict_checks.bridges_left_out(found.left_out)
    assert note.status == "warn" and name in note.why and why in note.why


def test_nothing_is_said_of_none() -> None:
    assert verdict_checks.bridges_left_out({}) == []
