"""Runs that grow: more of the same images go on from what is there, and nothing else may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from robust_snn import InputError, evaluate
from robust_snn.eval import AttackSpec, Draws, Progress, Suite
from robust_snn.eval.execution.report_data import ReportData
from robust_snn.eval.execution.run_folder import RunFolder
from tests.victims import tiny_victim, told_by

ROWS = (
    AttackSpec("pgd", "robust_snn", "pgd", steps=2),
    AttackSpec("square", "autoattack", "square", noise="frozen", steps=4),
)
SUITE = Suite("tiny", ROWS, draws=Draws(2, 3))
VICTIM = tiny_victim(True)
IMAGES, LABELS = told_by(VICTIM, 11)
OTHERS = torch.cat([IMAGES[1:], IMAGES[:1]])


def run(out: Path, n: int, images: torch.Tensor = IMAGES, **changes: Any) -> dict[str, Any]:
    """The verdict of a run over the first `n` images, without its times."""
    of = {"suite": SUITE, "eps": 0.1, "batch_size": 4, **changes}
    verdict = evaluate(VICTIM, images[:n], LABELS[:n], out=out, **of).to_dict()
    return {
        **verdict,
        "seconds": 0,
        "attacks": [row | {"seconds": 0} for row in verdict["attacks"]],
    }


def pieces(out: Path) -> dict[str, bytes]:
    found = out.glob("pieces/*/*.npz")
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def test_a_run_that_grows_is_a_fresh_one(tmp_path: Path) -> None:
    """From one shard and a half to three: the whole ones are not made again."""
    fresh = run(tmp_path / "fresh", 11)
    run(tmp_path / "grown", 6)
    before = pieces(tmp_path / "grown")
    assert run(tmp_path / "grown", 11) == fresh
    after = pieces(tmp_path / "grown")
    assert {name for name in before if "00000" in name} and len(after) > len(before)
    assert all(after[name] == before[name] for name in before if "00000" in name)
    evidence = [ReportData.load(tmp_path / name / "evidence.npz") for name in ("fresh", "grown")]
    assert all(one is not None and len(one.labels) == 11 for one in evidence)


@pytest.mark.parametrize(
    ("n", "change", "message"),
    [
        (6, {}, "data.n: 8, now 6"),
        (11, {"images": OTHERS}, "data.n: 8, now 11; data.sha256"),
        (8, {"images": OTHERS}, "configuration .*data.sha256"),
        (11, {"seed": 1}, "configuration .seed: 0, now 1.;"),
        (11, {"batch_size": 3}, "batch_size: 4, now 3"),
    ],
)
def test_nothing_else_changes(tmp_path: Path, n: int, change: dict[str, Any], message: str) -> None:
    run(tmp_path, 8)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(InputError, match=message):
        run(tmp_path, n, **change)
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_that_grew_meanwhile_ends_before_its_verdict(tmp_path: Path) -> None:
    def config(n: int) -> dict[str, Any]:
        digests = {"digests": ["a", "b", "c"][:n], "labels": [0, 1, 2][:n]}
        return {"data": {"name": "x", "n": n, "sha256": f"of {n}"}, "images": digests}

    small = RunFolder(tmp_path, config(2))
    assert RunFolder(tmp_path, config(3)).address == small.address
    with pytest.raises(InputError, match="data.n: 3, now 2"):
        small.conclude(lambda path: pytest.fail("it wrote a verdict"))


@pytest.mark.parametrize(
    ("first", "n", "batch_size", "done"), [(4, 8, 4, 4 / 8), (6, 11, 4, 4 / 11), (5, 8, 8, 0.0)]
)
def test_what_is_made_again_counts_as_left(
    tmp_path: Path, first: int, n: int, batch_size: int, done: float
) -> None:
    """Results of a shard that has more images since looked finished by their names."""
    run(tmp_path, first, batch_size=batch_size, report=False)
    seen: list[Progress] = []
    run(tmp_path, n, batch_size=batch_size, report=False, progress=seen.append)
    begun = [now.done for now in seen if now.doing.startswith("clean images")]
    assert begun[0] == pytest.approx(done)
