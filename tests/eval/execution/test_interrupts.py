"""Commands that are ended at random moments resume, and leave no process; see `kill_at_random`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kill_at_random

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_commands_that_are_ended(tmp_path: Path) -> None:
    search = os.pathsep.join((str(ROOT), str(ROOT / "tests"), *sys.path))
    counts = ("--kills", "0", "--interrupts", "4", "--with-workers", "3")
    done = subprocess.run(
        [sys.executable, kill_at_random.__file__, str(tmp_path), *counts],
        capture_output=True,
        text=True,
        timeout=800,
        env={**os.environ, "PYTHONPATH": search, "ROBUST_SNN_BACKEND": "torch"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sum(int(line.split()[0]) for line in done.stdout.splitlines()) == 7


@pytest.mark.slow
def test_ctrl_c_while_libraries_load(tmp_path: Path) -> None:
    """The command has no line of its own yet, and still ends by one."""
    program = tmp_path / "robust-snn"
    program.write_text(
        "import os, signal, sys\n"
        "class Loading:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Loading())\n"
        "from robust_snn.cli import main\n"
        "main(['doctor'])\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    line = "robust-snn: interrupted; start the same command again to resume\n"
    assert (done.returncode, done.stderr) == (1, line)
