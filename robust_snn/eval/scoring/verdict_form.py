"""What a verdict that was read must be like: types and ranges of everything in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robust_snn.attacks.threat_radius import NORMS
from robust_snn.diagnostics.diagnostic import STATUSES
from robust_snn.gradients import parse_mode
from robust_snn.utils.errors import InputError

SLACK = 1e-9  # what rounding may add to a share
Check = tuple[str, Callable[[Any], bool]]  # what is expected, and whether a value is that


def _number(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value)


def _whole(least: int) -> Check:
    return (
        f"a whole number of at least {least}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least,
    )


def _a(kind: Any, words: str) -> Check:
    return words, lambda value: isinstance(value, kind)


def _is_share(value: Any) -> bool:
    return _number(value) and -SLACK <= value <= 1 + SLACK


def _is_interval(value: Any) -> bool:
    two = isinstance(value, list | tuple) and len(value) == 2
    return two and all(map(_is_share, value)) and value[0] <= value[1] + SLACK


def _is_mode(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(parse_mode(value))
    except InputError:
        return False


def _or_none(check: Check) -> Check:
    words, holds = check
    return f"{words}, or null", lambda value: value is None or holds(value)


TEXT, MAPPING = _a(str, "text"), _a(Mapping, "a mapping")
COUNT, ONE_OR_MORE, WHOLE = _whole(0), _whole(1), _whole(-(2**63))
NUMBER: Check = ("a finite number", _number)
POSITIVE: Check = ("a number of at least 0", lambda value: _number(value) and value >= 0)
SHARE: Check = ("a share in [0, 1]", _is_share)
INTERVAL: Check = ("two shares in order", _is_interval)

# a name in brackets may be missing
MAPPINGS: dict[str, dict[str, Check]] = {
    "model": {"name": TEXT, "kwargs": MAPPING, "weights_sha256": TEXT, "parameters": COUNT},
    "data": {
        "name": TEXT,
        "split": TEXT,
        "n": ONE_OR_MORE,
        "sha256": TEXT,
        "[calibration]": COUNT,
    },
    "threat": {
        "norm": (f"one of {', '.join(NORMS)}", lambda value: value in NORMS),
        "eps": POSITIVE,
        "[noise]": ("'known'", lambda value: value == "known"),
    },
    "draws": {"select": ONE_OR_MORE, "report": ONE_OR_MORE},
    "clean": {
        "accuracy": SHARE,
        "ci": INTERVAL,
        "vote": SHARE,
        "[vote_ci]": _or_none(INTERVAL),
    },
    "robust": {
        "accuracy": SHARE,
        "ci": INTERVAL,
        "vote": SHARE,
        "asr": SHARE,
        "[vote_ci]": _or_none(INTERVAL),
        "[asr_ci]": _or_none(INTERVAL),
        "[in_every_try]": _a(list | tuple, "a list"),
        "[known_noise]": _or_none(SHARE),
        "[known_noise_ci]": _or_none(INTERVAL),
    },
    "environment": {
        "[robust_snn]": TEXT,
        "[torch]": TEXT,
        "[python]": TEXT,
        "[device]": TEXT,
        "[backend]": TEXT,
        "[threads]": ONE_OR_MORE,
        "[rounding]": TEXT,
    },
}
LISTS: dict[str, dict[str, Check]] = {
    "attacks": {
        "name": TEXT,
        "implementation": TEXT,
        "gradient": ("a gradient mode", _is_mode),
        "eot": ONE_OR_MORE,
        "accuracy": SHARE,
        "ci": INTERVAL,
        "claimed": SHARE,
        "forwards": COUNT,
        "backwards": COUNT,
        "seconds": POSITIVE,
        "[images]": _or_none(COUNT),
        "[after]": _or_none(SHARE),
        "[after_ci]": _or_none(INTERVAL),
    },
    "diagnostics": {
        "name": TEXT,
        "value": NUMBER,
        "status": (f"one of {', '.join(STATUSES)}", lambda value: value in STATUSES),
        "why": TEXT,
    },
}
TRIES = {"tries": _whole(2), "accuracy": SHARE, "ci": INTERVAL}
PAIR: Check = (
    "two numbers in order",
    lambda value: (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(map(_number, value))
        and value[0] <= value[1]
    ),
)
ROW_ENERGY = {
    "name": TEXT,
    "joules": POSITIVE,
    "ci": PAIR,
    "spike_operations": POSITIVE,
    "steps": POSITIVE,
    "factor": _or_none(POSITIVE),
    "factor_ci": _or_none(PAIR),
}
OPTIONAL: dict[str, dict[str, Check]] = {
    "probe": {"images": COUNT, "forwards": COUNT, "backwards": COUNT, "seconds": POSITIVE},
    "certified": {
        "accuracy": SHARE,
        "ci": INTERVAL,
        "decided": SHARE,
        "images": COUNT,
        "eps": POSITIVE,
    },
    "larger_budget": {"factor": ONE_OR_MORE, "breaks": SHARE, "ci": INTERVAL},
    "energy": {"formula": TEXT, "rows": _a(list | tuple, "a list")},
}
REST: dict[str, Check] = {
    "suite": TEXT,
    "stochastic": _a(bool, "true or false"),
    "seed": WHOLE,
    "seconds": POSITIVE,
}


def check_verdict(tree: Mapping[str, Any]) -> None:
    """Checks the JSON values of a verdict of schema 1; further names are let be.

    Raises:
        InputError: If one is missing, of another type or out of range, or they contradict.
    """
    _check(tree, REST, "")
    for name, fields in OPTIONAL.items():
        if tree.get(name) is not None:
            _check(tree[name], fields, f"{name}.")
    if tree.get("energy") is not None:
        for number, row in enumerate(tree["energy"]["rows"]):
            _check(row, ROW_ENERGY, f"energy.rows[{number}].")
    for name, fields in MAPPINGS.items():
        _check(_part(tree, name, Mapping), fields, f"{name}.")
    for name, fields in LISTS.items():
        for number, row in enumerate(_part(tree, name, list | tuple)):
            _check(row, fields, f"{name}[{number}].")
    for number, row in enumerate(tree["robust"].get("in_every_try", ())):
        _check(row, TRIES, f"robust.in_every_try[{number}].")
    _check_agreement(tree)


def _check_agreement(tree: Mapping[str, Any]) -> None:
    """Numbers of a verdict, each of which may stand there, must not contradict each other."""
    for where in ("clean", "robust", "certified"):
        _check_inside(tree.get(where) or {}, where)
    for number, row in enumerate(tree["robust"].get("in_every_try", ())):
        where = f"robust.in_every_try[{number}]"
        _check_inside(row, where)
        if row["tries"] > (draws := tree["draws"]["report"]):
            raise _wrong(f"{where}.tries", f"at most the {draws} draws", row["tries"])
    for number, row in enumerate(tree["attacks"]):
        where = f"attacks[{number}]"
        _check_inside(row, where)
        if (met := row.get("images")) is not None and met > tree["data"]["n"]:
            raise _wrong(f"{where}.images", f"at most {tree['data']['n']}", met)
        if row.get("after") is not None and row.get("after_ci") is None:
            raise _wrong(f"{where}.after_ci", "two shares beside 'after'", None)
    floor, robust = (tree.get("certified") or {}).get("accuracy", 0.0), tree["robust"]["accuracy"]
    if floor > robust + SLACK:
        raise _wrong("certified.accuracy", f"at most the robust accuracy {robust}", floor)
    names = [row["name"] for row in tree["attacks"]]
    if len(set(names)) < len(names):
        raise _wrong("attacks", "attacks of different names", names)


def _part(tree: Mapping[str, Any], name: str, kind: Any) -> Any:
    found = tree.get(name)
    if not isinstance(found, kind):
        raise _wrong(name, "a mapping" if kind is Mapping else "a list", found)
    return found


def _check(part: Any, fields: Mapping[str, Check], where: str) -> None:
    if not isinstance(part, Mapping):
        raise _wrong(where.rstrip("."), "a mapping", part)
    for field, (words, holds) in fields.items():
        name = field.strip("[]")
        if name not in part and name == field:
            raise InputError(f"not a verdict of schema 1: '{where}{name}' is missing")
        if name in part and not holds(part[name]):
            raise _wrong(where + name, words, part[name])


def _check_inside(part: Mapping[str, Any], where: str) -> None:
    """An accuracy or rate must lie in its interval."""
    for name in ("accuracy", "vote", "asr", "after", "known_noise"):
        interval = part.get("ci" if name == "accuracy" else f"{name}_ci")
        if interval is None or part.get(name) is None:
            continue
        low, high = interval
        if not low - SLACK <= part[name] <= high + SLACK:
            expected = f"a share in its interval {low} to {high}"
            raise _wrong(f"{where}.{name}", expected, part[name])


def _wrong(where: str, expected: str, found: Any) -> InputError:
    return InputError(f"not a verdict of schema 1: '{where}' must be {expected}, got {found!r:.60}")


def known_fields(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The fields of a row that this version knows."""
    return {name: row[name] for name in names if name in row}
