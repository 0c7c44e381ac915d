"""YAML and JSON that other people wrote: whatever is wrong with it is one `InputError`."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import yaml

from robust_snn.utils.errors import InputError, reason_of
from robust_snn.utils.user_files import is_there

LARGEST = 64 * 2**20  # bytes of a text that a person or this package wrote
LONGEST_YAML = 2**18  # characters; the parser reads some 100,000 in a second
DEEPEST_YAML = 50  # levels; the parser's time grows with their square
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MISREAD = re.compile(r"[-+]?(0[0-7_]*[0-7]|[\d_]+(:[\d_]+)+(\.\d*)?)")  # octal, or to base 60
MOST_NODES = 100_000  # values of a YAML text once its aliases are written out


def read_text(path: Path, what: str) -> str:
    """Reads a UTF-8 file.

    Args:
        path: The file.
        what: What messages call it, such as `"the suite"`.

    Raises:
        InputError: If it is not there, no file with an end, too large, not readable or not UTF-8.
    """
    if not is_there(path, what):
        raise InputError(f"cannot read {what} '{path}': no such file")
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"cannot read {what} '{path}': it has more than {LARGEST >> 20} MiB")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {what} '{path}': {reason_of(error)}") from error


def read_json(path: Path, what: str) -> Any:
    """Reads a JSON file; see `read_text` and `parse_json`."""
    return parse_json(read_text(path, what), f"{what} '{path}'")


def parse_json(text: str, where: str) -> Any:
    """Reads JSON, whose numbers are all finite.

    Args:
        text: The JSON.
        where: What messages call it.

    Raises:
        InputError: If it is none, or nests too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise InputError(f"cannot read {where}: it nests too deeply") from None
    except ValueError as error:
        raise InputError(f"cannot read {where}: {error}") from None


def parse_yaml(text: str, where: str) -> Any:
    """Reads YAML; nothing in it executes.

    Args:
        text: The YAML.
        where: What messages call it.

    Raises:
        InputError: If it is none, names a key twice, holds a number that YAML reads in another
            base, is too long or nests too deeply, or its aliases write out to more than a person
            would.
    """
    if len(text) > LONGEST_YAML:
        raise InputError(f"{where} has more than {LONGEST_YAML} characters")
    try:
        _check_depth(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _count(root, {})
        return yaml.safe_load(text)
    except InputError as error:
        raise InputError(f"{where} {error}") from None
    # besides its own errors the parser raises what Python does on odd dates and numbers
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise InputError(f"{where} is not YAML: {error}") from None


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST_YAML:
            raise InputError(f"nests deeper than {DEEPEST_YAML} levels")


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values in a node once aliases are written out; `known` holds those of finished nodes."""
    if (found := known.get(id(node))) is not None:
        if not found:
            raise InputError("holds itself")
        return found
    known[id(node)] = 0
    parts: list[yaml.Node] = []
    if node.tag in _NUMBERS and _MISREAD.fullmatch(str(node.value)):
        raise InputError(
            f"holds {node.value}, which YAML reads as a number in another base; write the number "
            "without leading zeros and colons, or a text in quotes"
        )
    if isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if keys and (most := keys.most_common(1)[0])[1] > 1:
            raise InputError(f"has the key '{most[0]}' twice")
        parts = [part for pair in node.value for part in pair]
    known[id(node)] = total = 1 + sum(_count(part, known) for part in parts)
    if total > MOST_NODES:
        raise InputError(f"holds more than {MOST_NODES} values once its aliases are written out")
    return total


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
