"""Triton without a GPU: the interpreter against the reference, and what compilation yields.

Both need a process of their own, since Triton reads `TRITON_INTERPRET` when it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.cpu_only
HERE = Path(__file__).parent


def _run(arguments: list[str], interpret: bool, tmp_path: Path) -> str:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment["TRITON_INTERPRET"] = "1" if interpret else "0"
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=HERE.parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="this is the inner run")
@pytest.mark.parametrize(
    "file",
    [
        "test_spiking_loop.py",
        pytest.param("test_odd_numbers.py", marks=pytest.mark.slow),
        "test_own_numbers.py",
        "test_fused_sums.py",
        "attention/test_attention.py",
        "test_philox.py",
        pytest.param("test_golden.py", marks=pytest.mark.slow),
        pytest.param("test_reference.py", marks=pytest.mark.slow),
    ],
)
def test_interpreter(file, tmp_path):
    """The tests of every backend, with Triton's kernels on CPU tensors."""
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / file), "-k", "triton"]
    assert "passed" in _run(arguments, True, tmp_path)


_REPORT = """
import json, sys
from dataclasses import asdict
from robust_snn.benchmarks.triton_compile_report import compile_report
cases = json.loads(sys.argv[1])
print(json.dumps([asdict(compile_report(*case)) for case in cases]))
"""


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
def test_compiles_without_spills_at_the_least_traffic(target, tmp_path):
    """Each value of the current and of the gradient is loaded once, in vectors of four or two."""
    pairs = [("bptt", 16), ("compact", 16), ("bptt+gate", 16), ("hart", 4), ("bptr", 8)]
    cases = [
        (kernel, case, target, steps, *how)
        for how, pairs in (
            (("float32", "first"), pairs),
            (
                ("float32", "first"),
                [("bptt+leaks", 16), ("bptt+levels", 16), ("bptt+adapting", 16)],
            ),
            (("bfloat16", "last"), [("bptt", 8), ("bptt", 16), ("bptt+gate", 16)]),
        )
        for case, steps in pairs
        for kernel in ("forward", "backward")
    ]
    reports = json.loads(_run(["-c", _REPORT, json.dumps(cases)], False, tmp_path))
    for found in reports:
        assert found["spills"] == 0, found
        assert found["registers"] <= 255, found
        if found["case"] in ("bptt+gate", "bptt+leaks", "bptt+adapting"):  # they read more vectors
            continue
        saves_bytes = found["case"] in ("bptr", "compact")
        stacks = 2 if found["kernel"] == "backward" and not saves_bytes else 1
        assert found["loads"] == found["steps"] * stacks, found
        assert found["stores"] == found["steps"], found


_ATTENTION = """
import json
from robust_snn.benchmarks.attention_compile_report import attention_report
heads = (24, 96, "fp32", False), (128, 128, "fp32", False), (48, 48, "bf16", True)
reports = [attention_report(t, *head) for t in ("sm_80", "sm_90", "gfx942") for head in heads]
print(json.dumps(reports))
"""


def test_attention_compiles_without_spills(tmp_path):
    for found in json.loads(_run(["-c", _ATTENTION], False, tmp_path)):
        assert found["spills"] == 0 and 0 < found["registers"] <= 255, found
