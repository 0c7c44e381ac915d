"""Evaluations of images that are read as they are needed: the same verdict as from a tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robust_snn import InputError, evaluate
from robust_snn.eval import AttackSpec, Draws, Suite, sweep
from robust_snn.eval.submission import load_submission, submit
from tests.victims import tiny_victim, told_by

EPS = 0.01
ROWS = (
    AttackSpec("pgd", "robust_snn", "pgd", steps=2),
    AttackSpec("square", "autoattack", "square", noise="frozen", steps=4),
)
SUITE = Suite("tiny", ROWS, draws=Draws(2, 3))
VICTIM = tiny_victim(False)
IMAGES, LABELS = told_by(VICTIM, 11)


class Files:
    """A data set of files, which counts what is read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.read = folder, list[int]()
        self.targets = LABELS.tolist()
        for number, image in enumerate(IMAGES):
            np.save(folder / f"{number}.npy", image.numpy())

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read.append(index)
        return torch.from_numpy(np.load(self.folder / f"{index}.npy")), self.targets[index]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "data").mkdir()
    return Files(tmp_path / "data")


def run(out: Path, *data: Any, **changes: Any) -> dict[str, Any]:
    """A verdict without its times."""
    of: dict[str, Any] = {"suite": SUITE, "eps": EPS, "batch_size": 4, **changes}
    verdict = evaluate(VICTIM, *data, out=out, **of).to_dict()
    rows = [row | {"seconds": 0} for row in verdict["attacks"]]
    return {**verdict, "seconds": 0, "attacks": rows}


def test_the_verdict_is_that_of_a_tensor(files: Files, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", IMAGES, LABELS)
    assert run(tmp_path / "run", files) == whole
    files.read.clear()
    assert run(tmp_path / "run", files) == whole
    assert len(files.read) < 4 * len(IMAGES)  # by the checks of a run, not by its attacks
    assert run(tmp_path / "run", IMAGES, LABELS) == whole  # a tensor goes on from there
    submissions = [load_submission(submit(tmp_path / name)) for name in ("run", "whole")]
    assert submissions[0].differences == submissions[1].differences


def test_a_sweep_reads_them_too(files: Files, tmp_path: Path) -> None:
    options: dict[str, Any] = {"suite": SUITE, "batch_size": 4, "report": False}
    found = [
        sweep(VICTIM, *data, axes={"steps": [1]}, eps=EPS, out=tmp_path / name, **options)
        for name, data in (("disk", (files,)), ("memory", (IMAGES, LABELS)))
    ]
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_what_changes_meanwhile_is_named_and_the_rest_goes_on(
    files: Files, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "data" / "6.npy"
    sound = path.read_bytes()

    def spoil(now: Any) -> None:
        if "shard 1 of 3" in now.doing and path.exists():
            if damage == "changed":
                np.save(path, IMAGES[5].numpy())
            elif damage == "cut":
                path.write_bytes(sound[:99])
            else:
                path.unlink()

    with pytest.raises(InputError, match="image 6 of 'Files'") as caught:
        run(tmp_path / "run", files, progress=spoil)
    assert "\n" not in str(caught.value)
    done = sorted(file.stem for file in (tmp_path / "run" / "pieces").glob("*/*.npz"))
    assert "00002" in done and "00001" not in done
    path.write_bytes(sound)
    assert run(tmp_path / "run", files) == run(tmp_path / "whole", IMAGES, LABELS)


def test_what_is_no_image_is_refused_before_anything_runs(files: Files, tmp_path: Path) -> None:
    np.save(tmp_path / "data" / "9.npy", 2 * IMAGES[9].numpy())
    with pytest.raises(InputError, match="cannot read image 9 of 'Files': pixels must lie"):
        run(tmp_path / "run", files)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [0, 10])
def test_other_images_are_refused(files: Files, tmp_path: Path, number: int) -> None:
    run(tmp_path / "run", files)
    np.save(tmp_path / "data" / f"{number}.npy", IMAGES[5].numpy())
    with pytest.raises(InputError, match=f"image {number} of 'Files' has changed since"):
        run(tmp_path / "run", files)
