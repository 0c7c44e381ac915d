"""Tables of weights in files that other projects wrote, and the one that fits a network.

A file may wrap the table (`{"state_dict": ..., "epoch": 90}`) and its names (`module.conv.weight`),
and hold several, such as averaged weights beside the last ones. Nothing in a file executes.
"""

from __future__ import annotations

import argparse
import logging
import pathlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from robust_snn.utils.errors import InputError, reason_of, unknown

Table = Mapping[str, Tensor]
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
SUFFIXES = (".pth", ".pt", ".ckpt", ".tar", ".bin")
# what training scripts keep beside the weights, and what runs no code when it is built
_scalar = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"},
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
_AVERAGED = re.compile(r"(^|_)(ema|swa|shadow|averaged?)(_|$)", re.IGNORECASE)
_log = logging.getLogger("robust_snn")


def file_and_place(path: str | Path) -> tuple[Path, str | None]:
    """The parts of `FILE:PLACE`; a file alone has no place."""
    file, _, place = str(path).rpartition(":")
    return (Path(path), None) if not file or Path(path).exists() else (Path(file), place)


def fitting_weights(path: str | Path, expected: Table) -> Table:
    """The weights in a file that fit a network.

    Args:
        path: A file, or `FILE:PLACE` with the place in it, such as `best.pth:state_dict_ema`.
        expected: The state of the network.

    Raises:
        InputError: If the file is missing, damaged or not plain; if no table in it has the names
            and shapes of the network, or several do and differ; or if a parameter or buffer is of
            another kind of number, not finite, or a variance below 0.
    """
    file, wanted = file_and_place(path)
    content = _read(file)
    tables = {place: table for place, table in _tables(content) if table}
    if not tables:
        raise InputError(f"'{file}' does not hold a plain table of tensors (a state_dict)")
    if wanted is not None:
        tables = _inside(wanted, tables, file)
    fits = {place: table for place, table in tables.items() if _misfit(table, expected) is None}
    if not fits:
        nearest = max(tables.values(), key=lambda table: len(expected.keys() & table.keys()))
        raise InputError(
            f"'{file}' {_misfit(nearest, expected)}; build the model with the arguments that it "
            "was trained with"
        )
    for table in fits.values():
        for name, value in table.items():
            if (why := _unusable(name, value, expected[name])) is not None:
                raise InputError(f"'{name}' in '{file}' {why}")
    (place, weights), *rest = fits.items()
    if others := [other for other, table in rest if not _equal(table, weights)]:
        raise InputError(
            f"'{file}' holds different weights that fit, at {place or 'its top'} and "
            f"{', '.join(others)}; say which are meant, such as {file}:{others[0]}"
        )
    if wanted is None and (left := _averaged(content, fits)) is not None:
        raise InputError(
            f"'{file}' also holds averaged weights, at {left}, which do not fit by their names; "
            f"say {file}:{place} if those at {place or 'its top'} are meant"
        )
    if place:
        _log.info("took the weights at %s of %s", place, file)
    return weights


def _read(path: Path) -> Any:
    """The content of a file: tensors, numbers and texts in tables."""
    if not path.is_file():
        raise InputError(f"no checkpoint at '{path}'")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"cannot read '{path}': {reason_of(error)}") from None
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            line = " ".join(str(error).split())
            raise InputError(f"'{path}' is not an intact safetensors file: {line}") from None
    if path.suffix not in SUFFIXES:
        raise InputError(f"expected a .safetensors, {', '.join(SUFFIXES)} file, got '{path}'")
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # unpicklers raise anything on foreign bytes; they advise to trust the file
        raise InputError(
            f"'{path}' {_unreadable(path)}; save the state_dict() alone, as .safetensors"
        ) from None


def _unreadable(path: Path) -> str:
    """Why a file is not read."""
    try:
        known = {f"{kind.__module__}.{kind.__qualname__}" for kind in _HARMLESS[:2]}
        kinds = sorted({*torch.serialization.get_unsafe_globals_in_checkpoint(path)} - known)
        return f"holds more than tensors, and building {', '.join(kinds)} would run its code"
    except ValueError as error:
        if "torchscript" in str(error):
            return "is a program of TorchScript, not a table of weights"
    except Exception:  # as above
        pass
    return "is damaged or holds more than tensors, and is not read any further"


def _tables(found: Any, place: str = "") -> Iterator[tuple[str, Table]]:
    """Every table of tensors, outer ones first, also those behind a prefix; with its place."""
    if not isinstance(found, Mapping):
        return
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    yield place, {str(name): value for name, value in tensors.items()}
    parts: dict[str, Any] = {}
    for name, value in found.items():
        head, _, rest = str(name).partition(".")
        if rest and name in tensors:
            parts.setdefault(head, {})[rest] = value
        elif isinstance(value, Mapping):
            parts[str(name)] = value
    for name, part in parts.items():
        yield from _tables(part, f"{place}.{name}" if place else name)


def _averaged(content: Any, fits: Mapping[str, Table]) -> str | None:
    """Where a file holds averaged weights, if none of those that fit lie there."""
    for name, value in content.items():
        head, _, rest = str(name).partition(".")
        if isinstance(value, Tensor):
            holds = rest != "" and "" not in fits
        else:
            holds = isinstance(value, Mapping | list | tuple)
        if holds and _AVERAGED.search(head) and not any(_lies_in(place, head) for place in fits):
            return head
    return None


def _inside(wanted: str, tables: Mapping[str, Table], file: Path) -> dict[str, Table]:
    """The tables at a place of a file, and inside of it."""
    if wanted not in tables:
        raise unknown(f"place in '{file}'", wanted, [place for place in tables if place])
    return {place: table for place, table in tables.items() if _lies_in(place, wanted)}


def _lies_in(place: str, outer: str) -> bool:
    return f"{place}.".startswith(f"{outer}.")


def _misfit(found: Table, expected: Table) -> str | None:
    """What keeps a table from fitting; None if it fits."""
    for what, names in (
        ("lacks", [name for name in expected if name not in found]),
        ("has unexpected", [name for name in found if name not in expected]),
    ):
        if names:
            return f"{what} '{names[0]}'" + (f" and {len(names) - 1} more" if names[1:] else "")
    for name, value in expected.items():
        if not found[name].is_nested and value.shape != found[name].shape:
            has, needs = tuple(found[name].shape), tuple(value.shape)
            return f"has '{name}' of shape {has}, the model needs {needs}"
    return None


def _unusable(name: str, value: Tensor, expected: Tensor) -> str | None:
    """Why a network cannot take a tensor of the right name and shape; None if it can."""
    kinds = FLOATS if expected.is_floating_point() else INTEGERS
    forms = {"meta": value.is_meta, "quantised": value.is_quantized, "nested": value.is_nested}
    forms[str(value.layout)] = value.layout != torch.strided
    if any(forms.values()):
        form = next(form for form, is_one in forms.items() if is_one)
        return f"is a {form} tensor, not a plain one: save it with its numbers, dense"
    if value.dtype not in kinds:
        return (
            f"holds {value.dtype}, the network needs {expected.dtype}: weights that were quantised "
            "or converted are another network's; save those that it was trained with"
        )
    if not value.to(expected.dtype).isfinite().all():
        return f"is not finite as {expected.dtype}: the training diverged"
    if name.rpartition(".")[2] == "running_var" and (value < 0).any():
        return "has variances below 0, so it is damaged"
    return None


def _equal(one: Table, other: Table) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())
