"""Every block of code in README and docs runs, or is parsed; refusals are those of the package."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from pages import COMMAND, FENCE, PAGES, ROOT, Block, blocks, check, execute, sections
from robust_snn.gradients import MODES

PAGE = ROOT / "docs" / "your-own-network.md"
SOURCES = "".join(path.read_text() for path in sorted((ROOT / "robust_snn").rglob("*.py")))
METHODS = (
    "StoG",
    "DLIF",
    "MS-MPPD",
    "NSNN",
    "BPTR",
    "RGA",
    "HART",
    "PDSG",
    "ASSG",
    "SA-PGD",
    "EOT",
)
METHODS += ("TET", "RAT", "TASAD")
OPTIONAL = ("norse", "sinabs", "snntorch", "spikingjelly", "nir", "torchattacks")


def runnable(page: Path) -> dict[str, list[Block]]:
    """The blocks under every heading, after the classes of the first block, which all use."""
    first, *others = sections(page).items()
    return dict([first]) | {heading: [first[1][0], *found] for heading, found in others}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder; modules of the page are unknown to other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_nets", "my_layers", "my_attack", "your_network"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("robust_snn.utils.user_code._loaded", {})
    monkeypatch.setattr("robust_snn.foreign.library._REGISTERED", {})


@pytest.mark.parametrize("heading", runnable(PAGE))
def test_the_page_runs(folder: None, heading: str) -> None:
    found = runnable(PAGE)[heading]
    for library in OPTIONAL:
        if any(re.search(rf"\b(import|from) {library}\b", block.code) for block in found):
            pytest.importorskip(library, reason=f"needs {library}")
    execute(found)


@pytest.mark.parametrize("page", [page for page in PAGES if "your-own" not in page])
def test_pages_run(folder: None, page: str) -> None:
    """All blocks of a page, one after the other."""
    found = blocks((ROOT / page).read_text(encoding="utf-8"))
    for block in found:
        if not block.runs:
            check(block)
    execute([block for block in found if block.runs])


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_in_text(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = "".join(block.code for block in blocks(text) if block.language == "text")
    indented = "\n".join(re.findall("^    .*$", FENCE.sub("", text), flags=re.MULTILINE))
    assert COMMAND.search(shown + indented) is None


def test_refusals_are_quoted_as_they_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text.partition("## What a refusal means")[2].partition("\n## ")[0]
    quoted = re.findall(r"^\| `([^`]+)`", table, flags=re.MULTILINE)
    assert len(quoted) > 10
    for message in quoted:
        for part in filter(None, (part.strip() for part in message.split("..."))):
            assert part in re.sub(r'"\s*\n\s*f?"', "", SOURCES), part


@pytest.mark.parametrize("name", MODES)
def test_every_gradient_mode_is_spelt_out(name: str) -> None:
    assert f"| {name.upper()} |" in (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", METHODS)
def test_every_named_method_has_a_source(name: str) -> None:
    """Named in the README, and a row of the page of methods with a link."""
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if re.match(rf"\| [^|]*(?<![\w-]){name}\b", row)]
    assert rows and "](https://" in rows[0], rows
    assert re.search(rf"(?<![\w-]){name}\b", (ROOT / "README.md").read_text(encoding="utf-8"))
