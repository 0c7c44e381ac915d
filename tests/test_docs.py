"""The code on the page of one's own networks runs, and its refusals are those of the package."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from robust_snn import cli
from robust_snn.data import load_dataset
from robust_snn.gradients import MODES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "your-own-network.md"
SOURCES = "".join(path.read_text() for path in sorted((ROOT / "robust_snn").rglob("*.py")))
OPTIONAL = ("norse", "sinabs", "snntorch", "spikingjelly", "nir")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """Code of a page: its language, and itself."""

    language: str
    code: str


def sections(page: Path) -> dict[str, list[Block]]:
    """The blocks of code under every heading."""
    start, *parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {
        heading: [Block(*match.groups()) for match in FENCE.finditer(text)]
        for heading, text in zip(["Start", *parts[::2]], [start, *parts[1::2]], strict=True)
    }
    return {heading: blocks for heading, blocks in found.items() if blocks}


def runnable(page: Path) -> dict[str, list[Block]]:
    """The blocks under every heading, after the classes of the first block, which all use."""
    first, *others = sections(page).items()
    return dict([first]) | {heading: [first[1][0], *blocks] for heading, blocks in others}


def execute(blocks: list[Block]) -> None:
    """Runs blocks one after the other, as somebody would who has `images` and `labels`.

    A block that begins with a comment such as `# own.py` is a file. Commands run in this process.
    """
    data = load_dataset("digits", n=12)
    names: dict[str, Any] = {"images": data.images, "labels": data.labels, "__name__": "page"}
    torch.manual_seed(0)
    for language, code in blocks:
        if (file := re.match(r"# (\S+\.(?:py|yaml))\n", code)) is not None:
            Path(file[1]).write_text(code)
        elif language == "python":
            exec(compile(code, "page", "exec"), names)
        elif language == "sh":
            for line in code.replace("\\\n", " ").strip().splitlines():
                with pytest.raises(SystemExit) as left:
                    cli.main(line.removeprefix("robust-snn ").split())
                assert left.value.code == 0, line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder; modules of the page are unknown to other tests."""
    monkeypatch.chdir(tmp_path)
    for name in ("my_nets", "my_layers", "my_attack", "your_network"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("robust_snn.utils.user_code._loaded", {})
    monkeypatch.setattr("robust_snn.foreign.library._REGISTERED", {})


@pytest.mark.parametrize("heading", runnable(PAGE))
def test_the_page_runs(folder: None, heading: str) -> None:
    blocks = runnable(PAGE)[heading]
    for library in OPTIONAL:
        if any(re.search(rf"\b(import|from) {library}\b", code) for _, code in blocks):
            pytest.importorskip(library, reason=f"needs {library}")
    execute(blocks)


@pytest.mark.parametrize("page", ["index", "gradient-modes", "noisy-networks"])
def test_short_pages_run(folder: None, page: str) -> None:
    for blocks in sections(ROOT / "docs" / f"{page}.md").values():
        execute(blocks)


def test_the_first_example_of_the_readme_runs(
    folder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next(iter(sections(ROOT / "README.md").values()))
    Path("your_network.py").write_text(sections(PAGE)["Start"][0].code)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    execute(first)
    assert Path("runs/own/verdict.json").exists() and Path("runs/shell/verdict.json").exists()


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
