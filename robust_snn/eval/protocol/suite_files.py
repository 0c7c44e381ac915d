"""Suites as YAML files: those of the package by name, and a user's own by path.

    name: mine
    source: where the protocol comes from, and how this differs from it
    norm: Linf
    eps: 8/255
    draws: {select: 100, report: 20}
    attacks:
      - {name: apgd-ce, implementation: autoattack, attack: apgd-ce, eot: 20, steps: 100}

The keys are the fields of `Suite`, those of an attack the fields of `AttackSpec`. `budget: small`
instead of attacks, or before them, lets a probe of the victim choose. Unknown keys are refused. A
row may name an attack of the user's own, `implementation: file.py:attack`: whoever runs such a
suite runs the code of that file, which is looked for beside the suite first. So is the file of
adversarial images that somebody made elsewhere, `implementation: images`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from robust_snn.eval.protocol.given_images import is_given
from robust_snn.eval.protocol.suite import AttackSpec, Draws, Suite
from robust_snn.eval.protocol.sweep_axes import parse_axes
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.file_texts import parse_yaml
from robust_snn.utils.shipped_files import shipped_names, yaml_text
from robust_snn.utils.user_function import absolute_reference, is_reference
from robust_snn.utils.values import number

ALIASES = {"adaptive": "adaptive-medium"}
T = TypeVar("T")


def shipped_suites() -> tuple[str, ...]:
    """Names of the suites in the package."""
    return shipped_names(__package__, "suites")


def load_suite(suite: str | Path | Suite) -> Suite:
    """Reads a suite of the package by name, or a user's own by path.

    Raises:
        InputError: If there is none, or it does not follow the schema.
    """
    if isinstance(suite, Suite):
        return suite
    suite = ALIASES.get(str(suite), suite)
    text = yaml_text(str(suite), "suite", __package__, "suites", also=ALIASES)
    read = parse_suite(text, str(suite))
    own = str(suite) not in shipped_suites()
    return _with_files_of(Path(suite).parent, read) if own else read


def _with_files_of(folder: Path, suite: Suite) -> Suite:
    """The suite with a user's attacks and images looked for beside it first."""

    def found(row: AttackSpec) -> AttackSpec:
        if is_reference(row.implementation):
            return replace(row, implementation=absolute_reference(row.implementation, folder))
        beside = folder / row.attack
        if is_given(row) and beside.exists():
            return replace(row, attack=str(beside.absolute()))
        return row

    return replace(suite, attacks=tuple(map(found, suite.attacks)))


def parse_suite(text: str, where: str) -> Suite:
    """Reads a suite from YAML.

    Args:
        text: The YAML.
        where: What messages call it.

    Raises:
        InputError: If it does not follow the schema.
    """
    tree = mapping(parse_yaml(text, f"suite '{where}'"), f"suite '{where}'")
    rows = tree.get("attacks", [] if "budget" in tree else None)
    if not isinstance(rows, list):
        raise InputError(f"suite '{where}' needs 'attacks', a list")
    tree["attacks"] = tuple(
        built(AttackSpec, row, f"attack {number} of suite '{where}'")
        for number, row in enumerate(rows, 1)
    )
    tree["draws"] = built(Draws, tree.get("draws", {}), f"'draws' of suite '{where}'")
    tree["sweep"] = parse_axes(tree.get("sweep", {}), f"'sweep' of suite '{where}'")
    if "eps" in tree:
        tree["eps"] = number(tree["eps"], f"eps of suite '{where}'")
    return built(Suite, tree, f"suite '{where}'")


def mapping(value: Any, where: str) -> dict[str, Any]:
    """A copy of a mapping whose keys are texts; `where` names it in the error."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{where} must be a mapping from names to values, got {value!r:.60}")
    return dict(value)


def built(cls: type[T], value: Any, where: str) -> T:
    """A dataclass from a mapping whose keys are its fields."""
    value = mapping(value, where)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in value:
        if key not in known:
            raise unknown(f"key of {where}", key, known)
    for key, f in known.items():
        if key not in value and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(f"{where} needs '{key}'")
    return cls(**value)
