"""Suites with a budget, and the signs of masking that every verdict names."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_snn import InputError, evaluate
from robust_snn.attacks import BUDGETS
from robust_snn.eval import AttackSpec, Draws, Suite, Verdict, load_suite
from robust_snn.eval.protocol.suite_files import parse_suite
from robust_snn.eval.scoring import verdict_checks as diagnostics
from robust_snn.utils.checked_files import read_record, write_record
from victims import tiny_victim, told_by

EPS = 0.1
module = importlib.import_module("robust_snn.attacks.mode_ranking")
suites = importlib.import_module("robust_snn.eval.execution.adaptive_suite")
SQUARE = AttackSpec("square", "autoattack", "square", noise="frozen", steps=4)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe of two modes, and a budget of few steps."""
    few = ("bptr", "bptt")
    monkeypatch.setattr(module, "registered_modes", lambda: [*map(module.parse_mode, few)])
    rows = (("apgd", "ce", 0, 3, 1), ("sapgd", "ce", "assg", 3, 1), ("apgd", "tet", 1, 2, 1))
    monkeypatch.setitem(BUDGETS, "small", rows)


@pytest.mark.parametrize("noisy", [False, True])
def test_a_probe_chooses_the_attacks(noisy: bool, tmp_path: Path, brief: None) -> None:
    victim = tiny_victim(noisy)
    images, labels = told_by(victim, 10)
    suite = Suite("a", (SQUARE,), draws=Draws(4, 5), budget="small")
    verdict = evaluate(victim, images, labels, suite=suite, out=tmp_path, eps=EPS)
    assert verdict.data["n"] == 8  # two chose the attacks
    names = [row.name for row in verdict.attacks]
    assert names == [*["mean-field"][: int(noisy)], "apgd-ce-best", "apgd-tet-second", "square"]
    notes = {note.name: note for note in verdict.diagnostics}
    assert "bptr" in notes["probe"].why and "white-box against black-box" in notes
    (tmp_path / "verdict.json").unlink()
    probed = (tmp_path / "probe.json").read_text()
    again = evaluate(victim, images, labels, suite=suite, out=tmp_path, eps=EPS)
    assert (tmp_path / "probe.json").read_text() == probed
    assert again.attacks == verdict.attacks and again.diagnostics == verdict.diagnostics
    same, other = (images[:8], labels[:8]), (images[:2], labels[:2])
    with pytest.raises(InputError, match="calibration"):
        evaluate(victim, *same, suite=suite, out=tmp_path, eps=EPS, calibration=other)


def test_images_of_the_callers_choice_choose_the_attacks(tmp_path: Path, brief: None) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 6)
    suite = Suite("a", (), draws=Draws(4, 5), budget="small")
    chosen = images[4:], labels[4:]
    verdict = evaluate(
        victim, images[:4], labels[:4], suite=suite, out=tmp_path, eps=EPS, calibration=chosen
    )
    assert verdict.data["n"] == 4
    record = json.loads((tmp_path / "probe.json").read_text())
    assert [row["name"] for row in record["rows"]] == ["apgd-ce-best", "apgd-tet-second"]


@pytest.mark.parametrize("part", ["choose_bridge", "fitting_temperature"])
def test_a_probe_that_does_not_fit_takes_fewer_images(
    part: str, tmp_path: Path, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, tried = tiny_victim(False), []
    images, labels = told_by(victim, 8)
    whole = getattr(suites, part)

    def crowded(seen: Any, x: torch.Tensor, *rest: Any) -> Any:
        tried.append(len(x))
        if len(x) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return whole(seen, x, *rest)

    monkeypatch.setattr(suites, part, crowded)
    suite = Suite("a", (), draws=Draws(4, 5), budget="small")
    chosen = images[4:], labels[4:]
    evaluate(victim, images[:4], labels[:4], suite=suite, out=tmp_path, eps=EPS, calibration=chosen)
    assert tried == [4, 2]


@pytest.mark.slow
def test_a_probe_that_is_damaged_or_another_runs_is_made_again(tmp_path: Path, brief: None) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 6)
    chosen, suite = (images[4:], labels[4:]), Suite("a", (), draws=Draws(4, 5), budget="small")

    def run() -> Verdict:
        of: dict[str, Any] = {"suite": suite, "out": tmp_path, "eps": EPS, "calibration": chosen}
        return evaluate(victim, images[:4], labels[:4], **of)

    verdict, path = run(), tmp_path / "probe.json"
    sound, record = path.read_text(), read_record(path)

    def timeless() -> dict[str, Any]:
        """The record but for the seconds that the probe took."""
        record = read_record(path)
        return {**record, "cost": {**record["cost"], "seconds": 0.0}}

    first = timeless()
    write_record(tmp_path / "other.json", {**record, "address": "another run"})
    other = (tmp_path / "other.json").read_text()
    for damage in (sound.replace("apgd-tet-second", "apgd-tet-third"), other):
        path.write_text(damage)
        assert run().attacks == verdict.attacks
        assert timeless() == first


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_suite_per_budget_ships(budget: str) -> None:
    assert load_suite(f"adaptive-{budget}").budget == budget
    assert load_suite("adaptive").name == "adaptive-medium"


def test_what_a_suite_with_a_budget_refuses(tmp_path: Path) -> None:
    text = "{name: a, budget: %s}"
    assert parse_suite(text % "small", "a").attacks == ()
    with pytest.raises(InputError, match="'small'"):
        parse_suite(text % "smal", "a")
    with pytest.raises(InputError, match="budget"):
        load_suite("adaptive-small").override(steps=3)
    victim = tiny_victim(False)
    images, labels = told_by(victim, 1)
    with pytest.raises(InputError, match="2 images"):
        evaluate(victim, images, labels, suite="adaptive", out=tmp_path / "x", eps=EPS)


@pytest.mark.parametrize(
    ("left", "status"),
    [
        ([(0.9, True), (0.5, True), (0.49, False)], ["pass"]),
        ([(0.9, True), (0.5, False), (0.1, True)], ["fail"]),
        ([(0.9, True), (0.5, True), (0.43, False)], ["warn"]),
        ([(0.9, True), (0.5, False)], []),
        ([(0.9, True), (0.5, True)], []),
    ],
)
def test_black_box_attacks_must_not_win(left: list[tuple[float, bool]], status: list[str]) -> None:
    assert [note.status for note in diagnostics.black_box(left, 100)] == status
    softened = [{"fail": "warn", "warn": "pass"}.get(each, each) for each in status]
    assert [note.status for note in diagnostics.black_box(left, 100, True)] == softened


@pytest.mark.parametrize(("others", "expected"), [((), "fail"), (("bptt",), "pass")])
def test_a_masked_gradient_shows(tmp_path: Path, others: tuple[str, ...], expected: str) -> None:
    """It fails alone; beside a gradient that moves the margin it is a statement."""
    victim = tiny_victim(False)
    images, labels = told_by(victim, 4)
    dead = "bptt(surrogate=triangle(gamma=0.0001))"
    rows = tuple(
        AttackSpec(mode, "autoattack", "apgd-ce", gradient=mode, steps=2)
        for mode in (dead, *others)
    )
    verdict = evaluate(
        victim, images, labels, suite=Suite("a", rows, draws=Draws(1, 1)), out=tmp_path, eps=EPS
    )
    status = {note.name: note.status for note in verdict.diagnostics}
    assert status[f"silent neurons under {dead}"] == expected
    assert torch.isfinite(torch.tensor([note.value for note in verdict.diagnostics])).all()
