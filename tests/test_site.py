"""The documentation site: every page has a place, names are the program's, and it builds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import timm

from helpers import module_from
from robust_snn.eval.protocol.suite_files import shipped_suites
from robust_snn.gradients import MODES, SURROGATES

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return module_from(ROOT / "tools/site/reference.py")


def test_every_page_has_a_place(reference: ModuleType) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    made = [path.name for path in (ROOT / "docs").glob("*.md")] + list(reference.pages())
    made += [f"notebooks/{path.stem}.md" for path in (ROOT / "examples").glob("notebooks/*.ipynb")]
    assert [page for page in made if f": {page}\n" not in navigation] == []


def test_the_reference_has_every_name(reference: ModuleType) -> None:
    pages = reference.pages()
    names = (*shipped_suites(), *MODES, *SURROGATES)
    missing = [name for name in names if f"| `{name}` |" not in pages["reference/names.md"]]
    models = [
        name for name in timm.list_models("snn_*") if name not in pages["reference/models.md"]
    ]
    assert missing == [] and models == []
    assert pages["reference/commands.md"].count("Usage: robust-snn ") == 15
    assert "|  |" not in pages["reference/names.md"]  # each says what it is


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    """Twenty seconds: warnings are errors, and every link is checked."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    pytest.importorskip("mkdocstrings", reason="needs the extra docs")
    words = ["mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True)
    assert (tmp_path / "site" / "reference" / "api" / "verdict.html").exists()
