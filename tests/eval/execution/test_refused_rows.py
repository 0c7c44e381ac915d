"""Suites finish on networks that do not take every gradient mode, and name what did not run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from picky import Picky, pictures, reaches_all, reaches_nothing, refuses_rates
from robust_snn import InputError, Victim, evaluate
from robust_snn.eval import AttackSpec, Draws, Suite
from robust_snn.eval.reporting.html import write_report
from robust_snn.eval.reporting.terminal import render_verdict

EPS = 0.05
BPTT = AttackSpec("with-bptt", "robust_snn", "pgd", gradient="bptt", steps=2)
BPTR = AttackSpec("with-bptr", "robust_snn", "pgd", gradient="bptr", steps=2)
STEPS = AttackSpec("of-steps", "robust_snn", "pgd", steps=2, options={"loss": "tet"})
ANN = AttackSpec("ann", "robust_snn", "transfer", steps=2, options={"source": "activation(relu)"})
SQUARE = AttackSpec("square", "autoattack", "square", noise="frozen", steps=4)


class Detached(Picky):
    """Its gradient does not reach the image, and nothing crosses its arrays."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.from_numpy(x.detach().numpy()))


def suite(*rows: AttackSpec, budget: str | None = None) -> Suite:
    return Suite("rows", rows, draws=Draws(1, 1), budget=budget)


def test_a_refused_row_is_left_out_and_named(tmp_path: Path) -> None:
    net = Picky(refuses_rates)
    images, labels = pictures(net, 6)
    asked = suite(BPTT, BPTR, STEPS, ANN)
    verdict = evaluate(Victim(net), images, labels, suite=asked, out=tmp_path, eps=EPS)
    assert [row.name for row in verdict.attacks] == ["with-bptt"]
    notes = {note.name: note for note in verdict.diagnostics}
    for name, why in (("with-bptr", "choose bptt"), ("of-steps", "every step"), ("ann", "Picky")):
        note = notes[f"not run: {name}"]
        assert note.status == "warn" and why in note.why
    assert notes["reached neurons under bptt"].status == "warn"
    assert "reached neurons under own" in notes
    shown = "".join(str(part) for part in render_verdict(verdict).renderables)
    page = write_report(tmp_path).read_text()
    assert all("not run: with-bptr" in text and "choose bptt" in text for text in (shown, page))


@pytest.mark.parametrize(
    ("rows", "fails"), [((BPTR, SQUARE), True), ((BPTT, BPTR, SQUARE), False), ((SQUARE,), False)]
)
def test_a_suite_whose_gradients_cannot_be_followed_fails(
    tmp_path: Path, rows: tuple[AttackSpec, ...], fails: bool
) -> None:
    """What Square alone leaves was a result, with a warning about a row."""
    net = Picky(refuses_rates)
    of = Victim(net), *pictures(net, 4)
    verdict = evaluate(*of, suite=suite(*rows), out=tmp_path, eps=EPS, report=False)
    failed = [note.name for note in verdict.diagnostics if note.status == "fail"]
    assert ("attacks along gradients" in failed) == fails


def test_a_suite_without_a_row_that_runs_is_refused_before_anything(tmp_path: Path) -> None:
    net = Picky(refuses_rates)
    images, labels = pictures(net, 4)
    with pytest.raises(InputError, match="with-bptr: bptr cannot be used.*of-steps: "):
        evaluate(Victim(net), images, labels, suite=suite(BPTR, STEPS), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mode_that_reaches_nothing_is_not_named(tmp_path: Path) -> None:
    net = Picky(reaches_nothing)
    images, labels = pictures(net, 6)
    asked = suite(BPTT, BPTR, ANN, SQUARE)
    verdict = evaluate(Victim(net), images, labels, suite=asked, out=tmp_path, eps=EPS)
    assert [row.gradient for row in verdict.attacks] == ["own", "own", "own"]
    notes = {note.name: note for note in verdict.diagnostics}
    assert "activation(relu) reaches no neuron" in notes["not run: ann"].why
    assert notes["reached neurons under own"].status == "fail"
    assert not [name for name in notes if name.startswith("agreement")]


@pytest.mark.parametrize(("kind", "attacks"), [(Picky, 4), (Detached, 1)])
def test_a_probe_tries_what_there_is(kind: type[Picky], attacks: int, tmp_path: Path) -> None:
    net = kind(refuses_rates)
    images, labels = pictures(net, 6)
    asked = suite(SQUARE, budget="small")
    verdict = evaluate(Victim(net), images, labels, suite=asked, out=tmp_path, eps=EPS)
    assert len(verdict.attacks) == attacks and verdict.attacks[-1].name == "square"
    notes = {note.name: note for note in verdict.diagnostics}
    assert any(name.startswith("not tried: ") and "assg" in name for name in notes)
    assert notes["probe"].status == ("pass" if kind is Picky else "fail")
    if kind is Picky:
        assert "own gradient against others" in notes
        assert all("assg" not in row.gradient for row in verdict.attacks)
    else:
        with pytest.raises(InputError, match="no gradient of Detached reaches"):
            out = tmp_path / "none"
            evaluate(Victim(net), images, labels, suite=suite(budget="small"), out=out, eps=EPS)


@pytest.mark.pages
@pytest.mark.parametrize(
    "broken", ["spiking_activity", "gradient_cosines", "margin_curve", "measure"]
)
def test_what_a_page_cannot_show_costs_no_verdict(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no such layer")

    module = importlib.import_module("robust_snn.eval.execution.report_measures")
    monkeypatch.setattr(module, broken, fails)
    net = Picky(reaches_all)
    images, labels = pictures(net, 4)
    verdict = evaluate(Victim(net), images, labels, suite=suite(BPTT), out=tmp_path, eps=EPS)
    assert verdict.attacks and (tmp_path / "verdict.json").exists()
    assert (tmp_path / "evidence.npz").exists() == (broken != "measure")
    page = (tmp_path / "report.html").read_text()
    assert "How robust" in page
    assert ("no such layer</li>" if broken != "measure" else "holds no record") in page


@pytest.mark.pages
def test_a_page_without_its_libraries_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    net = Picky(reaches_all)
    images, labels = pictures(net, 4)
    evaluate(Victim(net), images, labels, suite=suite(BPTT), out=tmp_path, eps=EPS)
    assert "robust-snn[report]" in caplog.text and not (tmp_path / "report.html").exists()
