"""The structure of a checkout in numbers: how far an image travels, and how often a word is used.

    python tools/structure.py [CHECKOUT]

prints a table, then the public names that several modules define, for a person to tell which of
them mean two things. It reads the syntax trees of `CHECKOUT/robust_snn` and runs its code three
times, counting calls of Python functions and the files that they lie in: an image through
`robust-snn evaluate`, a `Victim` forward and backward, and a LIF layer forward and backward. Each
is run once before, so that imports and compilation are not counted.
"""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import re
import statistics
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

# From the ground up; modules of older checkouts beside the room that they went to.
ORDER = (
    "utils errors values disk bar drawing < kernels < gradients < neurons < data < models "
    "< victim victim_scoring < foreign < attacks < adapters < diagnostics < metrics < training "
    "< eval < benchmarks < cli inputs demo doctor"
)
HEIGHT = {room: row for row, rooms in enumerate(ORDER.split("<")) for room in rooms.split()}
Function = ast.FunctionDef | ast.AsyncFunctionDef

SUITE = """
name: structure
source: one step of PGD
attacks:
  - {name: pgd, implementation: robust_snn, attack: pgd, steps: 1}
"""
NARROW = {"T": 4, "width": 0.125, "head_width": 32, "img_size": 16, "in_chans": 1}


class Trace:
    """Counts the calls of Python functions of a package, and the files that they lie in."""

    def __init__(self, package: Path) -> None:
        self.folder = f"{package}/"
        self.calls = 0
        self.files: set[str] = set()

    def _enter(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(self.folder):
            self.calls += 1
            self.files.add(code.co_filename)

    def run(self, work: Callable[[], object]) -> Trace:
        """Runs the work twice and counts the second time."""
        work()
        threading.setprofile(self._enter)
        sys.setprofile(self._enter)
        try:
            work()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
        return self

    def __str__(self) -> str:
        return f"{len(self.files)} files, {self.calls} calls"


def evaluate_an_image() -> None:
    """`robust-snn evaluate` on one digit, with one attack of one step."""
    from robust_snn.cli import main

    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder, "structure.yaml")
        suite.write_text(SUITE, encoding="utf-8")
        words = ["evaluate", "--model", "snn_vgg5.digits", "--data", "digits", "-n", "1", "--quiet"]
        words += ["--suite", str(suite), "--eps", "0.1", "--out", f"{folder}/run"]
        shown = io.StringIO()
        try:
            with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
                main(words)
        except SystemExit as done:
            if done.code:
                raise RuntimeError(shown.getvalue()) from done


def travels(package: Path) -> Iterator[tuple[str, Trace]]:
    """How many files and calls an image, a victim and a layer take."""
    import timm
    import torch

    import robust_snn

    if not Path(robust_snn.__file__).is_relative_to(package):
        raise RuntimeError(f"{robust_snn.__file__} was imported, not the package in {package}")
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    net = timm.create_model("snn_vgg5", num_classes=10, **NARROW)
    victim, image = robust_snn.Victim(net.eval()), torch.rand(1, 1, 16, 16, requires_grad=True)
    layer, current = robust_snn.neurons.LIF(), torch.rand(4, 1, 64, requires_grad=True)
    yield "an image through `robust-snn evaluate`", Trace(package).run(evaluate_an_image)
    work = {
        "`Victim`, forward and backward": lambda: victim(image).sum().backward(),
        "a LIF layer, forward and backward": lambda: layer(current).sum().backward(),
    }
    for what, pass_ in work.items():
        yield what, Trace(package).run(pass_)


def parameters(function: Function) -> int:
    """Number of named parameters."""
    a = function.args
    return len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs)


def public_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What a module defines at its top without an underscore: ("function", name) and so on."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield "class", node.name
        elif isinstance(node, Function):
            yield "function", node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = (n for target in targets for n in ast.walk(target))
            yield from (("constant", n.id) for n in names if isinstance(n, ast.Name))


def upward(path: Path, tree: ast.Module) -> int:
    """Imports from a room above the file's own; the package itself is above all of them."""
    own = HEIGHT.get(path.with_suffix("").parts[1], len(HEIGHT))
    found = 0
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms = [(*name.split("."), "")[1] for name in names if name.split(".")[0] == "robust_snn"]
        found += sum(HEIGHT.get(room, len(HEIGHT)) > own for room in rooms)
    return found


def several(where: dict[str, list[str]]) -> dict[str, list[str]]:
    """The names that more than one module defines, with these modules.

    Mirrored modules count as one: the backends of a kernel, the libraries of spiking networks, and
    a command with the function that it runs.
    """
    found = {}
    for name, modules in sorted(where.items()):
        kinds = {re.sub("numba|triton|spikingjelly|snntorch", "*", module) for module in modules}
        if len({kind for kind in kinds if not kind.startswith("cli/")}) > 1:
            found[name] = modules
    return found


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()
    sys.path.insert(0, str(root))
    texts = {p.relative_to(root): p.read_text("utf-8") for p in (root / "robust_snn").rglob("*.py")}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = [text.count("\n") for text in texts.values()]
    counts = [parameters(n) for t in trees.values() for n in ast.walk(t) if isinstance(n, Function)]
    where: dict[str, list[str]] = defaultdict(list)
    constants: dict[str, list[str]] = defaultdict(list)
    cases: dict[str, set[str]] = defaultdict(set)
    for path, tree in sorted(trees.items()):
        module = path.relative_to("robust_snn").with_suffix("").as_posix()
        for kind, name in set(public_names(tree)):
            if not name.startswith("_"):
                (constants if kind == "constant" else where)[name].append(module)
            if kind == "class":
                cases[name.lower()].add(name)
    eval_levels = [len(list(p.parent.glob("*.py"))) for p in (root / "robust_snn/eval").rglob("*")]
    rows: list[tuple[str, object]] = [
        ("files of the package", len(lines)),
        ("lines", sum(lines)),
        ("lines of the median and the largest file", f"{statistics.median(lines):g}, {max(lines)}"),
        *travels(root / "robust_snn"),
        ("functions with more than 8 parameters", sum(n > 8 for n in counts)),
        ("functions with more than 12 parameters", sum(n > 12 for n in counts)),
        ("public functions and classes that several modules define", len(several(where))),
        ("public constants that several modules define", len(several(constants))),
        ("classes whose names differ by case alone", sum(len(n) > 1 for n in cases.values())),
        ("files of `eval/` at one level, at most", max(eval_levels)),
        ("context variables", sum(text.count("= ContextVar") for text in texts.values())),
        ("imports that point upwards", sum(upward(*item) for item in trees.items())),
    ]
    print("| what | number |\n|---|---|")
    for what, number in rows:
        print(f"| {what} | {number} |")
    print("\nDefined in several modules:")
    for name, modules in (several(where) | several(constants)).items():
        print(f"  {name}: {', '.join(modules)}")


if __name__ == "__main__":
    main()
