"""CONTRIBUTING is true: every kind of addition, made as its row says, passes the tests it names.

One copy of the repository gets a dummy of every kind: the file that the row names, a row in the
table that it names, and a row (or a file) of tests. Then pytest runs the dummies' tests there.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from additions import ADDITIONS, Addition

ROOT = Path(__file__).resolve().parents[1]
CELLS = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
TABLE = re.compile(r"`([\w.\-]+|\[[\w.\-]+\])` in `([^`]+)`")  # `ROWS` in `tests/test_x.py`


def documented() -> dict[str, tuple[str, str, str]]:
    """New file, registry rows and tests of every kind of addition, as CONTRIBUTING has them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## Add something")[2].partition("\n## ")[0]
    rows = [tuple(cell.strip() for cell in row) for row in CELLS.findall(section)]
    return {what: (file, rows, tests) for what, file, rows, tests in rows[1:]}


def defined(node: ast.stmt) -> str:
    """The class or the variable that a statement defines."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
    return node.name if isinstance(node, ast.ClassDef) else ""


def add_row(path: Path, table: str, row: str, before: str) -> None:
    """Adds a row to a table of a Python file, and text (an import, a class) in front of the table.

    The row becomes the last element of the literal that the table is, or is made from.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    body = ast.parse("".join(lines)).body
    (statement,) = (node for node in body if defined(node) == table)
    if isinstance(statement, ast.ClassDef):  # an enumeration
        lines.insert(statement.end_lineno, f"    {row}\n")
        path.write_text("".join(lines), encoding="utf-8")
        return
    literal = statement.value
    if isinstance(literal, ast.DictComp):
        literal = literal.generators[0].iter
    assert isinstance(literal, ast.Dict | ast.List | ast.Tuple | ast.Set), f"{table} in {path}"
    end, column = literal.end_lineno - 1, literal.end_col_offset - 1
    text = "".join(lines[:end]) + lines[end][:column].rstrip()
    comma = "" if text.rstrip().endswith((",", "{", "[", "(")) else ","
    text = f"{text}{comma} {row},{lines[end][column:]}" + "".join(lines[end + 1 :])
    lines = text.splitlines(keepends=True)
    start = statement.lineno - 1
    path.write_text("".join([*lines[:start], f"{before}\n\n", *lines[start:]]), encoding="utf-8")


def add(copy: Path, addition: Addition, file: str, registry: str, tests: str) -> set[str]:
    """Makes an addition as documented, and returns the files of its tests."""
    if addition.file:
        path = copy / file.strip("`").replace("NAME", addition.name)
        assert path.parent.is_dir() and not path.exists(), path
        path.write_text(addition.file, encoding="utf-8")
    else:
        assert file == "none"
    tables = TABLE.findall(registry)
    assert len(tables) == len(addition.rows), registry
    for edit in addition.edits:
        text = (copy / edit.path).read_text(encoding="utf-8")
        assert f"`{edit.path}`" in registry and text.count(edit.mark) == 1, edit
        text = text.replace(edit.mark, edit.text + edit.mark)
        (copy / edit.path).write_text(text, encoding="utf-8")
    for number, ((table, name), row) in enumerate(zip(tables, addition.rows, strict=True), 1):
        path = copy / name
        if table == "import":
            path.write_text(path.read_text(encoding="utf-8") + f"{row}\n", encoding="utf-8")
        elif table.startswith("["):
            text = path.read_text(encoding="utf-8")
            assert text.count(table) == 1
            path.write_text(text.replace(table, f"{table}\n{row}"), encoding="utf-8")
        else:
            add_row(path, table, row, addition.before if number == len(tables) else "")
    if table := TABLE.match(tests):
        add_row(copy / table[2], table[1], addition.test, addition.before_test)
        return {table[2]}
    name = tests.strip("`").replace("NAME", addition.name)
    if "NAME" in tests:
        assert (copy / name).parent.is_dir() and not (copy / name).exists()
        (copy / name).write_text(addition.test, encoding="utf-8")
    assert (copy / name).is_file(), f"CONTRIBUTING names no test file: {tests}"
    return {name}


def test_every_kind_of_addition_is_tried() -> None:
    assert set(documented()) == set(ADDITIONS)


@pytest.mark.slow
def test_every_kind_of_addition_passes_its_tests(tmp_path: Path) -> None:
    for name in ("robust_snn", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("CONTRIBUTING.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    files: set[str] = set()
    for what, cells in documented().items():
        files |= add(tmp_path, ADDITIONS[what], *cells)
    wanted = " or ".join(f"({a.select or a.name})" for a in ADDITIONS.values())
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", wanted]
        + ["--junitxml=report.xml", *sorted(files)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    cases = ElementTree.parse(tmp_path / "report.xml").iter("testcase")
    passed = [f"{case.get('classname')} {case.get('name')}" for case in cases if not len(case)]
    for what, addition in ADDITIONS.items():
        assert any(addition.name in test for test in passed), f"no test of the new {what} ran"


PAGES = ["CONTRIBUTING.md", "README.md", "benchmarks/README.md", *sorted(os.listdir(ROOT / "docs"))]
# in backticks, or the target of a link
PATH = re.compile(r"(?:`|\]\()([\w\-]+(?:/[\w\-.]+)+/?)[`)]")


@pytest.mark.parametrize("page", [page for page in PAGES if page.endswith(".md")])
def test_paths_in_the_docs_exist(page: str) -> None:
    path = ROOT / page if (ROOT / page).is_file() else ROOT / "docs" / page
    names = set(PATH.findall(path.read_text(encoding="utf-8")))
    roots = (ROOT, ROOT / "robust_snn", path.parent)
    missing = {name for name in names if not any((root / name).exists() for root in roots)}
    made = ("runs/", "build/")
    assert not {name for name in missing if "NAME" not in name and not name.startswith(made)}
