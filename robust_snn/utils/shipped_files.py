"""YAML files by name: those of the package, and a user's own by their path."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from robust_snn.utils.errors import unknown
from robust_snn.utils.file_texts import read_text


def shipped_names(package: str | None, folder: str) -> tuple[str, ...]:
    """Names of the YAML files in a folder of a package."""
    entries = (files(package or "") / folder).iterdir()
    return tuple(sorted(Path(e.name).stem for e in entries if e.name.endswith(".yaml")))


def yaml_text(
    name: str, kind: str, package: str | None, folder: str, also: Iterable[str] = ()
) -> str:
    """Text of a file of the package by name, or of a user's own by its path.

    Args:
        name: The name or path.
        kind: What it is, such as `"suite"`.
        package: Package that ships some.
        folder: Its folder of them.
        also: Other names that a message offers.

    Raises:
        InputError: If there is none, or it cannot be read.
    """
    if name in (known := shipped_names(package, folder)):
        return (files(package or "") / folder / f"{name}.yaml").read_text(encoding="utf-8")
    if Path(name).suffix in (".yaml", ".yml"):
        return read_text(Path(name), f"the {kind}")
    raise unknown(kind, name, (*known, *also))
