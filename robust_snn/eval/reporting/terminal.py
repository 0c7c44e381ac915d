"""A verdict on a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from robust_snn.eval.execution.estimate import BUSY, MOSTLY, Estimate
from robust_snn.eval.reporting.published import PublishedResults
from robust_snn.eval.scoring.energy_use import EnergyUse
from robust_snn.eval.scoring.verdict import AttackResult, Interval, Verdict
from robust_snn.utils.share_texts import percent, span, wider

COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}


def render_verdict(verdict: Verdict) -> Group:
    """The verdict as a table of attacks, one sentence, and the diagnostics that did not pass.

    Attacks stand in their order. One that met all images has an accuracy alone; the next column is
    what is left after it and those above.
    """
    table = Table(title=f"{verdict.model['name']} on {verdict.data['name']}")
    table.add_column("attack", overflow="fold")
    table.add_column("gradient")
    for column in ("images", "claimed", "alone", "left", "95%"):
        table.add_column(column, justify="right", no_wrap=column == "95%")
    clean, n = verdict.clean, verdict.data["n"]
    table.add_row("none", "", str(n), "", "", *_measured(clean.accuracy, clean.ci))
    for number, attack in enumerate(verdict.attacks, 1):
        alone, met = verdict.is_alone(attack), attack.images
        table.add_row(
            f"{number}. {attack.name}",
            attack.mode,
            "" if met is None else str(met),
            percent(attack.claimed) if alone else "",
            percent(attack.accuracy) if alone else "",
            *_measured(*attack.worst_so_far),
        )
    worst = _measured(verdict.robust.accuracy, verdict.robust.ci)
    table.add_row("worst case", "", "", "", "", *worst, style="bold")
    for name, value, limits in of_noise(verdict):
        table.add_row(name, "", "", "", "", *_measured(value, limits))
    if (floor := verdict.certified) is not None:
        proven = _measured(floor.accuracy, floor.ci)
        table.add_row("certified", "", str(floor.images), "", "", *proven, style="bold")
    notes = [
        Text.assemble((f"{note.status}: ", COLOURS[note.status]), f"{note.name}: {note.why}")
        for note in verdict.diagnostics
        if note.status != "pass"
    ]
    table.caption = "alone: where it met all images; left: after it and those above"
    spent = [] if verdict.energy is None else [_energy_table(verdict.energy)]
    return Group(table, *spent, Text(sentence(verdict)), *notes)


def _energy_table(energy: EnergyUse) -> Table:
    table = Table(title="joules per inference")
    table.add_column("attack", overflow="fold")
    for column in ("joules", "95%", "spike operations", "steps", "of clean", "95%"):
        table.add_column(column, justify="right", no_wrap=column == "95%")
    for row in energy.rows:
        table.add_row(
            row.name,
            f"{row.joules:.3g}",
            " to ".join(wider(row.ci)),
            f"{row.spike_operations:,.0f}",
            f"{row.steps:.1f}",
            "" if row.factor is None else f"{row.factor:.3g}x",
            "" if row.factor_ci is None else f"{'-'.join(wider(row.factor_ci))}x",
        )
    table.caption = energy.formula
    return table


def render_published(verdict: Verdict, published: PublishedResults) -> Table:
    """The columns of a table of a paper: what was measured, and what it reports."""
    table = Table(title=f"beside {published.source}")
    table.add_column("accuracy in %")
    names = ["clean", *(attack.name for attack in verdict.attacks)]
    for name in names:
        table.add_column(name, justify="right")
    measured = [verdict.clean.accuracy, *(attack.accuracy for attack in verdict.attacks)]
    table.add_row("measured here", *(percent(v).rstrip("%") for v in measured), style="bold")
    for row in published.rows:
        values = [row.values.get(name) for name in names]
        shown = ["" if value is None else f"{100 * value:.2f}" for value in values]
        table.add_row(f"{row.setting} ({row.table})", *shown)
    return table


def sentence(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    noise = f", {verdict.draws['report']} noise draws" if verdict.stochastic else ""
    apart = verdict.data.get("calibration")
    kept = f" ({apart} others chose the attacks)" if apart else ""
    floor = verdict.certified
    proven = f", {percent(floor.accuracy)} certified" if floor else ""
    knowing = ", the attacker knows the noise" if "noise" in verdict.threat else ""
    return (
        f"Robust accuracy {percent(verdict.robust.accuracy)} (95% interval: "
        f"{span(verdict.robust.ci)}) of {percent(verdict.clean.accuracy)} clean, under suite "
        f"{verdict.suite} in {verdict.threat['norm']} at eps = "
        f"{radius_text(verdict.threat['eps'])}{knowing}; {verdict.data['n']} images{kept}{noise}"
        f"{proven}."
        f"{persistent(verdict)}{outlook(verdict)}"
    )


def of_noise(verdict: Verdict) -> list[tuple[str, float, Interval]]:
    """What else a noisy network's worst case comes to, by name: a vote, tries, known noise."""
    robust = verdict.robust
    if not robust.in_every_try and robust.known_noise is None:
        return []
    rows = [("  by vote", robust.vote, robust.vote_ci)]
    rows += [(f"  in all of {t.tries} tries", t.accuracy, t.ci) for t in robust.in_every_try]
    if robust.known_noise is not None:
        rows.append(("  noise known, at most", robust.known_noise, robust.known_noise_ci))
    return [(name, value, limits) for name, value, limits in rows if limits is not None]


def persistent(verdict: Verdict) -> str:
    """What is left if an attacker may ask several times, as a sentence; nothing without noise."""
    tried = verdict.robust.in_every_try
    held = [f"{percent(t.accuracy)} (95%: {span(t.ci)}) in {t.tries} tries" for t in tried]
    text = ""
    if held:
        text = (
            " If an attacker may ask again, the share of images that are right every time is "
            f"{', '.join(held)}."
        )
    known, limits = verdict.robust.known_noise, verdict.robust.known_noise_ci
    if known is not None and limits is not None:
        text += (
            f" An attacker who knows the noise leaves at most {percent(known)} (95%: "
            f"{span(limits)}); suite known-noise attacks with it."
        )
    return text


def outlook(verdict: Verdict) -> str:
    """What a larger budget is expected to break, as a sentence; nothing where it is not known, or
    no image is left."""
    more = verdict.larger_budget
    if more is None or not verdict.robust.accuracy:
        return ""
    return (
        f" {more.factor} times the budget is expected to break another {percent(more.breaks)} of "
        f"the images (95%: {span(more.ci)})."
    )


def passes_per_image(verdict: Verdict, attack: AttackResult) -> float:
    """Passes of an attack per image that it met."""
    met = verdict.data["n"] if attack.images is None else attack.images
    return (attack.forwards + attack.backwards) / max(met, 1)


def radius_text(eps: float) -> str:
    """A radius as people write it: `8/255` where it is that many grey levels, else `0.1`."""
    levels = eps * 255
    whole = 0 < levels < 255 and abs(levels - round(levels)) < 1e-6
    return f"{levels:.0f}/255" if whole else f"{eps:.4g}"


def _measured(accuracy: float, interval: Interval) -> tuple[str, str]:
    return percent(accuracy), span(interval)


def render_cost(
    cost: Estimate, surroundings: float = 0.0, workers: int = 1, points: int = 1
) -> Group:
    """What a run would cost, for a terminal.

    Args:
        cost: The cost of one evaluation.
        surroundings: Seconds that the command takes before and after the evaluation.
        workers: Processes that share it.
        points: Evaluations, more than one in a sweep.
    """
    table = Table("", title="what would run, and about what it costs")
    for column in ("images", "gradients or queries per image", "time"):
        table.add_column(column, justify="right")
    for row in cost.rows:
        table.add_row(row.name, str(row.images), f"{row.gradients:,}", _duration(row.seconds))
    table.add_row("loading, and the report", "", "", _duration(surroundings))
    total = surroundings + points * cost.seconds / workers
    text = f"About {_duration(total)} in all"
    if cost.computing < MOSTLY:
        text += f", {_duration(total * cost.computing)} {BUSY}"
    text += f" on {workers} processes" if workers > 1 else ""
    text += f", for {points} evaluations of a sweep" if points > 1 else ""
    text += (
        f"; {cost.gradients:,} gradients or queries; {cost.memory / 1e6:,.0f} MB of memory for a "
        f"batch, beside the libraries; at most {cost.disk / 1e6:,.0f} MB of disk. Expect a "
        "factor of two: images that are broken early cost less. Nothing was run or written."
    )
    return Group(table, Text(text))


def _duration(seconds: float) -> str:
    """A time in the unit that suits it, such as `2.5 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
