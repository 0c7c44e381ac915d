"""A run killed by SIGKILL resumes, and ends in the verdict of a run that was left alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 20  # 200 by hand, and other commands, with `kill_at_random.py`
SECONDS = re.compile(r'"seconds": [^,\n]+|\n  "sha256": [^\n]+')

# Imports once. Every run is a fork that is killed after a random time, or left alone; a kill point
# is a fresh run, killed once and then resumed by a fork of the untouched parent.
PROGRAM = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch
from torch import nn
from robust_snn import Victim, evaluate
from robust_snn.eval import AttackSpec, Draws, Suite
from robust_snn.neurons import LIF, StochasticGate

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.neuron = nn.Linear(48, 16), LIF()
        self.gate, self.outer = StochasticGate((16,)), nn.Linear(16, 4)

    def forward(self, x):
        currents = 4 * self.inner(x.flatten(1)).expand(2, -1, -1)
        return self.outer(self.gate(self.neuron(currents))).mean(0)

ROWS = (
    AttackSpec("pgd", "robust_snn", "pgd", eot=2, steps=2, options={"select": 1, "keep": 1}),
    AttackSpec("square", "autoattack", "square", noise="frozen", steps=3),
)
torch.set_num_threads(1)
torch.manual_seed(0)
victim = Victim(Tiny().eval())
images = torch.rand(4, 3, 4, 4)
labels = victim.sample(images, torch.arange(4)).argmax(1)
suite = Suite("tiny", ROWS, draws=Draws(2, 3))

def run(out):
    evaluate(victim, images, labels, suite=suite, out=out, eps=0.02, batch_size=2)

def fork(out, seconds=None):
    child = os.fork()
    if not child:
        run(out)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
lengths = []
for name in ("whole", "again", "and-again"):
    began = time.monotonic()
    assert fork(folder / name) == 0
    lengths.append(time.monotonic() - began)
length, rng, died = sorted(lengths)[1], random.Random(0), 0
while died < kills:
    out = folder / f"killed-{died}"
    if fork(out, length * rng.random()) == signal.SIGKILL:
        died += 1
        assert fork(out) == 0
    else:  # done before the signal came: no kill point
        shutil.rmtree(out)
"""


def timeless(out: Path) -> str:
    return SECONDS.sub('"seconds": 0', (out / "verdict.json").read_text())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_runs_go_on(tmp_path: Path) -> None:
    search = os.pathsep.join((str(Path(__file__).resolve().parents[2]), *sys.path))
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(KILLS)],
        check=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": search, "ROBUST_SNN_BACKEND": "torch"},
    )
    whole = timeless(tmp_path / "whole")
    for number in range(KILLS):
        out = tmp_path / f"killed-{number}"
        assert timeless(out) == whole, f"kill point {number}"
        left = [path.name for path in out.rglob(".*")]
        assert left == [], f"kill point {number} left {left}"
