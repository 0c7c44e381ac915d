"""`robust-snn compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robust_snn.cli.app import app
from robust_snn.cli.console import command, say

if TYPE_CHECKING:
    from rich.console import Group

    from robust_snn.eval import Comparison


@app.command(epilog="Example: robust-snn compare runs/plain runs/gated --out runs/comparison")
def compare(
    first: Annotated[str, typer.Argument(help="Folder of a finished run, or its URL.")],
    second: Annotated[str, typer.Argument(help="Folder of another one on the same images.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of comparison.html and comparison.json.")
    ] = None,
) -> None:
    """Show how two verdicts differ. Both are on the same images; chance may explain it."""
    from robust_snn.eval import compare as compared
    from robust_snn.eval.reporting.page_templates import check_page
    from robust_snn.utils.user_files import check_output_folder

    if out is not None:
        check_page("comparison.html")
        check_output_folder(out, "the comparison")
    comparison = compared(first, second)
    say(render_comparison(comparison))
    if out is not None:
        from robust_snn.eval.reporting.comparison_page import write_comparison

        page = write_comparison(comparison, out, command())
        say(f"page in {page}, numbers in {page.with_suffix('.json')}")


def render_comparison(comparison: Comparison) -> Group:
    """The differences as a table, and what to keep in mind."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from robust_snn.eval.reporting.comparison_page import conclusion
    from robust_snn.utils.share_texts import percent, points, points_span

    names = [v.model["name"] for v in (comparison.first, comparison.second)]
    data = comparison.first.data
    table = Table(
        title=f"{names[0]} (A) and {names[1]} (B) on {data['n']} images of {data['name']}"
    )
    table.add_column("")
    for column in ("A", "B", "B - A", "95%", "McNemar's p"):
        table.add_column(column, justify="right")
    for row in comparison.differences:
        table.add_row(
            row.what,
            percent(row.first),
            percent(row.second),
            f"{points(row.change)} points",
            points_span(row.ci),
            "" if row.p is None else f"{row.p:.2g}",
        )
    notes = [Text(f"note: {note}") for note in comparison.notes]
    return Group(table, Text(conclusion(comparison)), *notes)
