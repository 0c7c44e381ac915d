"""The scripts outside of the package, whose names of ours must exist; `main` is not run."""

from __future__ import annotations

import ast
import os
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from pages import check_command

ROOT = Path(__file__).resolve().parents[1]
# scripts without `main` run as a whole: tests/adapters/test_examples.py
SCRIPTS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("examples", "studies", "tools")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "def main(" in path.read_text(encoding="utf-8")
]
SOURCE = """
class Layer:
    def call(self, a, b, *c, d=1, **e): ...
X = _Y = 1
def f(a): ...
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_imported(script: str) -> None:
    assert callable(runpy.run_path(str(ROOT / script), run_name="script")["main"])


def test_what_tools_structure_counts() -> None:
    structure = runpy.run_path(str(ROOT / "tools" / "structure.py"), run_name="script")
    tree = ast.parse(SOURCE)
    names = [("class", "Layer"), ("constant", "X"), ("constant", "_Y"), ("function", "f")]
    assert list(structure["public_names"](tree)) == names
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    counts = {node.name: structure["parameters"](node) for node in functions}
    assert counts == {"f": 1, "call": 4}
    tree = ast.parse("from robust_snn.eval import sweep\nimport robust_snn\nimport torch")
    assert structure["upward"](Path("robust_snn/attacks/pgd.py"), tree) == 2
    where = {"run": ["kernels/numba/launch", "kernels/triton/launch"], "T": ["a", "b"]}
    assert structure["several"](where) == {"T": ["a", "b"]}


CLUSTER = sorted((ROOT / "examples" / "cluster").iterdir())


@pytest.mark.parametrize("path", CLUSTER, ids=lambda path: path.name)
def test_files_for_clusters(path: Path) -> None:
    """Scripts are valid for a shell, a manifest is YAML, and their commands are those of ours."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        job = yaml.safe_load(text)["spec"]
        cluster, text = job["rayClusterSpec"], job["entrypoint"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        for pod in (group["template"]["spec"] for group in groups):
            names = {volume["name"] for volume in pod["volumes"]}
            (container,) = pod["containers"]
            assert {mount["name"] for mount in container["volumeMounts"]} == names
    elif os.name == "posix":
        subprocess.run(["sh", "-n", str(path)], check=True)  # noqa: S607
    lines = text.replace("\\\n", " ").splitlines()
    (command,) = (line for line in lines if "robust-snn " in line and not line.startswith("#"))
    check_command(shlex.split(command.partition("robust-snn ")[2]))
