"""The page of a study: `study.html`, the same tables as `study.md`, and `study.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from robust_snn.eval.reporting.charts import CLEAN as BLUE
from robust_snn.eval.reporting.charts import (
    INK,
    ROBUST,
    Chart,
    chart,
    legend_above,
    new_axes,
    percent_axis,
    short_label,
)
from robust_snn.eval.reporting.page_templates import template, with_prefix
from robust_snn.eval.reporting.terminal import radius_text
from robust_snn.eval.scoring.study_findings import (
    BEST,
    CLEAN,
    OWN,
    DefenceFindings,
    Measured,
    StudyFindings,
)
from robust_snn.utils.atomic_files import write_json, write_text
from robust_snn.utils.optional_work import if_possible
from robust_snn.utils.plain_text import one_line
from robust_snn.utils.share_texts import percent, points, points_span, tenths
from robust_snn.utils.version import __version__

STUDY_SCHEMA = 1
PAGE = "study.html"
SHOWN = 3  # attacks that broke most, and checks


@dataclass(frozen=True)
class StudyTable:
    """A table of the page.

    Attributes:
        title: Its heading.
        note: What its numbers are.
        head: Names of the columns.
        rows: Cells as text.
    """

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def write_study(found: StudyFindings, out: Path, command: str | None = None) -> None:
    """Writes the numbers and the tables, and the page where its libraries are installed.

    Args:
        found: What the study found.
        out: Its folder.
        command: The command that ran it, for the record.
    """
    write_json(
        out / "study.json", {"schema": STUDY_SCHEMA, "version": __version__, **asdict(found)}
    )
    write_text(out / "study.md", study_text(found))
    if_possible("page", lambda: write_text(out / PAGE, study_page(found, command)))


def study_page(found: StudyFindings, command: str | None = None) -> str:
    """The page as HTML.

    Raises:
        ImportError: If Jinja2 or matplotlib is not installed.
    """
    page = template(PAGE).render(
        found=found,
        lead=_lead(found),
        tables=study_tables(found),
        changes=_changes(found),
        command=command,
    )
    return str(page)


def study_text(found: StudyFindings) -> str:
    """The tables in Markdown."""
    parts = [one_line(f"{found.plan.name}: {_lead(found)}")]
    for table in study_tables(found):
        lines = [_line(table.head), "|---" * len(table.head) + "|", *map(_line, table.rows)]
        parts += [f"## {table.title}", table.note, "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def render_study(found: StudyFindings) -> Group:
    """What the terminal shows: accuracies and differences."""
    shown = []
    for each in study_tables(found)[:2]:
        table = Table(title=each.title)
        for name in each.head:
            table.add_column(name)
        for row in each.rows:
            table.add_row(*row)
        shown.append(table)
    missing = [Text(f"note: {name}, seed {seed}, has no end") for name, seed in found.missing]
    return Group(*shown, *missing)


def render_study_cost(costs: Sequence[tuple[str, float, float]], seeds: int) -> Group:
    """What the cells of a study would cost, for a terminal.

    Args:
        costs: Name of each defence, seconds of a training, and of its attacks at most.
        seeds: Cells of each defence.
    """
    table = Table(title="minutes of a cell")
    for name in ("defence", "training", "attacks, at most"):
        table.add_column(name)
    for name, training, attacks in costs:
        table.add_row(name, f"{training / 60:.1f}", f"{attacks / 60:.1f}")
    least = seeds * sum(training for _, training, _ in costs) / 3600
    most = least + seeds * sum(attacks for *_, attacks in costs) / 3600
    text = f"{least:.1f} to {most:.1f} hours for {seeds * len(costs)} cells, one after the other"
    return Group(table, Text(f"{text}; images that are broken early cost less"))


def study_tables(found: StudyFindings) -> tuple[StudyTable, ...]:
    """All tables of the page, with the names of others made plain; those without a row are left
    out."""
    tables = (_accuracies(found), _differences(found), _protocols(found), _reasons(found))
    return tuple(
        replace(table, rows=tuple(tuple(map(one_line, row)) for row in table.rows))
        for table in (*tables, _published(found))
        if table.rows
    )


def _lead(found: StudyFindings) -> str:
    plan = found.plan
    seeds = ", ".join(map(str, plan.seeds))
    lead = (
        f"{len(plan.defences)} rows, {plan.n} images, eps = {radius_text(plan.eps)}; seeds {seeds}."
    )
    missing = ", ".join(f"{name} (seed {seed})" for name, seed in found.missing)
    return one_line(f"{lead} Without an end: {missing}." if missing else lead)


def _finished(found: StudyFindings) -> Iterator[DefenceFindings]:
    return (each for each in found.defences if each.measured)


def _main(found: StudyFindings) -> list[str]:
    """The quantities that all defences have."""
    common = [each.what for d in _finished(found) for each in d.measured]
    names = {attack for d in _finished(found) for attack in _attacks(d)}
    return [what for what in dict.fromkeys(common) if what not in names]


def _attacks(each: DefenceFindings) -> list[str]:
    """The attacks of its protocol, which stand between the clean images and their worst case."""
    names = [m.what for m in each.measured]
    return names[1 : names.index(OWN)]


def _accuracies(found: StudyFindings) -> StudyTable:
    main = _main(found)
    rows = (
        (each.row.name, each.row.model, *(_accuracy(each.of(what)) for what in main))
        for each in _finished(found)
    )
    note = (
        "Mean over images and seeds in percent, its 95 % interval over images, and the mean of "
        "every seed in brackets. Best known is the lowest accuracy of each image over all attacks."
    )
    return StudyTable("Accuracy", note, ("defence", "network", *main), tuple(rows))


def _differences(found: StudyFindings) -> StudyTable:
    main = _main(found)
    rows = (
        (
            each.row.name,
            str(each.row.baseline),
            *(_change(each.of(what)) for what in main),
            "" if each.gain_left is None else f"{100 * each.gain_left:.0f} %",
            in_words(each),
        )
        for each in _finished(found)
        if (clean := each.of(CLEAN)) is not None and clean.change is not None
    )
    count = sum(each.p is not None for d in _finished(found) for each in d.measured)
    note = (
        "Points, the same images, seeds and suites under both, with the 95 % interval over images: "
        "of these networks, other seeds may differ. Each interval holds by itself; the words are "
        f"right together in 19 of 20 studies (Holm's correction of {count} differences), so that a "
        "change whose interval just leaves zero may not be told apart. Left is the share of the "
        "gain under its own protocol that the best known attack leaves, where there is a gain."
    )
    head = ("defence", "beside", *main, "left", "in words")
    return StudyTable("What each adds to its baseline", note, head, tuple(rows))


def _protocols(found: StudyFindings) -> StudyTable:
    names = tuple(dict.fromkeys(name for d in _finished(found) for name in _attacks(d)))
    rows = (
        (each.row.name, each.row.protocol, *(_accuracy(each.of(name)) for name in names))
        for each in _finished(found)
    )
    note = (
        "Each attack, on all images; in a suite whose attacks follow each other, an image that an "
        "earlier one broke counts with its worst version so far."
    )
    head = ("defence", "protocol", *names)
    return StudyTable("Under the attacks of its own protocol", note, head, tuple(rows))


def _reasons(found: StudyFindings) -> StudyTable:
    rows = (
        (
            each.row.name,
            ", ".join(f"{name} {100 * share:.0f} %" for name, share in each.broke[:SHOWN]),
            _checks(each.failed),
            _checks(each.warned),
            "" if each.joules is None else f"{with_prefix(each.joules)}J",
        )
        for each in _finished(found)
    )
    note = (
        "Share of the broken images whose worst version an attack made; checks that fail or warn, "
        "with the number of verdicts; energy of a clean inference."
    )
    head = ("defence", "broken by", "failed checks", "warnings", "energy")
    return StudyTable("What broke it, and what the checks say", note, head, tuple(rows))


def _published(found: StudyFindings) -> StudyTable:
    rows = (
        (
            each.row.name,
            paper.what,
            f"{paper.baseline:g} to {paper.defence:g}",
            f"{paper.defence - paper.baseline:+.1f}",
            _change(each.of(OWN)),
            _change(each.of(BEST)),
            paper.source,
        )
        for each in found.defences
        for paper in each.row.published
    )
    note = "Of the papers' own networks, which are larger and trained for longer than those here."
    head = ("defence", "published for", "accuracy", "gain", "own protocol here", "best known here")
    return StudyTable("Published, and here", note, (*head, "source"), tuple(rows))


def in_words(each: DefenceFindings) -> str:
    """What is told of a defence beside its baseline, right for all rows of a page together."""
    own, best = each.of(OWN), each.of(BEST)
    if own is None or best is None or own.change is None or best.change is None:
        return ""
    claimed = own.told > 0
    if best.told > 0:
        return "gains" if claimed else "gains, though its own protocol does not show it"
    if best.told < 0:
        return "loses, and its own protocol shows a gain" if claimed else "loses"
    return "a gain that the best attacks do not show" if claimed else "not told apart"


def _accuracy(it: Measured | None) -> str:
    if it is None:
        return ""
    seeds = ", ".join(f"{100 * value:.0f}" for value in it.each)
    limits = " to ".join(tenths(it.estimate.ci))
    return f"{percent(it.estimate.value).rstrip('%')} ({limits}) [{seeds}]"


def _change(it: Measured | None) -> str:
    if it is None or it.change is None:
        return ""
    return f"{points(it.change.value)} ({points_span(it.change.ci)})"


def _checks(names: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in names[:SHOWN])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _changes(found: StudyFindings) -> Chart | None:
    """Differences to the baselines, under the papers' attacks and the best known ones."""
    pairs = [
        (each, own.change, best.change)
        for each in found.defences
        if (own := each.of(OWN)) and (best := each.of(BEST)) and own.change and best.change
    ]
    if not pairs:
        return None
    figure, axes = new_axes(1.0 + 0.42 * len(pairs))
    table: list[tuple[str, str, float, float, float]] = []
    axes.axvline(0, color=INK, linewidth=0.8)
    for label, number, colour, shift in ((OWN, 0, BLUE, -0.14), (BEST, 1, ROBUST, 0.14)):
        for at, (each, *both) in enumerate(pairs):
            change = both[number]
            axes.hlines(at + shift, *change.ci, color=colour, linewidth=4, alpha=0.35)
            axes.plot(change.value, at + shift, "o", color=colour, label=None if at else label)
            table.append((each.row.name, label, change.value, *change.ci))
    axes.set_yticks(range(len(pairs)), [short_label(pair[0].row.name) for pair in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlabel("defence minus baseline; bars are 95% intervals")
    percent_axis(axes.xaxis)
    axes.grid(axis="x", alpha=0.3)
    legend_above(figure, 2)
    return chart("gains", figure, ["defence", "under", "change", "low", "high"], table)
