"""Adversarial images that a run keeps: the worst of every image, all of them, or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robust_snn import InputError, evaluate
from robust_snn.eval import AttackSpec, Draws, Predictions, Suite
from robust_snn.eval.execution.kept_versions import read_versions
from robust_snn.eval.execution.report_data import ReportData
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.submission import load_submission, submit
from tests.victims import tiny_victim, told_by

EPS = 0.004
ROWS = (
    AttackSpec("pgd", "robust_snn", "pgd", steps=2),
    AttackSpec("square", "autoattack", "square", noise="frozen", steps=4),
    AttackSpec("apgd", "robust_snn", "apgd", steps=2),
    AttackSpec("again", "robust_snn", "square", steps=4, options={"start": "worst"}),
)
SUITE = Suite("tiny", ROWS, draws=Draws(2, 3))
VICTIM = tiny_victim(False)
IMAGES, LABELS = told_by(VICTIM, 7)


def run(out: Path, keep: str = "worst") -> dict[str, Any]:
    """The verdict of a run, without its times."""
    of: dict[str, Any] = {"suite": SUITE, "eps": EPS, "batch_size": 4, "keep": keep}
    verdict = evaluate(VICTIM, IMAGES, LABELS, out=out, **of).to_dict()
    rows = [row | {"seconds": 0} for row in verdict["attacks"]]
    return {**verdict, "seconds": 0, "attacks": rows}


def files(out: Path) -> dict[str, bytes]:
    found = sorted(out.glob("versions/*/*.npz"))
    return {str(path.relative_to(out / "versions")): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kept")
    verdicts = [run(place / keep, keep) for keep in ("worst", "all", "none")]
    assert verdicts[0] == verdicts[1] == verdicts[2]
    return place


def test_what_is_kept(kept: Path, tmp_path: Path) -> None:
    """Of the worst only those that the predictions are of, once; they can be submitted."""
    by = Predictions.load(kept / "worst").by
    worst = files(kept / "worst")
    assert len(worst) == 2 and len({Path(name).name for name in worst}) == 2
    names = [name.removesuffix(".npz") for name in worst]
    count = sum(len(read_versions(kept / "worst", [name])) for name in names)
    assert count == (by >= 0).sum() > 3
    assert len(files(kept / "all")) > 2 and not files(kept / "none")
    found = []
    for keep in ("worst", "all"):
        submission = load_submission(submit(kept / keep, tmp_path / keep))
        assert submission.positions.tolist() == np.flatnonzero(by >= 0).tolist()
        found.append(submission.worst(IMAGES[by >= 0], submission.positions))
    assert torch.equal(*found) and 0 < (found[0] - IMAGES[by >= 0]).abs().max() <= EPS + 1e-6
    with pytest.raises(InputError, match="no adversarial images .* --keep worst"):
        submit(kept / "none")


def test_a_page_shows_them_or_says_why_not(kept: Path) -> None:
    shown = {keep: ReportData.load(kept / keep / "evidence.npz") for keep in ("worst", "none")}
    assert all(data is not None for data in shown.values())
    assert len(shown["worst"].survivors.ids) + len(shown["worst"].pictures.ids) > 0
    assert "adversarial images" in " ".join(shown["none"].missing[:, 1])


def damages(out: Path) -> Iterator[None]:
    """What may be wrong with the versions of a finished run."""
    first = min(out.glob("versions/*/*.npz"))
    for content in (b"", first.read_bytes()[:-9]):
        first.write_bytes(content)
        yield
    first.unlink()
    yield
    shutil.rmtree(out / "versions")
    yield


def test_what_is_gone_is_made_again(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept / "worst", tmp_path / "run")
    sound, first = files(tmp_path / "run"), submit(kept / "worst", tmp_path / "first")
    for _ in damages(tmp_path / "run"):
        run(tmp_path / "run")
        assert files(tmp_path / "run").keys() == sound.keys()
        submission = submit(tmp_path / "run", tmp_path / "again")
        assert load_submission(submission).differences == load_submission(first).differences


def test_superseded_versions_go_when_a_result_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at every write: never are fewer versions there than the results speak of."""
    whole = run(tmp_path / "whole")
    save, left = RunFolder.save, 0

    def dying(self: RunFolder, name: str, *of: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        save(self, name, *of)

    monkeypatch.setattr(RunFolder, "save", dying)
    for starts in range(20):
        left = 1
        try:
            assert run(tmp_path / "run") == whole
            assert starts > 3
            break
        except KeyboardInterrupt:
            shards = [name[-9:] for name in files(tmp_path / "run")]
            assert all(shards.count(shard) <= 2 for shard in shards)
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_a_disk_is_asked_for_what_is_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown keep 'some'"):
        run(tmp_path / "run", "some")
    assert not (tmp_path / "run").exists()
