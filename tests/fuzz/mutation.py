"""Wrong values, and small changes of right ones, from a seeded generator."""

from __future__ import annotations

import base64
import random
from typing import Any

TEXTS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1e999",
        "nan",
        "inf",
        "8/255",
        "8/0",
        "1_0",
        "0x10",
        "1e-400",
        "९",
        "True",
    ),
    *(
        "a" * 5000,
        "\x1b[2J\x1b[31m",
        "\u202eabc",
        "\udcff",
        "a\nb",
        "\x00",
        "[bold]",
        "[/]",
        ":boom:",
    ),
    *("{}", "{0}", "%s", "../../../x", "/dev/zero", "/dev/full", "/", ".", "~", "C:\\x", "'; --"),
    *(
        "<script>",
        "=1+1",
        "null",
        "2021-13-45",
        "1:30",
        "[" * 200,
        "*a",
        "&a [*a]",
        "!!python/name:os",
    ),
    *("Linf", "L2", "L0", "bptt", "pgd", "square", "cpu", "meta", "snn_vgg5", "digits", "quick"),
)
NUMBERS = (
    *(0, 1, -1, 2, 3, 255, 10**6, 2**31, 2**63, -(2**63), 2**64, 10**30, 10**400),
    *(0.0, -0.0, 0.5, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"), 1.5, 8.0),
)
OTHERS = (None, True, False, [], {}, [[]], {"a": 1}, [None], [0, 1], {"1": {}})


def wrong_value(rng: random.Random) -> Any:
    """Something that JSON or YAML can hold, seldom what is expected."""
    return rng.choice(rng.choice((TEXTS, NUMBERS, OTHERS)))


def mutated_tree(rng: random.Random, tree: Any) -> Any:
    """A tree of dicts and lists with one to three places changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = _changed(rng, tree)
    return tree


def _changed(rng: random.Random, tree: Any) -> Any:
    inner = isinstance(tree, dict | list) and len(tree) > 0
    if not inner or rng.random() < 0.03:
        return _value_near(rng, tree)
    if isinstance(tree, dict):
        key, action = rng.choice(list(tree)), rng.random()
        if action < 0.1:
            return {k: v for k, v in tree.items() if k != key}
        if action < 0.2:
            return {**tree, rng.choice(TEXTS): wrong_value(rng)}
        if action < 0.25:
            return {(rng.choice(TEXTS) if k == key else k): v for k, v in tree.items()}
        return {**tree, key: _changed(rng, tree[key])}
    at, action = rng.randrange(len(tree)), rng.random()
    if action < 0.1:
        return tree[:at] + tree[at + 1 :]
    if action < 0.2:
        return tree[: at + 1] + tree[at:]
    return [*tree[:at], _changed(rng, tree[at]), *tree[at + 1 :]]


def _value_near(rng: random.Random, value: Any) -> Any:
    if isinstance(value, str) and value and rng.random() < 0.4:
        return mutated_text(rng, value)
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        fraction = float(str(value))  # of an integer that is too large: infinity
        return rng.choice((-value, value + 1, value * 10**9, fraction, str(value), [value]))
    return wrong_value(rng)


def mutated_text(rng: random.Random, text: str) -> str:
    """A text with letters removed, doubled, replaced or put in."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, action = rng.randrange(len(text) + 1), rng.random()
        if action < 0.3:
            text = text[:at] + text[at + rng.choice((1, 1, 8)) :]
        elif action < 0.6:
            text = (
                text[:at] + rng.choice("=,/:()[]{}-.e0 9\"'*&!#%\x1b\n\t\u202e\ud800") + text[at:]
            )
        elif action < 0.8:
            text = text[:at] + rng.choice(TEXTS) + text[at:]
        else:
            text = text[:at] + text[max(0, at - 8) :]
    return text


def mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bytes with bits flipped, cut, doubled or overwritten."""
    if not data:
        return rng.randbytes(rng.randrange(64))
    content, action = bytearray(data), rng.random()
    if action < 0.5:
        for _ in range(rng.choice((1, 1, 2, 16))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif action < 0.65:
        del content[rng.randrange(len(content)) :]
    elif action < 0.8:
        at = rng.randrange(len(content))
        content[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), rng.randbytes(8)))
    elif action < 0.9:
        at = rng.randrange(len(content))
        del content[at : at + rng.choice((1, 8, 512))]
    else:
        at = rng.randrange(len(content))
        content[at:at] = rng.randbytes(rng.choice((1, 8, 512)))
    return bytes(content)


def packed(case: Any) -> Any:
    """A case as JSON: bytes are marked."""
    if isinstance(case, bytes):
        return {"base64": base64.b64encode(case).decode()}
    if isinstance(case, dict):
        return {key: packed(value) for key, value in case.items()}
    return [packed(value) for value in case] if isinstance(case, list | tuple) else case


def unpacked(case: Any) -> Any:
    """The case that `packed` packed."""
    if isinstance(case, dict) and case.keys() == {"base64"}:
        return base64.b64decode(case["base64"])
    if isinstance(case, dict):
        return {key: unpacked(value) for key, value in case.items()}
    return [unpacked(value) for value in case] if isinstance(case, list) else case
