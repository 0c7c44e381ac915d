"""The figures of all pages: SVG inside the page, in its colours, with the numbers behind it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from robust_snn.eval.reporting.tables import csv_text
from robust_snn.utils.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, CLEAN, ROBUST, GRID, PAPER = "#1f2933", "#2f6db3", "#b3451f", "#9aa5b1", "#fefefe"
LINES = ("#2f6db4", "#2e7d4f", "#8a5300", "#7a4fa3", "#00798c", "#a12a5e", "#5c6670")
MARKS = "os^Dv<>P"
PAGE_COLOURS = {  # which `style.css` may change, for a dark page
    INK: "ink",
    PAPER: "paper",
    CLEAN: "clean",
    ROBUST: "robust",
    GRID: "grid",
    **{colour: f"line-{number}" for number, colour in enumerate(LINES)},
}
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "robust_snn",
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
}
WIDTH = 5.6  # inches; still readable when a phone shrinks it
LONGEST = 22  # letters of a label


class Chart(NamedTuple):
    """A figure of a page.

    Attributes:
        name: What its files are called.
        inline: SVG for the page, in its colours.
        svg: The same as a file, in a data URI.
        csv: The numbers, in a data URI.
    """

    name: str
    inline: str
    svg: str
    csv: str


def new_axes(height: float) -> tuple[Figure, Axes]:
    """A figure of a page, so many inches high, and its axes.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "report") from error
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        return figure, figure.subplots()


def chart(name: str, figure: Figure, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Chart:
    """A drawn figure with the numbers that it shows.

    Args:
        name: A word for its files, which no other figure of the page has.
        figure: From `new_axes`.
        head: Names of the columns.
        rows: The numbers.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if text.get_color() == "black":  # of what was drawn outside of our style
            text.set_color(INK)
    buffer = io.StringIO()
    with rc_context(STYLE):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    svg = re.sub(r"<!--.*?-->\n?", "", buffer.getvalue(), flags=re.DOTALL)
    numbers = data_uri("text/csv", csv_text(head, rows))
    return Chart(name, _inline(name, svg), data_uri("image/svg+xml", svg), numbers)


def percent_axis(axis: Any) -> None:
    """Shows shares on an axis as percentages."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def name_rows(axes: Axes, labels: Sequence[str], measure: str) -> None:
    """Names the rows of a figure from the top down, and what their shares are.

    Args:
        axes: Those of the figure.
        labels: Of the rows, see `short_label`.
        measure: The label of the horizontal axis.
    """
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(measure)
    percent_axis(axes.xaxis)


def legend_above(figure: Figure, columns: int) -> None:
    """A legend that takes no room of the data."""
    figure.legend(loc="outside upper right", ncols=columns, frameon=False, fontsize=9)


def short_label(text: str) -> str:
    """Text that leaves room for the data, and that matplotlib does not read as mathematics."""
    short = text  # of which the end tells more apart: `rectangle(width=0.89)`
    if len(text) > LONGEST:
        short = f"{text[: LONGEST // 2]}…{text[1 + LONGEST // 2 - LONGEST :]}"
    return short.replace("$", r"\$")


def _inline(name: str, svg: str) -> str:
    """The part of an SVG file that stands in a page, beside others like it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)  # they rule whole pages
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    for colour, word in PAGE_COLOURS.items():
        svg = svg.replace(colour, f"var(--figure-{word}, {colour})")
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1)


def data_uri(kind: str, content: str) -> str:
    """Text as a link that needs no file."""
    return f"data:{kind};charset=utf-8,{quote(content, safe=' /:;=,()')}"
