"""Leaderboards: who may be ranked with whom, and who gets no rank."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from browser import after_script, needs_chromium
from robust_snn import InputError, cli
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.reporting.leaderboard import rank_runs
from robust_snn.eval.reporting.leaderboard_output import (
    leaderboard_csv,
    leaderboard_page,
    render_leaderboard,
    write_leaderboard,
)
from robust_snn.eval.scoring.gradient_checks import UNFOLLOWED
from robust_snn.eval.scoring.verdict import Clean, Robust
from verdicts import a_verdict

pytest.importorskip("jinja2")


def save(folder: Path, name: str, robust: float = 0.3, clean: float = 0.9, **changes: Any) -> Path:
    verdict = a_verdict(**{"suite": "tested", **changes})
    verdict = replace(
        verdict,
        model={**verdict.model, "name": name, "weights_sha256": name},
        robust=Robust(robust, (robust - 0.1, robust + 0.1), robust, 0.5),
        clean=Clean(clean, (clean - 0.05, clean + 0.05), clean),
    )
    run = folder / name.strip("<>=/")
    run.mkdir()
    verdict.save(run / "verdict.json")
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [
        save(tmp_path, "weak", 0.1),
        save(tmp_path, "strong", 0.4, status="warn"),
        save(tmp_path, "masked", 0.8, status="fail"),
        save(tmp_path, "even", 0.4, clean=0.95),
    ]


def test_a_gradient_that_no_attack_followed_costs_no_rank(tmp_path: Path) -> None:
    note = Diagnostic("zero gradients under own", 1.0, "fail", f"all are zero{UNFOLLOWED}")
    (entry,) = rank_runs([save(tmp_path, "own", diagnostics=(note,))]).entries
    assert (entry.rank, entry.failed, entry.warned) == (1, (), (note.name,))


def test_order(runs: list[Path]) -> None:
    board = rank_runs(runs)
    assert [(entry.rank, entry.model) for entry in board.entries] == [
        (1, "even"),
        (2, "strong"),
        (3, "weak"),
        (None, "masked"),
    ]
    assert board.entries[3].failed == ("noise",) and board.entries[1].warned == ("noise",)
    assert rank_runs([runs[0] / "verdict.json"]).entries[0].model == "weak"


def test_a_first_look_has_no_rank(tmp_path: Path) -> None:
    runs = [save(tmp_path, "looked-at", 0.9, suite="quick(steps=5)"), save(tmp_path, "other", 0.5)]
    board = rank_runs(runs)
    assert [(e.rank, e.model) for e in board.entries] == [(1, "other"), (None, "looked-at")]
    assert board.entries[1].missing == ("attacked beyond a first look",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threat": {"norm": "L2", "eps": 8 / 255}}, "different threat models .norm Linf and L2"),
        ({"threat": {"norm": "Linf", "eps": 4 / 255}}, "different threat models .eps"),
        (
            {"data": {"name": "other", "split": "test", "n": 9, "sha256": "ef" * 32}},
            "attack different images .100 of images.tar and 9 of other",
        ),
    ],
)
def test_what_may_not_be_ranked_together(
    tmp_path: Path, runs: list[Path], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        rank_runs([*runs, save(tmp_path, "other", **change)])


def test_wrong_runs(tmp_path: Path, runs: list[Path]) -> None:
    for wrong, message in (
        ([], "at least one run"),
        ([runs[0], runs[0]], "is given twice"),
        ([tmp_path / "none"], "cannot read the verdict"),
    ):
        with pytest.raises(InputError, match=message):
            rank_runs(wrong)
    with pytest.raises(InputError, match="cannot write the leaderboard"):
        write_leaderboard(rank_runs(runs), html=tmp_path / "absent" / "board.html")


def test_forms(tmp_path: Path, runs: list[Path]) -> None:
    (runs[3] / "report.html").write_text("")
    board = rank_runs(runs)
    forms = {"html": "board.html", "json_file": "board.json", "csv_file": "board.csv"}
    write_leaderboard(board, **{key: tmp_path / name for key, name in forms.items()})
    html = (tmp_path / "board.html").read_text()
    assert 'href="even/report.html"' in html and html.count("<tr>") == 5
    tree = json.loads((tmp_path / "board.json").read_text())
    assert tree["threat"]["norm"] == "Linf" and tree["entries"][3]["rank"] is None
    rows = list(csv.DictReader(io.StringIO((tmp_path / "board.csv").read_text())))
    assert [row["model"] for row in rows] == ["even", "strong", "weak", "masked"]
    assert float(rows[0]["robust"]) == 0.4 and rows[3]["failed"] == "noise"
    console = Console(width=200, record=True)
    console.print(render_leaderboard(board))
    assert "failed: noise" in console.export_text()


def test_hostile_names(tmp_path: Path) -> None:
    board = rank_runs([save(tmp_path, "<script>"), save(tmp_path, "=1+2", 0.2)])
    html = leaderboard_page(board, tmp_path)
    assert html.count("<script>") == 1 and "&lt;script&gt;" in html
    assert "\n2,'=1+2," in leaderboard_csv(board)


def test_command(tmp_path: Path, runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["leaderboard", *map(str, runs), "--html", str(tmp_path / "board.html")]
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 0 and (tmp_path / "board.html").exists()
    other = save(tmp_path, "far", threat={"norm": "L2", "eps": 0.5})
    with pytest.raises(SystemExit) as left:
        cli.main(["leaderboard", str(runs[0]), str(other)])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@needs_chromium
@pytest.mark.slow
def test_sorting_in_a_browser(tmp_path: Path, runs: list[Path]) -> None:
    script = """
    const names = () => [...page.querySelectorAll("tbody th")].map((t) => t.firstChild.data).join();
    const buttons = page.querySelectorAll("th button");
    const sort = () => [...page.querySelectorAll("th[aria-sort]")].map((t) => t.ariaSort).join();
    const seen = [names()];
    for (const column of [2, 2, 1, 0]) { buttons[column].click(); seen.push(names(), sort()); }
    return seen.join(" ");
    """
    assert after_script(
        leaderboard_page(rank_runs(runs), tmp_path), tmp_path, 1280, script
    ).split() == [
        "even,strong,weak,masked",
        "weak,even,strong,masked",
        "ascending",
        "masked,even,strong,weak",
        "descending",
        "even,masked,strong,weak",
        "ascending",
        "even,strong,weak,masked",
        "ascending",
    ]
