"""The page of a comparison: paired differences, attacks, diagnostics; offline, deaf to markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robust_snn import InputError
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval import Comparison, compare
from robust_snn.eval.reporting.comparison_page import (
    comparison_page,
    conclusion,
    write_comparison,
)
from runs import finished_run

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Of ten images A holds the first two, B the last seven; one check is of B alone."""
    place = np.arange(10)[:, None]
    notes = (Diagnostic("zero gradients", 1.0, "fail", "all are zero"),)
    first = finished_run(tmp_path / "a", place < 2)
    return compare(first, finished_run(tmp_path / "b", place > 2, diagnostics=notes))


def test_attacks_and_survivors_by_hand(comparison: Comparison) -> None:
    (pair,) = comparison.attacks
    assert pair.first is not None and pair.second is not None and pair.change is not None
    assert (pair.first.value, pair.second.value) == (0.2, 0.7)
    assert pair.change.value == pytest.approx(0.5) and pair.alike
    assert comparison.survivors == {"both": 0, "first": 2, "second": 7, "neither": 1}


def test_the_page_and_its_json(comparison: Comparison, tmp_path: Path) -> None:
    page = write_comparison(comparison, tmp_path / "out", "robust-snn compare a b").read_text()
    for text in ("Paired differences", "+50.0", "all are zero", "not run", "compare a b"):
        assert text in page, text
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and page.count("<svg ") == 2
    tree = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert tree["schema"] == 1 and tree["first"]["suite"] == "tiny"
    assert tree["attacks"][0]["change"][0] == pytest.approx(0.5)
    with pytest.raises(InputError, match="is no folder"):
        write_comparison(comparison, tmp_path / "out" / "comparison.json")


def test_an_attack_of_one_run_alone_has_no_difference(comparison: Comparison) -> None:
    (pair,) = comparison.attacks
    alone = replace(pair, name="<b>$", second=None, change=None, alike=False)
    page = comparison_page(replace(comparison, attacks=(alone,)))
    assert "not run" in page and "&lt;b&gt;$" in page and "<b>" not in page
    assert "Neither run has an attack" in comparison_page(replace(comparison, attacks=()))


@pytest.mark.parametrize(
    ("change", "ci", "text"),
    [
        (
            0.2,
            (0.1, 0.3),
            "B is more robust than A under these attacks, by 20.0 points (95% interval: +10.0 to",
        ),
        (-0.2, (-0.3, -0.1), "B is less robust than A under these attacks, by 20.0 points"),
        (0.2, (-0.1, 0.5), "The runs are not told apart: B's robust accuracy is +20.0 points"),
    ],
)
def test_conclusion(
    comparison: Comparison, change: float, ci: tuple[float, float], text: str
) -> None:
    rows = [replace(row, change=change, ci=ci) for row in comparison.differences]
    alike = replace(comparison, differences=tuple(rows), unlike=False)
    assert conclusion(alike).startswith(text)
    if not text.startswith("The runs"):
        told = conclusion(replace(alike, unlike=True))
        assert "which tells little" in told and "robust than" not in told
