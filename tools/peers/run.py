"""Runs the tests of timm, torchattacks, foolbox and ART on our networks and adapters.

    python tools/peers/run.py --timm ../pytorch-image-models --art ../adversarial-robustness-toolbox

Each library's tests come from a checkout of its repository, given by an option or by an environment
variable such as `ROBUST_SNN_TIMM`, with the library that lies in it. What is not given is skipped,
and so is a checkout without the tests. `expected_failures.yaml` lists the tests that fail
for a reason; any other failure, and a listed test that passes, ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


class Peer(NamedTuple):
    """A library whose tests run here.

    Attributes:
        tests: Files of its repository.
        options: Options of pytest.
    """

    tests: tuple[str, ...]
    options: tuple[str, ...] = ()


ART_FIXTURES = (
    *("auto_attack", "auto_conjugate_gradient", "auto_projected_gradient_descent", "boundary"),
    *("brendel_and_bethge", "fast_gradient", "momentum_iterative_method"),
    *("rescaling_auto_conjugate_gradient", "shadow_attack", "sign_opt", "square_attack"),
)
ART_CASES = (
    *("carlini", "deepfool", "elastic_net", "hop_skip_jump", "pixel_attack"),
    *("projected_gradient_descent", "simba", "spatial_transformation", "threshold_attack"),
)
PEERS = {
    "timm": Peer(("tests/test_models.py",)),
    "torchattacks": Peer(("code_coverage/test_atks.py",)),
    "foolbox": Peer(
        (
            "tests/test_attacks.py",
            "tests/test_attacks_base.py",
            "tests/test_attacks_raise.py",
            "tests/test_binarization_attack.py",
            "tests/test_brendel_bethge_attack.py",
            "tests/test_dataset_attack.py",
            "tests/test_eot_wrapper.py",
            "tests/test_fast_minimum_norm_attack.py",
            "tests/test_hsj_attack.py",
            "tests/test_models.py",
            "tests/test_pointwise_attack.py",
            "tests/test_spatial_attack.py",
        )
    ),
    "art": Peer(
        (  # those whose images are upright; in others ART turns MNIST round, as its own network is
            *(f"tests/attacks/evasion/test_{name}.py" for name in ART_FIXTURES),
            *(f"tests/attacks/test_{name}.py" for name in ART_CASES),
            "tests/estimators/classification/test_deeplearning_common.py",
        ),
        ("--framework=pytorch",),
    ),
}


def main() -> int:
    """Runs what was given, one library after the other; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in PEERS:
        parser.add_argument(f"--{name}", default=os.environ.get(f"ROBUST_SNN_{name.upper()}"))
    given, outcomes = vars(parser.parse_args()), dict[str, str]()
    for name, peer in PEERS.items():
        outcomes[name] = why_not(given[name], peer) or run(name, Path(given[name]), peer)
    for name, outcome in outcomes.items():
        print(f"{name:14}{outcome}")
    return int("FAILED" in outcomes.values())


def why_not(folder: str | None, peer: Peer) -> str:
    """Why a library's tests are skipped; nothing if they run."""
    if not folder:
        return "skipped: no checkout given"
    missing = [path for path in peer.tests if not Path(folder, path).is_file()]
    return f"skipped: {folder} has no {missing[0]}" if missing else ""


def run(name: str, folder: Path, peer: Peer) -> str:
    """Runs a library's tests in its checkout, where nothing is written."""
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    environment = {
        **os.environ,
        "ROBUST_SNN_PEER": name,
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    plugins = ("-p", "peer_plugin", "-p", "no:cacheprovider", "-o", "addopts=")
    command = [sys.executable, "-m", "pytest", *plugins, "-q", "--tb=short", "-rfE"]
    done = subprocess.run([*command, *peer.options, *peer.tests], cwd=folder, env=environment)
    return "passed" if done.returncode == 0 else "FAILED"


if __name__ == "__main__":
    sys.exit(main())
