"""Everything that this package has to show on a GPU, in ten minutes.

python studies/at_full_size/run.py --images cifar10.safetensors --out runs/gpu --minutes 9

Nothing is fetched from a network. Besides PyTorch 2.8 to 2.14, Triton, torchvision and timm, it
needs what pyproject.toml lists; wheels that a machine with those often lacks:

    adversarial-robustness-toolbox cma dill eagerpy foolbox GitPython gitdb loguru multiprocess
    nir nirtorch pyautoattack smmap snntorch spikingjelly torchattacks

Parts follow each other, each with a share of the time and what those before left: the environment;
the tests that run on a GPU; the benchmarks, one by one; the networks of the StoG paper at their own
size, see train_and_attack.py. Each writes its log and results into the folder as it goes. Started
again, parts that are done are left out, and the last goes on. A table comes last. `--train` and
`--test`, folders or tars of class folders, make the file of images first; `--keep` keeps copies of
what is small.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from robust_snn.data import pack_images
from robust_snn.utils.atomic_files import write_text

WHEELS = (
    *("art", "cma", "dill", "eagerpy", "foolbox", "git", "gitdb", "loguru", "multiprocess", "nir"),
    *("nirtorch", "pyautoattack", "smmap", "snntorch", "spikingjelly", "torchattacks"),
)
# Benchmarks without a table yet come first.
BENCHMARKS = ("compiled", "scaling", "kernels", "steps", "layers", "eot", "memory", "training")
SHARES = {"environment": 0.5, "tests": 4.0, "papers": 4.0, **dict.fromkeys(BENCHMARKS, 0.4)}
SHARES |= {"compiled": 1.2, "scaling": 0.8, "kernels": 0.8}
SMOKE_SHARES = {"environment": 2.0, "tests": 2.0, "layers": 2.0, "papers": 6.0}
AGAIN = ("environment", "papers")  # which goes on for as long as there is time
ATTACKED = 1032  # test images in the packed file
LARGEST = 50e6  # bytes of it
SMALL = 2**20  # bytes of a result that is kept as a copy
LARGE, WEIGHTS = 16 * 2**20, 5  # bytes of weights that are not copied; number of those that are
KEEP_EVERY = 20.0  # seconds
STARTING, GRACE = 8.0, 20.0  # seconds: a script imports, and may end later than it was told
SHOWN = 2500  # characters of a part's log
PATIENCE = 10.0  # seconds that a stopped part has to report
ROOT = Path(__file__).resolve().parents[2]
COMMAND = "from robust_snn.cli import main; main()"


@dataclass(frozen=True)
class Part:
    """A part of the run.

    Attributes:
        name: Its name.
        share: Its share of the time, relative to the others.
        words: The command, after the interpreter; `{seconds}` stands for its time.
    """

    name: str
    share: float
    words: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a part ended."""

    part: str
    ended: str
    seconds: float
    last: str


def parts(given: argparse.Namespace) -> list[Part]:
    """The parts that were asked for, in order, without those that are done."""
    device, out = "cpu" if given.smoke else "cuda", given.out
    bench = ("-c", COMMAND, "benchmark", "--device", device, "--out", str(out / "benchmarks"))
    papers = (
        *(str(Path(__file__).with_name("train_and_attack.py")), "--images", str(given.images)),
        *("--out", str(out / "papers"), "--seconds", "{seconds}", "--device", device),
    )
    tests = ("-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider")
    on_gpu = ("-m", "gpu and not slow", "--numprocesses", str(os.cpu_count()), "--dist")
    every: dict[str, tuple[str, ...]] = {"environment": ("-c", COMMAND, "doctor")}
    if given.smoke:
        every |= {"tests": (*tests, "tests/test_import.py")}
        every |= {"layers": (*bench, "layers", "--rounds", "1"), "papers": (*papers, "--smoke")}
    else:
        every |= {"tests": (*tests, *on_gpu, "worksteal")}
        every |= {name: (*bench, name) for name in BENCHMARKS} | {"papers": papers}
    asked = {*given.parts, *(BENCHMARKS if "benchmarks" in given.parts else ())}
    shares = SMOKE_SHARES if given.smoke else SHARES
    return [
        Part(name, shares[name], words)
        for name, words in every.items()
        if name in asked and not (name not in AGAIN and done_mark(out, name).exists())
    ]


def done_mark(out: Path, part: str) -> Path:
    """The file that says that a part need not be started again."""
    return out / f"{part}.done"


def run_part(part: Part, seconds: float, out: Path, keep: Path | None) -> Outcome:
    """Runs a part in a process of its own, which is killed with its children at the end."""
    words = [word.replace("{seconds}", f"{seconds - STARTING:.0f}") for word in part.words]
    limit = seconds if words == list(part.words) else seconds + GRACE  # it ends by itself
    paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # foolbox imports GitPython, which else wants a git program
    environment |= {"PYTHONUNBUFFERED": "1", "GIT_PYTHON_REFRESH": "quiet"}
    began = kept = time.monotonic()
    log = out / f"{part.name}.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        while process.poll() is None and time.monotonic() - began < limit:
            time.sleep(0.2)
            if time.monotonic() - kept > KEEP_EVERY:
                keep_small(out, keep)
                kept = time.monotonic()
        ended = "out of time" if process.poll() is None else f"exit code {process.returncode}"
        stop(process)
    keep_small(out, keep)
    text = log.read_text(encoding="utf-8", errors="replace")
    print(f"--- {part.name}\n{text[-SHOWN:]}", flush=True)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    took = time.monotonic() - began
    last = lines[-1][:100] if lines else ""
    return Outcome(part.name, "done" if ended == "exit code 0" else ended, took, last)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that still runs: as Ctrl-C does, so that it may report, then with force."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its children too
    process.wait()


def keep_small(out: Path, keep: Path | None) -> None:
    """Copies page, table, the weights of some networks, and all small results as one tar."""
    if keep is None:
        return
    keep.mkdir(parents=True, exist_ok=True)
    files = {path.name: path for path in (out / "summary.md", out / "papers" / "page.md")}
    weights = sorted(
        out.glob("papers/snn_*/model.safetensors"), key=lambda path: path.stat().st_ctime
    )
    small = [path for path in weights if path.stat().st_size < LARGE]
    files |= {f"{path.parent.name}.safetensors": path for path in small[:WEIGHTS]}
    for name, path in files.items():
        if path.exists():
            shutil.copy(path, keep / name)
    draft = keep / "results.tar.gz.part"
    with tarfile.open(draft, "w:gz") as tar:
        for path in sorted(out.rglob("*")):
            pieces = {"pieces", "locks", "scratch"} & set(path.parts)
            if path.is_file() and not pieces and path.stat().st_size <= SMALL:
                tar.add(path, path.relative_to(out))
    draft.replace(keep / "results.tar.gz")


def about_machine() -> str:
    """Versions, the card, and the libraries that are not installed."""
    try:
        import triton

        version = triton.__version__
    except ImportError:
        version = "none"
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    lacking = [name for name in WHEELS if importlib.util.find_spec(name) is None]
    return (
        f"{card}; Python {platform.python_version()}, PyTorch {torch.__version__}, Triton "
        f"{version}; not installed: {', '.join(lacking) or 'nothing'}"
    )


def make_images(given: argparse.Namespace) -> None:
    """Packs the images, if sources are given and the file is not there.

    Raises:
        SystemExit: If it is not there and no sources are given, or it became too large.
    """
    if given.images.exists() or "papers" not in given.parts:
        return
    if given.train is None or given.test is None:
        sys.exit(f"no file '{given.images}': give --train and --test to make it")
    pack_images({"train": (given.train, None), "test": (given.test, ATTACKED)}, given.images)
    if (size := given.images.stat().st_size) > LARGEST:
        sys.exit(f"'{given.images}' has {size / 1e6:.0f} MB, more than {LARGEST / 1e6:.0f}")


def summary(machine: str, outcomes: Sequence[Outcome]) -> str:
    """The table of all parts, in Markdown."""
    rows = [f"| {o.part} | {o.ended} | {o.seconds:.0f} | {o.last} |" for o in outcomes]
    head = ["| part | ended | seconds | last line of its log |", "|---|---|---|---|"]
    return "\n".join([machine, "", *head, *rows]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    names = ("environment", "tests", "benchmarks", "papers")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="packed images")
    parser.add_argument("--train", type=Path, help="images to pack for training, all of them")
    parser.add_argument("--test", type=Path, help="images to pack for attacks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="folder for copies of what is small")
    parser.add_argument("--minutes", type=float, help="9, or 3 with --smoke")
    parser.add_argument("--parts", default=",".join(names), help="some of them, with commas")
    parser.add_argument("--smoke", action="store_true", help="all of it, tiny, on the CPU")
    given = parser.parse_args(arguments)
    given.parts = given.parts.split(",")
    if unknown := set(given.parts) - {*names, *BENCHMARKS}:
        known = ", ".join((*names, *BENCHMARKS))
        parser.error(f"unknown part {', '.join(unknown)}; choose from {known}")
    end = time.monotonic() + 60 * (given.minutes or (3 if given.smoke else 9))
    for name in ("images", "out", "keep", "train", "test"):
        if (path := getattr(given, name)) is not None:
            setattr(given, name, path.absolute())  # the parts run in the repository
    given.out.mkdir(parents=True, exist_ok=True)
    make_images(given)
    machine, outcomes = about_machine(), list[Outcome]()
    print(machine, flush=True)
    left = parts(given)
    while left:
        part, *others = left
        share = part.share / sum(other.share for other in left)
        outcomes.append(run_part(part, share * (end - time.monotonic()), given.out, given.keep))
        if outcomes[-1].ended == "done":
            done_mark(given.out, part.name).touch()
        write_text(given.out / "summary.md", summary(machine, outcomes))
        keep_small(given.out, given.keep)
        left = others
    if (page := given.out / "papers" / "page.md").exists():
        print(page.read_text(encoding="utf-8"))
    print(summary(machine, outcomes))


if __name__ == "__main__":
    main()
