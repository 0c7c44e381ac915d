"""Blocks of code of pages, run or parsed: what the docs show is what the program does."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
import typer.main

from robust_snn import cli
from robust_snn.cli.app import app
from robust_snn.data import load_dataset
from robust_snn.eval import load_suite
from robust_snn.utils.user_function import is_reference

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md") + tuple(
    path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))
)
PARSED = "<!-- parsed, not run -->\n"  # in front of a block that takes long, or files we lack
FENCE = re.compile(rf"^({PARSED})?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^ *(robust-snn|pip|python|make|torchrun) ", re.MULTILINE)


class Block(NamedTuple):
    """Code of a page: its language, itself, and whether it runs here."""

    language: str
    code: str
    runs: bool


def blocks(text: str) -> list[Block]:
    """All blocks of a page, in order."""
    return [Block(kind, code, not parsed) for parsed, kind, code in FENCE.findall(text)]


def sections(page: Path) -> dict[str, list[Block]]:
    """The blocks of code that run, under every heading."""
    start, *parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {
        heading: [block for block in blocks(text) if block.runs]
        for heading, text in zip(["Start", *parts[::2]], [start, *parts[1::2]], strict=True)
    }
    return {heading: blocks for heading, blocks in found.items() if blocks}


def execute(blocks: list[Block]) -> None:
    """Runs blocks one after the other, as somebody would who has `images` and `labels`.

    A block that begins with a comment such as `# own.py` is a file. Commands run in this process.
    """
    data = load_dataset("digits", n=12)
    names: dict[str, Any] = {"images": data.images, "labels": data.labels, "__name__": "page"}
    torch.manual_seed(0)
    for language, code, _ in blocks:
        if (file := re.match(r"# (\S+\.(?:py|yaml))\n", code)) is not None:
            Path(file[1]).write_text(code)
        elif language == "python":
            exec(compile(code, "page", "exec"), names)
        elif language == "sh":
            for words, comment in commands(code):
                expected = re.search(r"exit code (\d)", comment)
                assert run(words) == int(expected[1] if expected else 0), words


def commands(code: str) -> list[tuple[list[str], str]]:
    """The words of every command of a block, without what starts it elsewhere, and its comment."""
    found = []
    for line in code.replace("\\\n", " ").strip().splitlines():
        command, _, comment = line.partition(" #")
        if words := shlex.split(command, comments=True):
            found.append((words, comment))
    return found


def run(words: list[str]) -> int:
    """The exit code of a command."""
    if words[0] == "python":
        runpy.run_path(words[1], run_name="__main__")
        return 0
    assert words[0] == "robust-snn", words
    with pytest.raises(SystemExit) as left:
        cli.main(words[1:])
    return int(left.value.code or 0)


def check(block: Block) -> None:
    """Checks a block that is not run: code compiles, commands have such options and names."""
    if block.language == "python":
        compile(block.code, "page", "exec")
    if block.language != "sh":
        return
    for words, _ in commands(block.code):
        if "robust-snn" in words:
            check_command(words[words.index("robust-snn") + 1 :])
        elif words[0] == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), words
        elif words[0].endswith("python") and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), words


def check_command(words: list[str]) -> None:
    """Parses a command of ours, whose suite and model must exist unless they are files."""
    group: Any = typer.main.get_command(app)
    name, *arguments = cli.joined(words)
    with group.make_context("robust-snn", [name], resilient_parsing=True) as above:
        given = group.commands[name].make_context(name, arguments, parent=above).params
    suite, model = given.get("suite"), given.get("model")
    if isinstance(suite, str) and not suite.endswith(".yaml"):
        load_suite(suite)
    if isinstance(model, str) and not is_reference(model) and not model.endswith(".nir"):
        assert timm.is_model(model.split(".")[0]), model
