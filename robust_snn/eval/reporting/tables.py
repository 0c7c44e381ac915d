"""The table of attacks in the forms that papers and spreadsheets take."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from robust_snn.eval.scoring.verdict import Interval, Verdict
from robust_snn.utils.share_texts import percent, tenths

SPECIAL = {mark: f"\\{mark}" for mark in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def latex_table(verdict: Verdict) -> str:
    """The accuracy that is left after every attack in turn, as a `tabular` for `booktabs`."""
    rows = [
        f"{_escaped(name)} & {_escaped(gradient)} & {_in_mathematics(percent(left))} & "
        f"{'--'.join(tenths(interval))} \\\\"
        for name, gradient, left, interval in _rows(verdict)
    ]
    head = ["\\begin{tabular}{llrr}", "\\toprule", "attack & gradient & left (\\%) & 95\\,\\% \\\\"]
    return "\n".join([*head, "\\midrule", *rows, "\\bottomrule", "\\end{tabular}"])


def csv_table(verdict: Verdict) -> str:
    """The same as CSV, accuracies as shares."""
    rows = [(name, gradient, left, *ci) for name, gradient, left, ci in _rows(verdict)]
    return csv_text(["attack", "gradient", "left", "low", "high"], rows)


def csv_text(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as CSV: numbers to six digits, and nothing that a spreadsheet takes for a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue()


def _rows(verdict: Verdict) -> Iterator[tuple[str, str, float, Interval]]:
    yield "none", "", verdict.clean.accuracy, verdict.clean.ci
    for row in verdict.attacks:
        yield row.name, row.mode, *row.worst_so_far
    yield "worst case", "", verdict.robust.accuracy, verdict.robust.ci


def _in_mathematics(share: str) -> str:
    """A share without its sign, and with `<` and `>` as LaTeX has them."""
    number = share.removesuffix("%")
    return f"${number}$" if number[0] in "<>" else number


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(mark, mark) for mark in text)


def guarded(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else guarded(value)
