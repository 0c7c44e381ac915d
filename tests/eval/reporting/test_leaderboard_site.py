"""The site of a leaderboard: who is ranked with whom, and what is best known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from browser import after_script, needs_chromium
from robust_snn import InputError, cli
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.reporting.leaderboard import rank_runs
from robust_snn.eval.reporting.leaderboard_site import write_site
from robust_snn.eval.scoring.verdict import Certified, Verdict
from runs import finished_run

pytest.importorskip("jinja2")
FIRST = np.array([1, 1, 0, 0, 1, 1], bool)[:, None]
SECOND = np.array([1, 0, 1, 0, 1, 1], bool)[:, None]
MODEL = {"kwargs": {}, "weights_sha256": "ab", "parameters": 1}
OTHER = {**MODEL, "name": "<i>", "weights_sha256": "c"}
PASSED = (Diagnostic("noise", 0.0, "pass", "none"),)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [
        finished_run(tmp_path / "a", FIRST, model={**MODEL, "name": "net"}, diagnostics=PASSED),
        finished_run(tmp_path / "b", SECOND, model={**MODEL, "name": "net"}, diagnostics=PASSED),
        finished_run(tmp_path / "c", FIRST, model=OTHER, diagnostics=PASSED),
        finished_run(tmp_path / "d", FIRST, threat={"norm": "L2", "eps": 0.5}),
    ]


def test_best_known_is_the_lowest_of_every_image(runs: list[Path]) -> None:
    board = rank_runs(runs[:3])
    best = {entry.run: entry.best for entry in board.entries}[str(runs[0])]
    assert (best.accuracy, best.runs, best.left) == (0.5, 2, (0, 4, 5))
    assert best.others == {str(runs[1]): (1,)}


def test_networks_are_ranked_by_what_is_best_known(runs: list[Path]) -> None:
    board = rank_runs(runs[:3])
    assert {entry.robust for entry in board.entries} == {4 / 6}
    assert [(entry.rank, entry.run) for entry in board.entries] == [
        (1, str(runs[2])),
        (2, str(runs[0])),
        (2, str(runs[1])),
    ]


def test_the_same_weights_in_another_structure_are_another_network(tmp_path: Path) -> None:
    """Four steps are not eight, and who gave arguments by another road means the same network."""
    told = [("ab", {}), ("ab", {"T": 4}), ("cd", {}), (None, {"T": 4}), (None, {"T": 8})]
    folders = [
        finished_run(
            tmp_path / str(at),
            np.roll(FIRST, at, 0),
            model={**MODEL, "name": "net", "kwargs": kwargs, "structure_sha256": structure},
            diagnostics=PASSED,
        )
        for at, (structure, kwargs) in enumerate(told)
    ]
    best = {entry.run: entry.best for entry in rank_runs(folders).entries}
    assert [best[str(folder)].runs for folder in folders] == [2, 2, 1, 1, 1]


def test_a_weak_run_without_predictions_wins_nothing(tmp_path: Path) -> None:
    model = {**MODEL, "name": "net"}
    strong = finished_run(tmp_path / "strong", FIRST & SECOND, model=model, diagnostics=PASSED)
    weak = finished_run(tmp_path / "weak", FIRST | SECOND, model=model, diagnostics=PASSED)
    (weak / "results.npz").unlink()
    other = finished_run(tmp_path / "other", FIRST, model=OTHER, diagnostics=PASSED)
    board = rank_runs([weak, strong, other])
    assert [(entry.rank, entry.run) for entry in board.entries] == [
        (1, str(other)),
        (2, str(strong)),
        (2, str(weak)),
    ]


def test_certificates_that_nobody_checked_are_not_shown(tmp_path: Path) -> None:
    proven = Certified(0.5, (0.2, 0.8), 0.5, 6, 0.1)
    run = finished_run(tmp_path / "a", FIRST, diagnostics=PASSED, certified=proven)
    assert rank_runs([run]).entries[0].certified == 0.5
    (run / "hashes.json").write_text("{}")  # a submission
    assert rank_runs([run]).entries[0].certified is None


def test_networks_that_are_equal_share_a_rank(tmp_path: Path) -> None:
    rows = {"a": FIRST, "b": SECOND, "c": FIRST & SECOND}
    runs = [
        finished_run(
            tmp_path / name,
            right,
            model={**MODEL, "name": name, "weights_sha256": name},
            diagnostics=PASSED,
        )
        for name, right in rows.items()
    ]
    assert [entry.rank for entry in rank_runs(runs).entries] == [1, 1, 3]


def test_known_noise_is_a_threat_of_its_own(runs: list[Path], tmp_path: Path) -> None:
    known = {"norm": "Linf", "eps": 0.1, "noise": "known"}
    other = finished_run(tmp_path / "known", FIRST, threat=known, diagnostics=PASSED)
    html = write_site([*runs[:2], other], tmp_path / "site").read_text()
    assert html.count("<option>") == 2 and "known noise" in html


def test_site(runs: list[Path], tmp_path: Path) -> None:
    first = write_site(runs, tmp_path / "site")
    html = first.read_text()
    assert html.count("<option>") == 2 and html.count('<tr data-threat="Linf') == 3
    assert "robust-snn submit" in html and "&lt;i&gt;" in html and "<i>" not in html
    assert html.count('data-value="0.5">50.0%') == 2  # best known of one network, twice
    pages = sorted((tmp_path / "site" / "entries").glob("*/index.html"))
    assert len(pages) == 4 and all((p.parent / "verdict.json").exists() for p in pages)
    text = next(p for p in pages if p.parent.name.endswith("a")).read_text()
    assert f"Left here, and broken by {runs[1]}: 1." in text and "3 of 6 images" in text


def test_only_what_is_verified_counts(runs: list[Path], tmp_path: Path) -> None:
    (runs[1] / "hashes.json").write_text("{}")  # a submission that nobody verified
    html = write_site(runs, tmp_path / "site").read_text()
    assert html.count('data-value="0.5">50.0%') == 0 and "<td>no</td>" in html
    board = rank_runs(runs[:3])
    assert [(entry.rank, entry.missing) for entry in board.entries] == [
        (1, ()),
        (1, ()),
        (None, ("verified",)),
    ]
    assert board.entries[-1].run == str(runs[1])


@pytest.mark.parametrize("how", ["copied", "again", "submitted", "without predictions"])
def test_one_run_counts_once(runs: list[Path], tmp_path: Path, how: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    if how == "again":  # on another day
        verdict = Verdict.load(other / "verdict.json")
        replace(verdict, seconds=9.0, environment={"python": "x"}).save(other / "verdict.json")
    if how == "submitted":
        (other / "hashes.json").write_text("{}")
    if how == "without predictions":
        (other / "results.npz").unlink()
        (runs[0] / "results.npz").unlink()
    with pytest.raises(InputError, match="'.*other' and '.*a' are one run"):
        rank_runs([runs[0], runs[1], other])


def test_wrong_places_and_options(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is no folder; name another place for the site"):
        write_site(runs, tmp_path / "file")
    words = ["--site", str(tmp_path / "s"), "--html", "x.html"]
    with pytest.raises(SystemExit) as left:
        cli.main(["leaderboard", str(runs[0]), *words])
    assert left.value.code == 2 and not (tmp_path / "s").exists()


@needs_chromium
@pytest.mark.slow  # starts a browser
def test_filters_in_a_browser(runs: list[Path], tmp_path: Path) -> None:
    script = """
    const select = page.querySelector("select"), counts = [];
    for (const option of [...select.options].map((o) => o.value)) {
      select.value = option; select.dispatchEvent(new Event("change"));
      counts.push([...page.querySelectorAll("tr[data-threat]")].filter((r) => !r.hidden).length);
    }
    return counts.join();
    """
    html = write_site(runs, tmp_path / "site").read_text()
    assert after_script(html, tmp_path, 1280, script) == "4,3,1"
