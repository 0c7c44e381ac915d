"""YAML and JSON of strangers: a value, or one `InputError` of one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.file_texts import parse_json, parse_yaml, read_json, read_text
from robust_snn.utils.plain_text import one_line, plain

BOMB = "a: &a [0,0,0,0,0,0,0,0,0]\n" + "\n".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "aliases are written out"),
        ("&a [*a]", "holds itself"),
        ("&a {b: *a}", "holds itself"),
        ("[" * 100_000, "nests deeper"),
        ("- " * 5000, "nests deeper"),
        ("{a: " * 5000, "nests deeper"),
        ("#" * 300_000, "more than 262144 characters"),
        ("{a: 1, a: 2}", "the key 'a' twice"),
        ("2021-13-45", "is not YAML"),
        ("1:99999999999999999999999999:e", None),
        ("9" * 5000, "is not YAML"),
        ("{[1]: 2}", "is not YAML"),
        ("!!set {a, b}", None),
        ("!!python/name:os.system", "is not YAML"),
        ("a: \x1b[31mred", "is not YAML"),
        ("\ud800", "is not YAML"),
        ("<<: 5", "is not YAML"),
        ("? {a: 1}\n: 2", "is not YAML"),
    ],
)
def test_yaml(text: str, message: str | None) -> None:
    if message is None:
        parse_yaml(text, "it")
        return
    with pytest.raises(InputError, match=message) as caught:
        parse_yaml(text, "it")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "NaN", "[1e999]", '{"a": -Infinity}', "9" * 5000, "\x00"]
)
def test_json(text: str) -> None:
    with pytest.raises(InputError, match="cannot read it"):
        parse_json(text, "it")


def test_what_is_sound_is_read(tmp_path: Path) -> None:
    tree = {"a": [1, 2.5, "x", None, True]}
    (tmp_path / "a.json").write_text(json.dumps(tree))
    assert read_json(tmp_path / "a.json", "the file") == tree
    assert parse_yaml("a: [1, 2.5, x, null, true]", "it") == tree
    assert parse_yaml("a: &a {b: 1}\nc: {<<: *a, d: 2}", "it")["c"] == {"b": 1, "d": 2}


@pytest.mark.parametrize(
    "name", ["/dev/zero", "pipe", "a\0b", "x" * 5000, "loop", "folder", "gone"]
)
def test_files_without_an_end_are_not_read(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="cannot read the file"):
        read_text(tmp_path / name, "the file")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 雪", "plain ü 雪"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u202eb", "a\\u202eb"),
        ("\udcff", "\\udcff"),
        ("a\x9bm", "a\\x9bm"),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert plain(text) == one_line(text) == shown
    assert str(InputError(text)) == shown


def test_messages_are_one_bearable_line() -> None:
    assert one_line("a\n\tb\r\nc") == "a b c"
    assert len(str(InputError("x" * 10**6))) < 5000
    assert "unknown thing '[1, 2]'" in str(unknown("thing", [1, 2], ("a", "b")))
    assert len(str(unknown("thing", "y" * 10**6, ("a", "b")))) < 200
    many = [f"name{number}" for number in range(200)]
    assert "did you mean 'name77'? known: name77, name" in str(unknown("thing", "name-77", many))
    assert str(unknown("thing", "?", many)).endswith("name104 and 192 more")
