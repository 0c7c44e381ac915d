"""A run killed by SIGKILL goes on, and ends in the verdict of a run that was left alone."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from robust_snn import evaluate
from robust_snn.eval import Attack, Draws, Suite
from victims import tiny_victim, told_by

victim = tiny_victim(True)
rows = (
    Attack("apgd", "autoattack", "apgd-ce", eot=2, steps=10),
    Attack("square", "autoattack", "square", noise="frozen", eot=2, steps=20),
)
suite = Suite("tiny", rows, draws=Draws(4, 5))
print("ready", flush=True)
evaluate(victim, *told_by(victim, 12), suite=suite, out=sys.argv[1], eps=0.05, batch_size=3)
"""


def start(out: Path) -> subprocess.Popen[bytes]:
    tests = str(Path(__file__).resolve().parents[1])
    program = PROGRAM.format(tests=tests)
    return subprocess.Popen([sys.executable, "-c", program, str(out)], stdout=subprocess.PIPE)


def timeless(out: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((out / "verdict.json").read_text())
    for part in (tree, *tree["attacks"]):
        part.pop("seconds")
    return tree


@pytest.mark.slow
def test_killed_runs_go_on(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    assert whole.stdout is not None and whole.stdout.readline() == b"ready\n"
    began = time.monotonic()
    assert whole.wait(timeout=300) == 0
    length = time.monotonic() - began

    killed, rng = tmp_path / "killed", random.Random(0)
    for _ in range(4):
        run = start(killed)
        assert run.stdout is not None and run.stdout.readline() == b"ready\n"
        time.sleep(length * rng.uniform(0.05, 0.4))
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert start(killed).wait(timeout=300) == 0

    assert timeless(killed) == timeless(tmp_path / "whole")
