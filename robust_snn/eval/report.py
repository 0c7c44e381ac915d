"""A verdict on a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from robust_snn.eval.verdict import Interval, Verdict
from robust_snn.gradients import parse_mode

COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}


def render(verdict: Verdict) -> Group:
    """The verdict as a table per attack, one sentence, and what its diagnostics found."""
    table = Table(title=f"{verdict.model['name']} on {verdict.data['name']}")
    table.add_column("attack")
    for column in ("gradient", "claimed", "measured", "95 %", "passes per image", "seconds"):
        table.add_column(column, justify="left" if column == "gradient" else "right")
    table.add_row("none", "", "", *_measured(verdict.clean.accuracy, verdict.clean.ci), "", "")
    for attack in verdict.attacks:
        table.add_row(
            attack.name,
            parse_mode(attack.gradient).brief,
            f"{attack.claimed:.1%}",
            *_measured(attack.accuracy, attack.ci),
            f"{(attack.forwards + attack.backwards) / verdict.data['n']:,.0f}",
            f"{attack.seconds:,.1f}",
        )
    worst = _measured(verdict.robust.accuracy, verdict.robust.ci)
    table.add_row("worst case", "", "", *worst, "", "", style="bold")
    notes = [
        Text.assemble((f"{note.status}: ", COLOURS[note.status]), f"{note.name}: {note.why}")
        for note in verdict.diagnostics
        if note.status != "pass"
    ]
    return Group(table, Text(sentence(verdict)), *notes)


def sentence(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    low, high = verdict.robust.ci
    noise = f", {verdict.draws['report']} noise draws" if verdict.stochastic else ""
    return (
        f"Robust accuracy {verdict.robust.accuracy:.1%} (95 %: {low:.1%} to {high:.1%}) of "
        f"{verdict.clean.accuracy:.1%} clean, under suite {verdict.suite} in "
        f"{verdict.threat['norm']} at eps = {verdict.threat['eps']:.4g}; "
        f"{verdict.data['n']} images{noise}."
    )


def _measured(accuracy: float, interval: Interval) -> tuple[str, str]:
    low, high = interval
    return f"{accuracy:.1%}", f"{low:.1%} - {high:.1%}"
