"""The ten minutes on a GPU, in small: what is trained and attacked in time, and what pages say."""

from __future__ import annotations

import itertools
import runpy
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from robust_snn.data import ImageSet
from robust_snn.training import load_card

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "studies" / "at_full_size"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script that trains and attacks: one suite, no compiler, a clock of its own."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("ROBUST_SNN_BACKEND", "torch")
    import train_and_attack

    looks, steps = itertools.count(), itertools.count()
    clock = SimpleNamespace(
        monotonic=lambda: next(looks) / 100, perf_counter=lambda: next(steps) / 5
    )
    monkeypatch.setattr(train_and_attack, "time", clock)
    monkeypatch.setattr(train_and_attack, "SUITES", ("stog-table2",))
    monkeypatch.setattr(train_and_attack, "SHORTEST", 0.05)
    yield train_and_attack
    for name in ("train_and_attack", "page", "networks"):
        sys.modules.pop(name, None)


def work(study: ModuleType, out: Path) -> Any:
    shades = torch.arange(60) % 10
    images = shades[:, None, None, None] / 9 * torch.ones(3, 8, 8)
    data = ImageSet("cifar10", "train", images, shades, tuple("0123456789"))
    return study.Work(data, data, replace(study.SMOKE, nets=2, attacked=3, block=2), out, "cpu")


def test_trains_attacks_and_goes_on(study: ModuleType, tmp_path: Path) -> None:
    study.run(work(study, tmp_path), 1.2)
    page = (tmp_path / "page.md").read_text()
    for folder in ("snn_wrn16-natural", "snn_wrn16-at"):
        card = load_card(tmp_path / folder / "model.safetensors")
        assert card is not None and card["recipe"]["epochs"] == card["epochs"] >= 1
    assert "of the paper's 200 | 60 |" in page and "/ 56.4" not in page
    assert "| snn_vgg11 | RAT | - | - | - | - | no time for it |" in page
    verdicts = {path: path.read_text() for path in tmp_path.glob("*/stog-table2/*/verdict.json")}
    assert verdicts
    histories = [path.read_text() for path in sorted(tmp_path.glob("*/history.csv"))]
    study.run(work(study, tmp_path), 1.2)
    assert {path: path.read_text() for path in verdicts} == verdicts
    assert [path.read_text() for path in sorted(tmp_path.glob("*/history.csv"))] == histories


@pytest.mark.parametrize(
    ("seconds", "why"), [(0.1, "no time for an epoch of 0 s"), (0.6, "out of time in its training")]
)
def test_what_there_is_no_time_for_is_named(
    study: ModuleType, tmp_path: Path, seconds: float, why: str
) -> None:
    study.LATE = -1.0
    study.run(work(study, tmp_path), seconds)
    page = (tmp_path / "page.md").read_text()
    assert f"| snn_wrn16 | vanilla | - | - | - | - | {why} |" in page
    assert "| snn_wrn16 | AT | - | - | - | - | no time for it |" in page


def test_parts_and_copies(tmp_path: Path) -> None:
    script = SimpleNamespace(**runpy.run_path(str(FOLDER / "run.py"), run_name="script"))
    out, keep = tmp_path / "out", tmp_path / "keep"
    out.mkdir()
    (out / "large.npz").write_bytes(bytes(script.SMALL + 1))
    words = {
        "works": "print('a', flush=True); print('b')",
        "fails": "raise SystemExit(3)",
        "hangs": "print('begun', flush=True); import time; time.sleep(60)",
    }
    ends = []
    for name, word in words.items():
        part = script.Part(name, 1, ("-c", word))
        ends.append(script.run_part(part, 3.0, out, keep))
    assert [(end.part, end.ended, end.last) for end in ends] == [
        ("works", "done", "b"),
        ("fails", "exit code 3", ""),
        ("hangs", "out of time", "KeyboardInterrupt"),  # as it says itself
    ]
    assert "| works | done | " in script.summary("a machine", ends)
    with tarfile.open(keep / "results.tar.gz") as tar:
        assert tar.getnames() == ["fails.log", "hangs.log", "works.log"]


def test_parts_that_are_done_are_left_out(tmp_path: Path) -> None:
    script = SimpleNamespace(**runpy.run_path(str(FOLDER / "run.py"), run_name="script"))
    given = SimpleNamespace(out=tmp_path, images=tmp_path / "x", smoke=False, parts=["benchmarks"])
    assert [part.name for part in script.parts(given)] == list(script.BENCHMARKS)
    given.parts = ["environment", "tests", "kernels", "scaling", "papers"]
    for part in ("environment", "tests", "papers", "kernels"):
        script.done_mark(tmp_path, part).touch()
    assert [part.name for part in script.parts(given)] == ["environment", "scaling", "papers"]


@pytest.mark.slow
def test_all_of_it_in_small(tmp_path: Path, shared: Callable[[str], Path]) -> None:
    words = ["--images", str(tmp_path / "cifar10.safetensors")]
    for split in ("train", "test"):
        words += [f"--{split}", str(shared("data/cifar10/test.tar"))]
    words += ["--out", str(tmp_path / "out"), "--keep", str(tmp_path / "keep")]
    words += ["--smoke", "--minutes", "2"]
    command = [sys.executable, str(FOLDER / "run.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("environment", "tests", "layers", "papers"):  # a busy machine may be late
        assert f"| {part} | " in done.stdout
    assert "of the paper's 200" in (tmp_path / "keep" / "page.md").read_text()
