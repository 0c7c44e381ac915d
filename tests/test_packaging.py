"""What is published says the same everywhere, and stands alone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from helpers import module_from
from robust_snn import __version__

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "https://host.example/owner/robust_snn"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    pytest.importorskip("hatchling", reason="needs hatchling")
    return module_from(ROOT / "hatch_build.py")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_versions_agree() -> None:
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["version"] == __version__
    assert f"## [{__version__}] - {citation['date-released']}" in text_of("CHANGELOG.md")
    assert yaml.safe_load(text_of("conda/recipe.yaml"))["context"]["version"] == __version__
    assert f"version = {{{__version__}}}" in text_of("README.md")


def test_the_conda_recipe_has_every_dependency() -> None:
    block = text_of("pyproject.toml").partition("\ndependencies = [")[2].partition("\n]")[0]
    wanted = set(re.findall(r'^    "([^"]+)"', block, flags=re.MULTILINE))
    run = yaml.safe_load(text_of("conda/recipe.yaml"))["requirements"]["run"]
    given = {each.replace(" ", "").replace("pytorch", "torch") for each in run}
    assert wanted - given == {"pyautoattack>=0.1"}


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_readme_stands_alone(hook: ModuleType, address: str) -> None:
    text = hook.readme(text_of("README.md"), address, "v1")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets and all(target.startswith("https://") for target in targets)
    assert ("![Robust accuracy" in text) == bool(address)
    assert all(url.startswith(address) for url in hook.urls(address).values())


def test_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)]+)\)", text_of("README.md"))
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_source_archive_names_what_is_tracked() -> None:
    """All but links, which would hide the rooms they point to, and settings of tools."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("no repository")
    tops = {path.partition("/")[0] for path in tracked}
    block = text_of("pyproject.toml").partition("only-include = [")[2].partition("]\n")[0]
    named = set(re.findall(r'"([^"]+)"', block))
    left = tops - named - {"adapters", "eval", "kernels", "LICENSE", "pyproject.toml"}
    assert all(name.startswith(".") for name in left), left
