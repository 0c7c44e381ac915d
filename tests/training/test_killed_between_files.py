"""A training that ends after any file that it puts in place resumes to the very same folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_snn.data import ImageSet, load_dataset
from robust_snn.training import load_recipe, session, train
from robust_snn.utils.atomic_files import write_text
from robust_snn.utils.folder_lock import LOCK

EPOCHS = 3
KWARGS = {"T": 2, "width": 0.0625, "head_width": 8, "img_size": 8}


class Killed(BaseException):
    """Ends a training where a killed process would."""


@contextmanager
def killed_after(files: int | None) -> Iterator[list[str]]:
    """Ends what runs inside once so many files were put in place; lists the names of all."""
    placed: list[str] = []
    replace = Path.replace

    def replaced(draft: Path, path: Path) -> Path:
        replace(draft, path)
        placed.append(path.name)
        if len(placed) == files:
            raise Killed
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replaced)
        patch.setattr(time, "perf_counter", lambda: 0.0)  # else the times of epochs differ
        patch.setattr(session, "draw_curves", lambda rows, path: write_text(path, f"{rows}"))
        yield placed


@pytest.fixture(scope="module")
def start() -> Callable[[Path], Any]:
    whole, test = load_dataset("digits", split="train", size=8), load_dataset("digits", size=8)
    data: tuple[ImageSet, ImageSet] = (whole.take(40), test.take(10))
    recipe = load_recipe("at").replace(
        epochs=EPOCHS, batch_size=20, eps=0.1, ema=0.9, held_out=0.25
    )
    return lambda out: train("snn_vgg5_stog", *data, recipe, out=out, model_kwargs=KWARGS)


@pytest.mark.cpu_only
def test_every_boundary_between_two_files(start: Callable[[Path], Any], tmp_path: Path) -> None:
    with killed_after(None) as placed:
        start(tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    assert set(placed) == expected.keys()  # no file is written past this test
    assert len(placed) >= 1 + EPOCHS * 5
    for files in range(1, len(placed) + 1):
        out = tmp_path / str(files)
        with killed_after(files), pytest.raises(Killed):
            start(out)
        with killed_after(2 + files % 8), pytest.raises(Killed):  # while it resumes
            start(out)
        with killed_after(None):
            start(out)
        assert contents(out) == expected, f"killed after {placed[:files][-3:]}"


def contents(folder: Path) -> dict[str, Any]:
    """What each file holds; two pickles of the same state may share its texts differently."""
    state = torch.load(folder / "state.pt", weights_only=True)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK}
    return {**files, "state.pt": plain(state)}


def plain(tree: Any) -> Any:
    """A tree whose tensors are bytes."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    return tree.numpy().tobytes() if isinstance(tree, torch.Tensor) else tree
