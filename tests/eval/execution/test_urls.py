"""Runs whose folder is a URL: the verdict of a folder, whatever becomes of their processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_snn import InputError, cli, evaluate
from robust_snn.eval import AttackSpec, Draws, FolderError, Suite, sweep
from robust_snn.eval.execution import lease
from robust_snn.eval.execution.lease import leased
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.reporting.html import write_report
from robust_snn.eval.submission import load_submission, submit
from robust_snn.utils import atomic_files
from robust_snn.utils.places import place
from tests.victims import tiny_victim, told_by

pytest.importorskip("upath")
ROWS = (
    AttackSpec("pgd", "robust_snn", "pgd", eot=2, steps=3),
    AttackSpec("square", "autoattack", "square", noise="frozen", steps=10),
)
SUITE = Suite("tiny", ROWS, draws=Draws(2, 3))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a server on this machine that speaks S3."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    told = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}
    for name, value in {**told, "ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        patch.setenv(f"AWS_{name}", value)
    import s3fs

    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket"
    patch.undo()
    server.stop()


def run(out: str | Path, **changes: Any) -> dict[str, Any]:
    """A verdict without its times."""
    victim = tiny_victim(True)
    verdict = evaluate(
        victim,
        *told_by(victim, 8),
        **{"suite": SUITE, "out": out, "eps": 0.05, "batch_size": 2, "report": False, **changes},
    ).to_dict()
    rows = [row | {"seconds": 0} for row in verdict["attacks"]]
    return {**verdict, "seconds": 0, "attacks": rows}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    return run(tmp_path_factory.mktemp("whole"))


def test_the_verdict_is_that_of_a_folder(
    bucket: str, tmp_path: Path, whole: dict[str, Any]
) -> None:
    out = f"{bucket}/run"
    assert run(out) == whole
    assert not list(place(out).glob("locks/*"))
    files = {part: len(list(place(out).glob(f"{part}/*/*.npz"))) for part in ("pieces", "versions")}
    assert files["pieces"] > 8 and files["versions"] == 4  # of shards
    with pytest.raises(InputError, match="holds a run with another configuration"):
        run(out, seed=1)
    assert str(write_report(out)) == f"{out}/report.html"
    for words in (["compare", out, out], ["submit", out, "--out", str(tmp_path / "submission")]):
        with pytest.raises(SystemExit) as left:
            cli.main(words)
        assert left.value.code == 0
    assert load_submission(tmp_path / "submission").verdict.data["n"] == 8
    with pytest.raises(InputError, match="name the folder of this machine"):
        submit(out)
    piece = next(iter(place(out).glob("pieces/01-pgd/*.npz")))
    piece.write_bytes(piece.read_bytes()[:-99])
    (place(out) / "verdict.json").unlink()
    assert run(out) == whole


def test_a_killed_process_holds_up_nobody(tmp_path: Path, whole: dict[str, Any]) -> None:
    out = f"file://{tmp_path}/run"
    process = get_context("fork").Process(target=run, args=(out,))
    process.start()
    while not list((tmp_path / "run").glob("pieces/*/*.npz")) and process.is_alive():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    began = time.monotonic()
    assert run(out) == whole
    assert time.monotonic() - began < lease.LEASE / 2


def test_two_that_claim_the_same_do_it_twice(
    tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that lies: it says that every claim was won."""
    monkeypatch.setattr(lease, "_claimed", lambda *_: True)
    out = f"file://{tmp_path}/run"
    process = get_context("fork").Process(target=run, args=(out,))
    process.start()
    assert run(out) == whole
    process.join()
    assert process.exitcode == 0
    assert run(out) == whole


def test_a_claim_is_over_when_nothing_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place(f"file://{tmp_path}/locks/0")
    monkeypatch.setattr(atomic_files, "_machine", lambda: "0" * 8)
    theirs = atomic_files.process_mark()
    monkeypatch.undo()
    monkeypatch.setattr(lease, "LEASE", 0.6)
    atomic_files.write_text(path, f"{theirs} 0")
    with leased(path, wait=0.2) as ours:
        assert not ours
    atomic_files.write_text(path, f"{theirs} 1")  # a sign of life
    with leased(path, wait=0.5) as ours:
        assert not ours
    with leased(path, wait=5) as ours:
        assert ours
    assert not path.exists()


def test_a_claim_is_renewed_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.05)
    path = place(f"file://{tmp_path}/locks/0")
    with leased(path) as ours:
        first = path.read_text()
        time.sleep(0.3)
        assert ours and path.read_text() != first
        with leased(path, wait=0) as again:
            assert not again
    assert not path.exists()


@pytest.mark.slow
def test_a_sweep_lies_there_too(bucket: str, tmp_path: Path) -> None:
    victim = tiny_victim(False)
    data, of = told_by(victim, 4), {"suite": SUITE, "eps": 0.05, "report": False}
    axes: Any = {"steps": [1]}
    there = sweep(victim, *data, axes=axes, out=f"{bucket}/sweep", **of)  # type: ignore[arg-type]
    here = sweep(victim, *data, axes=axes, out=tmp_path / "sweep", **of)  # type: ignore[arg-type]
    assert there[1] == here[1]


@pytest.mark.parametrize(
    "out, why",
    [
        ("nothing://x/run", "cannot use 'nothing://x/run': .*nothing"),
        ("s3://no-such-bucket/run", "cannot write the run to 's3://no-such-bucket/run': .*bucket"),
    ],
)
def test_places_that_cannot_be_are_refused_in_a_line(bucket: str, out: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        run(out)
    assert "\n" not in str(caught.value)


def test_a_bucket_that_fails_meanwhile_loses_nothing(
    bucket: str, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, save, saved = f"{bucket}/full", RunFolder.save, list[str]()

    def failing(folder: Any, name: str, *result: Any) -> None:
        saved.append(name)
        with monkeypatch.context() as broken:
            if len(saved) > 4:
                broken.setattr(type(folder.path), "write_bytes", _denied)
            save(folder, name, *result)

    monkeypatch.setattr(RunFolder, "save", failing)
    with pytest.raises(FolderError, match="expired.*what is finished is safe"):
        run(out)
    monkeypatch.setattr(RunFolder, "save", save)
    assert len(list(place(out).glob("pieces/*/*.npz"))) == 4
    assert run(out) == whole


def _denied(*_: Any) -> None:
    raise PermissionError("The provided token has expired.")
