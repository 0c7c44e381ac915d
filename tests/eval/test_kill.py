"""A run killed by SIGKILL goes on, and ends in the verdict of a run that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

KILLS = 5

# Imports once; every run is a fork, and each of the first KILLS is killed after a random time.
PROGRAM = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from robust_snn import evaluate
from robust_snn.eval import Attack, Draws, Suite
from victims import tiny_victim, told_by

ROWS = (
    Attack("apgd", "autoattack", "apgd-ce", eot=2, steps=6),
    Attack("square", "autoattack", "square", noise="frozen", eot=2, steps=10),
)

def run(out):
    victim = tiny_victim(True)
    suite = Suite("tiny", ROWS, draws=Draws(4, 5))
    evaluate(victim, *told_by(victim, 8), suite=suite, out=out, eps=0.05, batch_size=2)

def fork(out, seconds=None):
    child = os.fork()
    if not child:
        run(out)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]

whole, killed, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
began = time.monotonic()
assert fork(whole) == 0
length, rng = time.monotonic() - began, random.Random(0)
for _ in range(kills):
    fork(killed, length * rng.uniform(0.1, 0.7))
sys.exit(fork(killed))
"""


def timeless(out: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((out / "verdict.json").read_text())
    for part in (tree, *tree["attacks"]):
        part.pop("seconds")
    return tree


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_runs_go_on(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    search = os.pathsep.join((str(Path(__file__).resolve().parents[1]), *sys.path))
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(whole), str(killed), str(KILLS)],
        check=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": search, "ROBUST_SNN_BACKEND": "torch"},
    )
    assert timeless(killed) == timeless(whole)
