"""Ends commands at random moments, starts them again, and compares what comes of it.

    python tests/kill_at_random.py OUT --kills 200 --interrupts 100 --with-workers 20

Every case is a fork of this process, which has loaded everything, that runs an evaluation, a sweep,
a training, or an evaluation with workers. It gets SIGKILL, SIGINT as a terminal sends it, or
SIGTERM. An interrupt has to end it and all its processes within five seconds, with one line and no
traceback. Started again, the command has to give what an undisturbed one gives, and to leave no
draft of a file. What fails is listed at the end, and its folder is kept.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from itertools import cycle, islice, product
from pathlib import Path
from typing import NamedTuple

import torch

from robust_snn import cli
from robust_snn.utils.interrupts import LINE

LOADED = ("robust_snn.training.trainer", "robust_snn.eval", "sklearn.datasets", "matplotlib.figure")
LOADED += ("scipy.stats", "jinja2", "pydantic", "pyautoattack", "robust_snn.cli.inputs")
LOADED += ("robust_snn.adapters.autoattack", "robust_snn.kernels.spiking.numba")
# else most kills meet an import
PATIENCE = 5.0  # seconds in which an interrupted command has to end
SUITE = """
name: tiny
draws: {select: 2, report: 3}
attacks:
  - {name: pgd, implementation: robust_snn, attack: pgd, eot: 2, steps: 3, options: {keep: 1}}
  - {name: square, implementation: autoattack, attack: square, noise: frozen, steps: 10}
"""
NET = "--model snn_vgg5_stog --model-kwargs T=2 width=0.1 head_width=8 img_size=8"
EVALUATE = f"evaluate {NET} in_chans=1 --data digits -n 12 --batch-size 3 --threads 1 --eps 0.1"
SWEEP = "--sweep eps=0,0.05,0.1 --sweep steps=2,3"
TRAIN = f"train {NET} --data digits -n 96 --epochs 4 --batch-size 16 --lr 0.02 --threads 1"


class Command(NamedTuple):
    """A command, and what it makes that has to be the same however often it was ended."""

    words: str
    result: Callable[[Path], str]


def _verdict(out: Path) -> str:
    return re.sub(
        r'"seconds": [^,\n]+|\n  "sha256": [^\n]+', "", (out / "verdict.json").read_text()
    )


def _swept(out: Path) -> str:
    runs = sorted(path.name for path in (out / "sweep").iterdir())
    return f"{runs} {_verdict(out)} {(out / 'sweep.json').read_text()}"


def _trained(out: Path) -> str:
    with (out / "history.csv").open(newline="") as file:
        rows = [row | {"seconds": ""} for row in csv.DictReader(file)]
    return f"{rows} {(out / 'model.safetensors').read_bytes().hex()}"


COMMANDS = {
    "evaluate": Command(f"{EVALUATE} --suite suite.yaml", _verdict),
    "sweep": Command(f"{EVALUATE} --suite suite.yaml {SWEEP}", _swept),
    "workers": Command(f"{EVALUATE} --suite suite.yaml --workers 2", _verdict),
    "train": Command(TRAIN, _trained),
}
ALONE = ("evaluate", "sweep", "train")


def start(name: str, out: Path) -> int:
    """Starts a command in a fork with a process group of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    log = os.open(f"{out}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        sys.argv = ["robust-snn", *COMMANDS[name].words.split(), "--out", str(out)]
        cli.main(sys.argv[1:])
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def is_left(group: int) -> bool:
    """Whether a process of a group is still there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def finish(name: str, out: Path) -> float:
    """Runs a command to its end; returns the seconds that it took."""
    began = time.monotonic()
    status = os.waitpid(start(name, out), 0)[1]
    log = Path(f"{out}.log").read_text(errors="replace")
    assert status == 0, f"{out} did not resume: {log[-2000:]}"
    return time.monotonic() - began


def end(name: str, out: Path, number: int, seconds: float) -> str:
    """Starts a command and ends it after some seconds; returns what came of that."""
    child = start(name, out)
    time.sleep(seconds)
    done, _ = os.waitpid(child, os.WNOHANG)
    if done:
        return "done before"
    (os.killpg if number == signal.SIGINT else os.kill)(child, number)
    took = seconds_to_end(child)
    # a worker that is loading its libraries sees that its parent was killed after them
    patience = 24 * PATIENCE if number == signal.SIGKILL else PATIENCE
    assert took < patience, f"{out}: it or a process of it was left for {took:.1f} s"
    if number == signal.SIGKILL:
        return "killed"
    said = Path(f"{out}.log").read_text(errors="replace")
    assert "Traceback" not in said, f"{out}: {said[-3000:]}"
    assert said.count(LINE) <= 1, f"{out}: {said[-3000:]}"
    return "interrupted" if LINE in said else "done before"


def seconds_to_end(group: int) -> float:
    """Waits for a process and its group to be gone; while all is stopped, no time is counted."""
    took, before, reaped = 0.0, time.monotonic(), 0
    while took < 24 * PATIENCE:
        reaped = reaped or os.waitpid(group, os.WNOHANG)[0]
        if reaped and not is_left(group):
            return took
        time.sleep(0.02)
        now = time.monotonic()
        took, before = took + min(now - before, 1.0), now
    os.killpg(group, signal.SIGKILL)
    return took


def check(out: Path, name: str, whole: str) -> None:
    """Goes on to the end, and compares."""
    finish(name, out)
    assert COMMANDS[name].result(out) == whole, f"{out} has another result"
    drafts = [str(path) for path in out.rglob(".*")]
    assert not drafts, f"{out} is left with {drafts}"


def campaign(folder: Path, cases: list[tuple[str, str]], seed: int) -> Counter[str]:
    """Ends commands by signals, in an order by chance; returns how often each thing came."""
    os.chdir(folder)
    Path("suite.yaml").write_text(SUITE)
    torch.set_num_threads(1)
    for module in LOADED:
        import_module(module)
    rng, came = random.Random(seed), Counter[str]()
    lengths, wholes = dict[str, float](), dict[str, str]()
    for name in dict(cases):
        out = folder / f"{name}-whole"
        finish(name, folder / f"{name}-first")  # it may compile
        lengths[name] = finish(name, out)
        wholes[name] = COMMANDS[name].result(out)
    for number, (name, kind) in enumerate(rng.sample(cases, len(cases))):
        out = folder / f"{number}-{name}-{kind}"
        try:
            what = end(name, out, signal.Signals[kind], lengths[name] * rng.random())
            check(out, name, wholes[name])
            shutil.rmtree(out)
        except AssertionError as failure:
            what = f"FAILED: {failure}"
        came[f"{name} {kind} {what}"] += 1
        print(f"{number + 1} of {len(cases)}: {name} {kind} {what}", file=sys.stderr)  # noqa: T201
    return came


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for option in ("kills", "interrupts", "with-workers"):
        parser.add_argument(f"--{option}", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    signals = ("SIGINT", "SIGTERM")
    asked = (
        (given.kills, product(ALONE, ["SIGKILL"])),
        (given.interrupts, product(ALONE, signals)),
        (given.with_workers, product(["workers"], ["SIGKILL", *signals])),
    )
    cases = [case for times, kinds in asked for case in islice(cycle(kinds), times)]
    came = campaign(given.folder.resolve(), cases, given.seed)
    for line, times in sorted(came.items()):
        print(f"{times:4d} {line}", flush=True)  # noqa: T201
    sys.exit(any("FAILED" in line for line in came))
