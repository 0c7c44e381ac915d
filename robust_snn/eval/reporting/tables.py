"""The table of attacks in the forms that papers and spreadsheets take."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from robust_snn.eval.scoring.verdict import Interval, Verdict
from robust_snn.gradients import parse_mode

SPECIAL = {mark: f"\\{mark}" for mark in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def latex_table(verdict: Verdict) -> str:
    """The accuracy that is left after every attack in turn, as a `tabular` for `booktabs`."""
    rows = [
        f"{_escaped(name)} & {_escaped(gradient)} & {100 * left:.1f} & "
        f"{100 * low:.1f}--{100 * high:.1f} \\\\"
        for name, gradient, left, (low, high) in _rows(verdict)
    ]
    head = ["\\begin{tabular}{llrr}", "\\toprule", "attack & gradient & left (\\%) & 95\\,\\% \\\\"]
    return "\n".join([*head, "\\midrule", *rows, "\\bottomrule", "\\end{tabular}"])


def csv_table(verdict: Verdict) -> str:
    """The same as CSV, accuracies as shares."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["attack", "gradient", "left", "low", "high"])
    for name, gradient, left, ci in _rows(verdict):
        writer.writerow([name, gradient, *(f"{share:.6g}" for share in (left, *ci))])
    return text.getvalue()


def _rows(verdict: Verdict) -> Iterator[tuple[str, str, float, Interval]]:
    yield "none", "", verdict.clean.accuracy, verdict.clean.ci
    for row in verdict.attacks:
        yield row.name, parse_mode(row.gradient).brief, *row.worst_so_far
    yield "worst case", "", verdict.robust.accuracy, verdict.robust.ci


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(mark, mark) for mark in text)
