"""Tables for papers and spreadsheets."""

from __future__ import annotations

import pytest

from robust_snn.eval.reporting.html import render_page
from robust_snn.eval.reporting.tables import csv_table, latex_table
from robust_snn.eval.reporting.terminal import sentence
from robust_snn.eval.scoring.larger_budget import LargerBudget
from robust_snn.eval.scoring.verdict import Robust
from verdicts import a_verdict


def test_tables() -> None:
    verdict = a_verdict(attacks=["apgd_ce", "50%&square"])
    latex = latex_table(verdict).splitlines()
    assert latex[0] == r"\begin{tabular}{llrr}" and latex[-1] == r"\end{tabular}"
    assert latex[4].startswith(r"none &  & 90.0 & 83.0--95.0 \\")
    assert latex[5].startswith(r"apgd\_ce & bptt") and r"50\%\&square" in latex[6]
    rows = csv_table(verdict).splitlines()
    assert rows[0] == "attack,gradient,left,low,high" and rows[1] == "none,,0.9,0.83,0.95"
    assert len(rows) == 5 and rows[4].startswith("worst case,,0.35")


@pytest.mark.parametrize(("robust", "said"), [(0.35, True), (0.0, False)])
def test_a_larger_budget_breaks_nothing_more_where_nothing_is_left(
    robust: float, said: bool
) -> None:
    verdict = a_verdict(
        larger_budget=LargerBudget(10, 0.0, (0.0, 0.0)), robust=Robust(robust, (0.0, 0.5), 0, 0.9)
    )
    assert ("times the budget" in sentence(verdict)) == said
    assert ("times the budget" in render_page(verdict)) == said
