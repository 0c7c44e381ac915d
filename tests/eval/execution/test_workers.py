"""Processes that share a run: whatever becomes of them, the verdict is that of one process."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robust_snn import InputError, Verdict, evaluate
from robust_snn.eval import AttackSpec, Draws, FolderError, Progress, Suite
from robust_snn.eval.execution.progress import Meter
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.shards import locked_shards
from robust_snn.utils import atomic_files
from victims import tiny_victim, told_by

ROWS = (
    AttackSpec("pgd", "robust_snn", "pgd", eot=2, steps=3),
    AttackSpec("square", "autoattack", "square", noise="frozen", steps=10),
)
SUITE = Suite("tiny", ROWS, draws=Draws(3, 4))
SECONDS = re.compile(r'"seconds": [^,\n]+|\n  "sha256": [^\n]+')


def run(
    out: Path, progress: bool | Callable[[Progress], None] = False, **sharing: int | str
) -> Verdict:
    torch.manual_seed(0)
    victim = tiny_victim(True)
    return evaluate(
        victim,
        *told_by(victim, 12),
        suite=SUITE,
        out=out,
        eps=0.05,
        batch_size=2,
        progress=progress,
        **sharing,  # type: ignore[arg-type]
    )


def timeless(out: Path) -> str:
    return SECONDS.sub('"seconds": 0', (out / "verdict.json").read_text())


def started(out: Path) -> SpawnProcess:
    """A process with the same run; a fork has no gradients once something else had threads here."""
    process = get_context("spawn").Process(target=run, args=(out,))
    process.start()
    return process


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Rounding may depend on the number of threads, and forks must not inherit running ones."""
    torch.set_num_threads(1)


def test_a_shard_belongs_to_one(tmp_path: Path) -> None:
    """The second caller skips what the first holds, then waits for it."""
    folder, waits = RunFolder(tmp_path, {"seed": 0}), []
    first = locked_shards(range(3), folder, lambda: None)
    assert next(first) == 0

    def idle() -> None:
        waits.append(1)
        first.close()

    assert list(locked_shards(range(3), folder, idle)) == [1, 2, 0]
    assert waits == [1]


def test_shards_with_most_left_come_first() -> None:
    meter = object.__new__(Meter)
    names = {"names": lambda n: [f"clean/{n}", f"pgd/{n}"], "ids": lambda n: range(4)}
    meter.job = SimpleNamespace(**names)  # type: ignore[assignment]
    meter.passes = np.array([1.0, 3.0])
    meter.left = {"pgd/0", "clean/1", "pgd/1", "clean/3", "pgd/3"}
    assert meter.longest_first(range(4)) == [1, 3, 0, 2]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {"seed": 0})
    pieces = tmp_path / "pieces" / "clean"
    pieces.mkdir()
    machine, living = atomic_files._machine(), os.getpid()
    for process, started in ((2**22 + 1, 7), (living, atomic_files._started(living))):
        (pieces / f".00001.npz.draft-{machine}-{process}-{started}-0a1b2c3d").touch()
    folder.conclude()
    assert [path.name.split("-")[2] for path in pieces.iterdir()] == [str(living)]


def test_a_disk_that_fails_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("robust_snn.eval.execution.run_folder.write_arrays", full)
    with pytest.raises(FolderError, match="No space left .* start the same evaluation again"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("multiprocessing.process.BaseProcess.start", BlockingIOError(11, "Try again")),
        ("multiprocessing.process.BaseProcess.start", MemoryError()),
        ("multiprocessing.resource_tracker.ensure_running", OSError(12, "Cannot allocate")),
        ("threading.Thread.start", RuntimeError("can't start new thread")),
    ],
)
def test_workers_that_the_system_does_not_start_cost_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
    error: Exception,
) -> None:
    def refuse(*_: object) -> None:
        raise error

    whole = run(tmp_path / "whole")
    monkeypatch.setattr(where, refuse)
    assert run(tmp_path / "run", workers=2).robust == whole.robust
    assert "the system starts no more workers" in caplog.text


def test_a_disk_too_full_for_what_a_page_shows_costs_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("robust_snn.eval.execution.report_data.write_arrays", full)
    verdict = run(tmp_path / "run")
    assert Verdict.load(tmp_path / "run" / "verdict.json").robust == verdict.robust
    assert "the report shows the verdict alone: " in caplog.text and "No space" in caplog.text


def test_a_net_that_cannot_be_sent(tmp_path: Path) -> None:
    class Local(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.flatten(1))

    images, labels = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    with pytest.raises(InputError, match="cannot be sent to other processes"):
        evaluate(
            Local(4, 4), images, labels, suite=SUITE, out=tmp_path, eps=0.1, batch_size=1, workers=2
        )


def test_more_workers_than_a_machine_bears(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers must be at most .* got 100000"):
        run(tmp_path / "run", workers=100_000)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_and_one_that_dies(tmp_path: Path) -> None:
    """Two share the work; then one of two is killed in the middle of it."""
    run(tmp_path / "one")
    for name, dies in (("two", False), ("killed", True)):
        out = tmp_path / name
        processes = [started(out), started(out)]
        while len(list(out.glob("pieces/*/*.npz"))) < 4 and processes[1].is_alive():
            time.sleep(0.01)
        if dies:
            os.kill(processes[0].pid or 0, signal.SIGKILL)
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [-9 if dies else 0, 0]
        assert timeless(out) == timeless(tmp_path / "one")


@pytest.mark.slow
def test_workers(tmp_path: Path) -> None:
    run(tmp_path / "one")
    run(tmp_path / "two", workers=2)
    assert timeless(tmp_path / "two") == timeless(tmp_path / "one")


@pytest.mark.slow
def test_ray_with_a_killed_worker(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    run(tmp_path / "one")
    killed: list[int] = []

    def kill_one(_: Progress) -> None:
        """Kills one of the two actors of our cluster when the first shard is there."""
        below = psutil.Process().children(recursive=True)
        awake = [child for child in below if child.status() != psutil.STATUS_ZOMBIE]
        actors = [child for child in awake if "ray::Worker" in " ".join(child.cmdline())]
        if actors and not killed:
            killed.append(actors[0].pid)
            actors[0].kill()

    run(tmp_path / "ray", kill_one, ray="local", workers=2)
    assert killed
    assert timeless(tmp_path / "ray") == timeless(tmp_path / "one")
