"""A plain import is light, and registers the models; the command helps before libraries load."""

from __future__ import annotations

import subprocess
import sys

from robust_snn import __version__
from robust_snn.adapters import LIBRARIES

HEAVY = (*LIBRARIES, "matplotlib", "numba", "pyautoattack", "ray", "scipy", "sklearn")

SCRIPT = """
import sys, timm
before = set(sys.modules)
import robust_snn, torch
loaded = {name.split(".")[0] for name in set(sys.modules) - before}
assert not loaded & set(sys.argv[1:]), loaded & set(sys.argv[1:])
assert not torch.cuda.is_initialized()
assert "snn_wrn16_stog" in timm.list_models("snn_*")
"""


def test_import_loads_nothing_heavy_and_registers_the_models() -> None:
    # timm itself may load Triton through PyTorch; what counts is what comes on top of it.
    subprocess.run([sys.executable, "-c", SCRIPT, *HEAVY, "triton"], check=True)


HELP = """
import sys
sys.argv = ["robust-snn"]
from robust_snn.cli import main
for words in ([], ["--version"], ["evaluate", "--help"]):
    try:
        main(words)
    except SystemExit as end:
        assert end.code == 0
assert not {"torch", "timm", "numpy"} & set(sys.modules)
"""


def test_the_command_helps_before_libraries_load() -> None:
    run = [sys.executable, "-c", HELP]
    shown = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert shown.startswith("Usage: robust-snn [OPTIONS] COMMAND")
    assert f"\nrobust-snn {__version__}\nUsage: robust-snn evaluate" in shown
