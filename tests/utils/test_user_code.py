"""A user's own functions: found with what lies beside them, refused in one line, sent anywhere."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robust_snn import InputError
from robust_snn.utils.user_code import loaded_modules
from robust_snn.utils.user_function import (
    absolute_reference,
    is_reference,
    load_function,
    short_reference,
)


@pytest.fixture(autouse=True)
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules and paths of one test are unknown to the next."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("robust_snn.utils.user_code._loaded", {})
    for name in ("own", "beside", "late", "bundle", "bundle.own", "bundle.inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("own.py:make", True),
        ("../a b/own.py:make", True),
        ("package.module:make", True),
        ("own.py", False),
        ("own.py:", False),
        ("own.py:a.b", False),
        ("snn_vgg5.digits", False),
        ("hf-hub:user/net", False),
        ("./weights.pth:ema", False),
    ],
)
def test_what_a_reference_is(text: str, known: bool) -> None:
    assert is_reference(text) == known


def test_a_file_imports_what_lies_beside_it(tmp_path: Path) -> None:
    code = "from beside import value\ndef make(T, k=2):\n    import late\n"
    write(
        tmp_path,
        own=f"{code}    return value, late.value, T, k",
        beside="value = 1",
        late="value = 5",
    )
    before = list(sys.path)
    made = load_function(f"{tmp_path}/own.py:make")
    assert made.result(T=4) == (1, 5, 4, 2)
    assert sys.path == [*before, str(tmp_path)]
    assert short_reference(made.reference) == "own.py:make"


def test_relative_imports_and_modules_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "bundle", __init__="", inner="value = 3")
    write(tmp_path / "bundle", own="from .inner import value\ndef make():\n    return value")
    assert load_function(f"{tmp_path}/bundle/own.py:make").result() == 3
    monkeypatch.chdir(tmp_path)
    assert load_function("bundle.own:make").result() == 3


def test_changed_code_is_loaded_again(tmp_path: Path) -> None:
    for value in (1, 2):
        write(tmp_path, own=f"def make():\n    return {value}")
        assert load_function(f"{tmp_path}/own.py:make").result() == value


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, own=f"def make():\n    return {name!r}")
    made = [load_function(f"{tmp_path}/{name}/own.py:make") for name in ("a", "b")]
    assert [each.result() for each in made] == ["a", "b"]


def test_modules_that_would_be_mixed_up_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, beside="", **{f"own_{name}": "import beside\ndef make(): pass"})
    load_function(f"{tmp_path}/a/own_a.py:make")
    with pytest.raises(InputError, match="b/beside.py' has the name of .*a/beside.py'"):
        load_function(f"{tmp_path}/b/own_b.py:make")


CODE = "import argparse\nT = 4\ndef make_net(T=4, width=1): pass\ndef make_all(**kwargs): pass\n"


@pytest.mark.parametrize(
    ("code", "name", "arguments", "message"),
    [
        (
            CODE,
            "make_nett",
            {},
            "unknown function of .*own.py 'make_nett': did you mean 'make_net'",
        ),
        (CODE, "T", {}, "unknown function"),
        (CODE, "make_net", {"wdth": 2}, "argument of own.py:make_net 'wdth': did you mean 'width'"),
        ("def make(T): pass", "make", {}, "own.py:make: missing a required argument: 'T'"),
        ("import argprase", "make", {}, r"No module named 'argprase' \(own.py, line 1\)"),
        ("def make(:", "make", {}, r"cannot load .*own.py: .* \(own.py, line 1\)"),
        ("import sys\nsys.exit()", "make", {}, "ends the process; put what a script does under"),
        ("def make():\n    1 / 0", "make", {}, r"own.py:make failed: ZeroDiv.* \(own.py, line 2\)"),
    ],
)
def test_refused(
    tmp_path: Path, code: str, name: str, arguments: dict[str, Any], message: str
) -> None:
    write(tmp_path, own=code)
    with pytest.raises(InputError, match=message) as error:
        load_function(f"{tmp_path}/own.py:{name}").result(**arguments)
    assert "\n" not in str(error.value)


def test_code_sees_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["robust-snn", "evaluate", "--data", "digits"])
    code = "import argparse\nparser = argparse.ArgumentParser()\n"
    code += "parser.add_argument('--T', default=3)\nargs = parser.parse_args()\n"
    write(tmp_path, own=code + "def make():\n    return args.T")
    assert load_function(f"{tmp_path}/own.py:make").result() == 3
    assert sys.argv[0] == "robust-snn"


def test_files_and_modules_that_are_not_there() -> None:
    with pytest.raises(InputError, match="no file 'gone.py'"):
        load_function("gone.py:make")
    with pytest.raises(InputError, match="cannot load gone.away: ModuleNotFoundError"):
        load_function("gone.away:make")


def test_another_process_loads_the_same_modules_first(tmp_path: Path) -> None:
    write(tmp_path / "a", own="class Thing:\n    value = 'a'\ndef make():\n    return Thing()")
    write(tmp_path / "b", own="class Thing:\n    value = 'b'\ndef make():\n    return Thing()")
    things = [load_function(f"{tmp_path}/{name}/own.py:make").result() for name in ("a", "b")]
    parcel = tmp_path / "parcel"
    parcel.write_bytes(pickle.dumps((loaded_modules(), things)))
    code = f"import pickle; print(*(t.value for t in pickle.load(open({str(parcel)!r}, 'rb'))[1]))"

    def read() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert read().stdout == "a b\n"
    write(tmp_path / "b", own="class Thing:\n    value = 'c'")
    assert "has changed during the run" in read().stderr


def test_a_file_beside_the_suite_comes_first(tmp_path: Path) -> None:
    write(tmp_path, own="")
    assert absolute_reference("own.py:attack", tmp_path) == f"{tmp_path}/own.py:attack"
    assert absolute_reference("gone.py:attack", tmp_path) == "gone.py:attack"
    assert absolute_reference("package.module:attack", tmp_path) == "package.module:attack"
