"""The order of the rooms, one name for one file, and tests that mirror the rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = [path.relative_to(ROOT) for path in sorted((ROOT / "robust_snn").rglob("*.py"))]

# A room imports from itself and from the rooms before it; the package itself from all of them.
ROOMS = (
    "utils < kernels < gradients < neurons < data < models < "
    "victim < foreign < export < attacks < adapters < diagnostics < "
    "certificates < metrics < training < eval.protocol < eval.scoring < eval.execution < "
    "eval.submission < eval.reporting < eval < benchmarks < cli"
)
ORDER = {f"robust_snn.{room}": height for height, room in enumerate(ROOMS.split(" < "))}
ORDER["robust_snn"] = len(ORDER)

# Tests of the repository rather than of a room.
REPOSITORY = {
    "test_at_full_size",
    "test_contributing",
    "test_devices",
    "test_docs",
    "test_helpers",
    "test_import",
    "test_notebooks",
    "test_packaging",
    "test_rooms",
    "test_scripts",
    "test_site",
}


def height(module: str) -> int:
    """The height of the room of a module, or of a name in it."""
    while module not in ORDER:
        module = module.rpartition(".")[0]
    return ORDER[module]


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Every import of ours in a file, at its top or inside a function: (module, imported name)."""
    *package, stem = path.with_suffix("").parts
    module = ".".join([*package, stem] if stem != "__init__" else package)
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = package[: len(package) + 1 - node.level] if node.level else []
            source = [*source, *filter(None, [node.module])]
            names = [".".join([*source, alias.name]) for alias in node.names]
        yield from ((module, name) for name in names if name.split(".")[0] == "robust_snn")


def test_every_import_points_downwards() -> None:
    pairs = {pair for path in FILES for pair in imports(path)}
    assert not {pair for pair in pairs if height(pair[0]) < height(pair[1])}


def test_every_module_has_a_room() -> None:
    tops = {path.with_suffix("").parts[1] for path in FILES} - {"__init__"}
    assert tops <= {room.split(".")[0] for room in ROOMS.split(" < ")}


def test_file_names_are_unique() -> None:
    """But for mirrored pairs: a command and the room it runs, one kernel in several backends."""
    seen: dict[str, list[Path]] = {}
    for path in FILES:
        if path.stem != "__init__" and path.parts[1] != "cli":
            seen.setdefault(path.stem, []).append(path)
    twice = {stem: paths for stem, paths in seen.items() if len(paths) > 1}
    in_kernels = {
        stem for stem, paths in twice.items() if {p.parts[1] for p in paths} == {"kernels"}
    }
    assert not set(twice) - in_kernels


def test_tests_mirror_the_rooms() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        room = Path("robust_snn", *path.relative_to(ROOT / "tests").parts[:-1])
        of_all = room.name == "fuzz"  # wrong input for every room
        assert of_all or (ROOT / room).is_dir(), f"{path}: there is no room {room}"
        if room == Path("robust_snn") and path.stem not in REPOSITORY:
            module = room / f"{path.stem.removeprefix('test_')}.py"
            assert module in FILES, f"{path}: there is no module {module}"
