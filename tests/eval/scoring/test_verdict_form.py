"""Verdicts that are read: what cannot be, or disagrees with its results, is refused by name."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robust_snn import InputError
from robust_snn.eval import compare
from robust_snn.eval.reporting.leaderboard import rank_runs
from robust_snn.eval.reporting.leaderboard_output import render_leaderboard
from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.finished_run import load_run
from robust_snn.eval.scoring.verdict import Tries, Verdict
from runs import finished_run
from verdicts import a_verdict

WRONG: dict[str, Any] = {
    "clean.accuracy": [1.2, -0.1, "0.9", True, None, float("nan"), [0.9]],
    "clean.ci": [[0.9], [0.95, 0.83], [0.1, 0.2], "ab", {}, [None, 1.0]],
    "clean.vote": [2, None],
    "robust.asr": [float("inf"), -1],
    "robust.ci": [[0.0, 0.1]],
    "robust.vote_ci": [[0.4, 0.5]],
    "robust.asr_ci": [[0.0, 0.1], [0.7]],
    "robust.in_every_try": [None, "all", [5], [{"tries": 5, "accuracy": 0.5, "ci": [0.6, 0.7]}]],
    "robust.known_noise": [1.5, "all"],
    "robust.known_noise_ci": [[0.9], [0.5, 0.4]],
    "data.n": [0, -5, 1.5, "100", True],
    "data.sha256": [None, 3],
    "data.calibration": [-1, "a"],
    "draws.report": [0, 2.5],
    "threat.norm": ["L3", None, ["Linf"]],
    "threat.eps": [-1, "8/255", float("nan")],
    "model.parameters": [-1, "many"],
    "model.kwargs": [[], None],
    "stochastic": ["yes", 1],
    "suite": [None, 3],
    "seed": [0.5, "0"],
    "seconds": [-1, "long"],
    "environment": [None, []],
    "environment.torch": [2.6, None],
    "environment.threads": [0, 1.5, True, "1"],
    "schema": [True, 2, "1"],
    "attacks": [None, {}, "apgd", [3]],
    "attacks.0.accuracy": [5, "0.5"],
    "attacks.0.gradient": ["bpt", 3, None],
    "attacks.0.claimed": [-0.5],
    "attacks.0.forwards": [-1, 0.5],
    "attacks.0.images": [101, -1],
    "attacks.0.name": ["square", 4],
    "diagnostics": [None, [1]],
    "diagnostics.0.status": ["passed", None],
    "diagnostics.0.value": ["big", float("nan")],
}


def changed(tree: Any, path: str, value: Any) -> Any:
    """A copy of a tree with one value changed."""
    tree = json.loads(json.dumps(tree))
    *inner, last = (int(word) if word.isdigit() else word for word in path.split("."))
    holder = tree
    for key in inner:
        holder = holder[key]
    holder[last] = value
    return tree


def undigested(run: Path) -> Any:
    """The verdict of a run as other programs write it."""
    tree = json.loads((run / "verdict.json").read_text())
    del tree["sha256"]
    return tree


@pytest.mark.parametrize("path", WRONG)
def test_a_value_that_cannot_be_is_refused(path: str) -> None:
    tree = a_verdict().to_dict()
    assert Verdict.from_dict(tree).to_dict() == tree
    for value in WRONG[path]:
        with pytest.raises(InputError, match="not a verdict of schema 1"):
            Verdict.from_dict(changed(tree, path, value))


def test_the_file_of_another_schema_is_named(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    path.write_text(json.dumps({**a_verdict().to_dict(), "schema": 0}))
    with pytest.raises(InputError, match=r"verdict\.json' is not .* 1: its schema is 0"):
        Verdict.load(path)


def test_any_value_in_any_place_is_read_or_refused() -> None:
    """Whatever stands where, there is an `InputError` or a verdict that can be shown."""
    tree, rng = a_verdict().to_dict(), random.Random(0)
    paths = [path for path, _ in leaves(tree, "")]
    values = [None, True, -1, 0, 1, 1.5, 1e308, "", "x", [], {}, [1, 2], {"a": 1}, "bptt(", 2**70]
    for _ in range(2000):
        made = changed(tree, rng.choice(paths), rng.choice(values))
        try:
            Verdict.from_dict(made).to_dict()
        except InputError as error:
            assert "\n" not in str(error)


def leaves(tree: Any, path: str) -> Any:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
        inner = f"{path}.{key}".lstrip(".")
        yield inner, value
        if isinstance(value, dict | list) and value:
            yield from leaves(value, inner)


def test_no_flipped_bit_is_read_as_another_verdict(tmp_path: Path) -> None:
    path, verdict = tmp_path / "verdict.json", a_verdict()
    verdict.save(path)
    whole = path.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), 300):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with suppress(InputError):  # white space and the digest's own name may change
            assert Verdict.load(path) == verdict


def test_names_of_later_versions_are_let_be() -> None:
    tree = a_verdict().to_dict()
    later = {**tree, "more": 1, "clean": {**tree["clean"], "more": 2}}
    assert Verdict.from_dict(later) == a_verdict()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("robust.accuracy", 0.8),
        ("clean.accuracy", 0.75),
        ("data.n", 5),
        ("draws.report", 3),
        ("attacks", []),
        ("attacks.0.accuracy", 0.6),
        ("clean.vote", 0.75),
        ("robust.vote", 0.25),
        ("robust.asr", 0.4),
        ("robust.ci", [0.2, 0.8]),
        ("robust.vote_ci", [0.0, 0.9]),
        ("robust.asr_ci", [0.1, 1.0]),
        ("clean.ci", [0.5, 1.0]),
        ("attacks.0.ci", [0.3, 0.7]),
        ("attacks.0.after", 0.75),
        ("attacks.0.after_ci", [0.1, 0.9]),
    ],
)
def test_a_verdict_is_counted_again(tmp_path: Path, path: str, value: Any) -> None:
    run = finished_run(tmp_path / "a", np.array([[1], [0], [1], [0]], bool))
    finished_run(tmp_path / "b", np.array([[1], [0], [1], [1]], bool))
    assert load_run(run)[0].robust.accuracy == 0.5
    tree = undigested(run)
    if path.endswith(("accuracy", "after")):  # else it would not lie in its interval
        tree = changed(tree, path.replace("accuracy", "ci").replace("after", "after_ci"), [0, 1])
    (run / "verdict.json").write_text(json.dumps(changed(tree, path, value)))
    name = path.replace("attacks.0", r"attacks\[0\]")
    for read in (lambda: compare(run, tmp_path / "b"), lambda: rank_runs([run])):
        with pytest.raises(InputError, match=f"{name} is .* beside it gives"):
            read()


def test_tries_are_counted_again(tmp_path: Path) -> None:
    right = np.arange(6) < np.array([[6], [0], [5], [6]])  # one of six sets of 5 keeps the third
    run = finished_run(tmp_path / "run", right)
    tree = undigested(run)
    for tries, accuracy, fault in (
        (5, (1 + 0 + 1 / 6 + 1) / 4, None),
        (5, 0.6, r"in_every_try\[0\].accuracy is 0.6"),
        (7, 0.5, "tries' must be at most the 6 draws"),
    ):
        ci = intervals.right_in_every_try(right, 5).ci
        row = {"tries": tries, "accuracy": accuracy, "ci": ci}
        (run / "verdict.json").write_text(json.dumps(changed(tree, "robust.in_every_try", [row])))
        if fault is None:
            assert load_run(run)[0].robust.in_every_try == (Tries(5, accuracy, ci),)
        else:
            with pytest.raises(InputError, match=fault):
                load_run(run)


def test_what_was_not_attacked_or_diagnosed_is_last(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("none", "silent", "failed", "good")]
    made = [
        a_verdict("adaptive-medium", attacks=()),
        a_verdict("adaptive-medium", diagnostics=()),
        a_verdict("adaptive-medium", status="fail"),
        a_verdict("adaptive-medium"),
    ]
    for name, verdict in zip("abcd", made, strict=True):  # of four networks
        verdict.model["weights_sha256"] = name
    for run, verdict in zip(runs, made, strict=True):
        run.mkdir()
        verdict.save(run / "verdict.json")
    board = rank_runs(runs)
    assert [(Path(e.run).name, e.rank, e.missing) for e in board.entries] == [
        ("good", 1, ()),
        ("failed", None, ()),
        ("none", None, ("attacked",)),
        ("silent", None, ("diagnosed",)),
    ]
    assert not any(entry.counted for entry in board.entries)
    words = list(render_leaderboard(board).columns[-1].cells)
    assert words[2:] == [
        f"not {w}; no results.npz to check it by" for w in ("attacked", "diagnosed")
    ]
