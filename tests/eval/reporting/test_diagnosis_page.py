"""The page of a diagnosis: complete, offline, deaf to markup; and what it concludes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from diagnoses import a_diagnosis
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.reporting.diagnosis_page import (
    CHECKS,
    conclusion,
    diagnosis_page,
    paragraph,
    write_diagnosis,
)

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

EVERY = dict.fromkeys(CHECKS, ((0.0, 1.0), (1.0, 0.5)))
ABOUT = {"model": "net", "data": "digits", "command": "robust-snn diagnose --out 'a b'"}


def test_all_that_was_found_is_on_the_page(tmp_path: Path) -> None:
    page = write_diagnosis(a_diagnosis("fail"), ABOUT, tmp_path / "new" / "folder").read_text()
    for text in ("first", "said so", "12.5%", "75.0%", "vanishes on 40% of images", "Over draws"):
        assert text in page
    assert page.count("<svg ") == 5
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    tree = json.loads((tmp_path / "new" / "folder" / "diagnosis.json").read_text())
    assert tree["schema"] == 1 and tree["model"] == "net"
    assert tree["cosines"] == [[1.0, None], [None, 1.0]]


def test_what_was_not_measured_is_said() -> None:
    bare = a_diagnosis(
        notes=(Diagnostic("EOT convergence", 1.0, "pass", "the victim is deterministic"),),
        results=(),
        compared=(),
        cosines=(),
        curves={},
        margin=None,
        missing=(("Margin along the gradient", "out of <memory>"),),
    )
    page = diagnosis_page(bare, ABOUT)
    assert "<svg" not in page
    for line in (
        "Margin along the gradient: out of &lt;memory&gt;",
        "Agreement of gradient modes: the network takes fewer than two",
        "Over draws: the victim is deterministic",
        "Over eps: not measured",
    ):
        assert f"<li>{line}</li>" in page
    assert "What was not measured" not in diagnosis_page(a_diagnosis(curves=EVERY), ABOUT)


def test_names_are_text() -> None:
    hostile = "<script>alert(1)</script>"
    note = Diagnostic(hostile, 1.0, "fail", hostile)
    page = diagnosis_page(a_diagnosis(notes=(note,)), dict.fromkeys(ABOUT, hostile))
    assert "<script" not in page and page.count("&lt;script&gt;") >= 6


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("pass", "All 2 checks passed: no sign of a masked gradient."),
        ("warn", "No check failed; 1 of 2 warn"),
        ("fail", "1 of 2 checks failed (first): the gradient misleads attacks"),
    ],
)
def test_conclusion(status: str, text: str) -> None:
    found = a_diagnosis(status)
    assert conclusion(found).startswith(text)
    quoted = paragraph(found, ABOUT)
    assert text in quoted and "eps = 8/255" in quoted
    assert "short attacks with bptr left the fewest images (12.5%)" in quoted
    assert quoted.endswith("the judged mode left 75.0%.")
