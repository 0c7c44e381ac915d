"""The command line: wrong input gives one line and exit code 2, and writes nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from rich.table import Table

from diagnoses import a_diagnosis
from refusals import refused
from robust_snn import InputError, cli
from robust_snn.cli import console
from robust_snn.cli.doctor import check_backend, measured_blocks, measured_choices
from robust_snn.cli.options import NAMED_SETS
from robust_snn.data import DATASETS, EVENT_SETS
from robust_snn.data.tiny_imagenet import TINY_IMAGENET
from robust_snn.gradients import parse_mode
from robust_snn.models.mechanisms import MECHANISMS
from robust_snn.training import save_checkpoint
from robust_snn.utils.values import assignments, number

TINY = "T=2 width=0.1 head_width=8 img_size=8 in_chans=1"
KWARGS = {**assignments([TINY], "x"), "num_classes": 10}
TRAIN = "train --model snn_vgg5_stog --data digits --epochs 1 -n 64 --out out "
DIAGNOSE = "diagnose --model snn_vgg5_stog --data digits -n 64 "
EVALUATE = "evaluate --model snn_vgg5_stog --data digits -n 4 --out out "


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with good and bad files in it."""
    monkeypatch.chdir(tmp_path)
    net = timm.create_model("snn_vgg5_stog", **KWARGS)
    card: dict[str, Any] = {"model": {"name": "snn_vgg5_stog", "kwargs": KWARGS}}
    save_checkpoint(net, tmp_path / "good.safetensors", card)
    classes = {**card, "data": {"classes": ["cat", "dog"]}}
    save_checkpoint(net, tmp_path / "animals.safetensors", classes)
    torch.save(net.state_dict(), tmp_path / "plain.pth")
    (tmp_path / "corrupt.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0garbage")
    (tmp_path / "foreign.pth").write_bytes(b"not a checkpoint")
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("{name: a, source: b, epoch: 3}")
    (tmp_path / "file").write_text("mine")
    return tmp_path


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


BAD = [
    ("", "train --model snn_vgg5", "Missing option '--data'"),
    ("", "evalute", "No such command 'evalute'"),
    (TRAIN, "--epoch 3", "No such option: --epoch"),
    (TRAIN, "--epochs many", "Invalid value for '--epochs'"),
    (TRAIN, "--model snn_vg5", "unknown model 'snn_vg5': did you mean 'snn_vgg5'?"),
    (TRAIN, "--model-kwargs t=3", "'t'"),
    (TRAIN, "--model-kwargs T", "unexpected extra argument|must have the form name=value"),
    (TRAIN, "--model-kwargs T=2 T=3", "'T' is given twice"),
    (TRAIN, "--model-kwargs decay=7", r"decay must be in \(0, 1\], got 7"),
    (TRAIN, "--recipe natrual", "unknown recipe 'natrual': did you mean 'natural'?"),
    (TRAIN, "--recipe bad.yaml", "unknown key of recipe 'bad.yaml' 'epoch'"),
    (TRAIN, "--recipe none.yaml", "cannot read the recipe"),
    (TRAIN, "--set lrr=1", "unknown key of recipe 'natural' 'lrr'"),
    (TRAIN, "--set lr=0.1 --lr 0.1", "the option --lr is given too"),
    (TRAIN, "--eps=-1/255", r"eps .* must be in \[0, 1\]"),
    (TRAIN, "--eps lots", "--eps must be a number such as 0.03 or 8/255, got 'lots'"),
    (TRAIN, "--lr 0", "lr of recipe"),
    (TRAIN, "--lr nan", "lr of recipe .* must be a number"),
    (TRAIN, "--gradient bptx", "unknown gradient mode 'bptx': did you mean 'bpt"),
    (TRAIN, "--data digit", "unknown data set 'digit': did you mean 'digits'?"),
    (TRAIN, "--data empty", "no images in 'empty'"),
    (TRAIN, "--data none.tar", "no file or folder at 'none.tar'"),
    (TRAIN, "-n 0", "number of images|choose between 1"),
    (TRAIN, "-n 99999", "asked for 99999"),
    (TRAIN, "--threads 0", "--threads must be at least 1"),
    (TRAIN, "--device tpuu", "--device must be cpu, cuda or auto"),
    (TRAIN, "--model-kwargs in_chans=3 T=2", "channels"),
    (TRAIN, "--model-kwargs num_classes=5 T=2", "labels must lie in 0..4"),
    (TRAIN, "--out file", "'file' is no folder; name another place"),
    (EVALUATE, "--model snn_vg5", "did you mean 'snn_vgg5'?"),
    (EVALUATE, "--model snn_vgg5.digts", "unknown trained network .* mean 'snn_vgg5.digits'?"),
    (EVALUATE, "--suite quik", "unknown suite 'quik'"),
    (EVALUATE, "--eps=-0.1", "--eps must not be negative"),
    (EVALUATE, "--eps 8/", "--eps must be a number"),
    (EVALUATE, f"--norm L7 --model-kwargs {TINY}", "unknown norm"),
    (EVALUATE, "--data empty", "no images in 'empty'"),
    (EVALUATE, "--checkpoint none.safetensors", "no checkpoint at 'none.safetensors'"),
    (EVALUATE, f"--checkpoint corrupt.safetensors --model-kwargs {TINY}", "not an intact"),
    (EVALUATE, f"--checkpoint foreign.pth --model-kwargs {TINY}", "is damaged or holds more"),
    (EVALUATE, f"--checkpoint bomb.pth --model-kwargs {TINY}", "is damaged or holds more"),
    (EVALUATE, f"--checkpoint plain.pth --model-kwargs {TINY} num_classes=12", r"needs \(12"),
    (EVALUATE, "--checkpoint good.safetensors --model-kwargs T=3", "was trained with T=2"),
    (EVALUATE, "--checkpoint good.safetensors --model-kwargs decay=0.5", "decay=its default"),
    (EVALUATE, "--checkpoint good.safetensors --model snn_vgg5", "but the checkpoint is a"),
    (EVALUATE, "--checkpoint animals.safetensors", "class 0 is '0' here and 'cat' there"),
    (DIAGNOSE, "--gradient bptx", "unknown gradient mode 'bptx'"),
    (DIAGNOSE, f"--out file --model-kwargs {TINY}", "'file' is no folder; name another place"),
    (DIAGNOSE, "--eps 0", "--eps must be positive"),
    (DIAGNOSE, f"--norm L7 --model-kwargs {TINY}", "unknown norm"),
    (EVALUATE, "--sweep epss=0.1", "axis of --sweep 'epss': did you mean 'eps'?"),
    (EVALUATE, "--sweep eps", "must have the form axis=value,value"),
    (EVALUATE, "--model-kwargs T=1000000000", "T must be at most 1000000 steps"),
    (EVALUATE, "--model-kwargs T=1.5", "T must be a whole number"),
    (EVALUATE, "--draws 10000000000", "draws.report of suite 'quick' must be at most"),
    (EVALUATE, "--sweep T=0", "T of --sweep must be a whole number"),
    (EVALUATE, "--source-checkpoint none.safetensors", "no checkpoint at 'none.safetensors'"),
    ("", "report empty", "no verdict.json in 'empty'"),
    ("", "leaderboard empty", "cannot read the verdict"),
    ("", "leaderboard", "Missing argument"),
    ("", "study --data digits --out out --plan newer-defence", "did you mean 'newer-defences'"),
    ("", "study --data digits --out out --defence TGA", "did you mean 'TGO'"),
    ("", "evaluate --data digits --out out", "say what to evaluate"),
    ("", "evaluate --data digits --out out --checkpoint foreign.pth", "name the model"),
]


@pytest.mark.parametrize(("base", "words", "message"), BAD, ids=[f"{b[:2]} {w}" for b, w, _ in BAD])
def test_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], base: str, words: str, message: str
) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as left:
        cli.main(base.split() + words.split())
    captured = capsys.readouterr()
    assert left.value.code == 2
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("robust-snn: ")]
    assert captured.err.splitlines()[-1:] == lines
    assert re.search(message, lines[0])
    assert sorted(folder.rglob("*")) == before


def test_help_names_the_sets_that_there_are() -> None:
    events = (name for name in EVENT_SETS if not name.endswith("-binary"))
    assert set(NAMED_SETS) == {*DATASETS, TINY_IMAGENET, *events}


def test_an_empty_argument_is_no_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["report", ""])
    assert left.value.code == 2 and "an argument is empty" in capsys.readouterr().err


def test_diagnose(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [parse_mode(mode) for mode in ("bptt", "pdsg")]  # all of them take a minute
    monkeypatch.setattr("robust_snn.attacks.mode_ranking.registered_modes", lambda: few)
    # a trained network: the two images that random weights read right have logits that tie
    words = "diagnose --model snn_vgg5_stog.digits --data digits -n 5 --eps 0.1 --threads 1 "
    with pytest.raises(SystemExit) as left:
        cli.main(f"{words} --gradient bptr --out looked".split())
    shown, said = capsys.readouterr()
    for name in ("agreement", "finite", "collapse", "EOT convergence", "fixed noise", "pdsg"):
        assert name in shown, f"{shown}\n{said}"
    tree = json.loads((folder / "looked" / "diagnosis.json").read_text())
    failed = any(note["status"] == "fail" for note in tree["notes"])
    assert left.value.code == (3 if failed else 0)
    assert tree["model"] == "snn_vgg5_stog.digits" and tree["gradient"].startswith("bptr")
    assert "--gradient bptr" in (folder / "looked" / "diagnosis.html").read_text()


def test_diagnose_refuses_a_place_before_it_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("robust_snn.diagnostics.diagnose", lambda *_, **__: pytest.fail("worked"))
    (folder / "taken").write_text("")
    with pytest.raises(SystemExit) as left:
        cli.main(f"{DIAGNOSE} -n 20 --eps 0.1 --model-kwargs {TINY} --out taken".split())
    assert left.value.code == 2 and "'taken'" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["matplotlib.figure", "jinja2"])
@pytest.mark.parametrize("words", ["compare a b", "diagnose --model snn_vgg5 --data nothing"])
def test_a_missing_extra_is_said_before_the_work(
    words: str,
    library: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert 'pip install "robust-snn[report]"' in refused(f"{words} --out out", capsys)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(("more", "code"), [("", 3), (" --no-fail", 0)])
def test_diagnose_ends_by_what_it_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, more: str, code: int
) -> None:
    monkeypatch.setattr("robust_snn.diagnostics.diagnose", lambda *_, **__: a_diagnosis("fail"))
    with pytest.raises(SystemExit) as left:
        cli.main(f"{DIAGNOSE} -n 20 --eps 0.1 --model-kwargs {TINY}{more}".split())
    assert left.value.code == code


def test_interrupt_and_unexpected_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, code, message in (
        (KeyboardInterrupt(), 1, "robust-snn: interrupted; start the same command again to resume"),
        (ZeroDivisionError("odd"), 1, "ZeroDivisionError: odd"),
        (ImportError('pip install "robust-snn[art]"'), 2, 'pip install "robust-snn[art]"'),
        (InputError("two\nlines"), 2, "robust-snn: two lines"),
    ):

        def fail(*args: Any, error: BaseException = error, **kwargs: Any) -> None:
            raise error

        monkeypatch.setattr("robust_snn.cli.doctor.installation", fail)
        with pytest.raises(SystemExit) as left:
            cli.main(["doctor"])
        assert left.value.code == code
        assert message in capsys.readouterr().err


def test_train_then_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--recipe at --eps 8/255 --set gate_opening=0.8 --batch-size 32 --model-kwargs {TINY}"
    with pytest.raises(SystemExit) as left:
        cli.main((TRAIN + words).split())
    assert left.value.code == 0
    assert "test accuracy" in capsys.readouterr().out
    card = json.loads((folder / "out" / "model.json").read_text())
    assert (card["recipe"]["eps"], card["recipe"]["epochs"]) == (8 / 255, 1)
    assert card["data"]["n"] == 64
    words = "evaluate --checkpoint out/model.safetensors --data digits -n 6 --suite quick "
    words += "--eps 8/255 --steps 2 --eot 1 --draws 3 --out verdict --threads 1"
    with pytest.raises(SystemExit) as left:
        cli.main(words.split())
    assert left.value.code == 0
    verdict = json.loads((folder / "verdict" / "verdict.json").read_text())
    assert verdict["model"]["name"] == "snn_vgg5_stog"
    assert verdict["model"]["kwargs"] == card["model"]["kwargs"]
    assert verdict["data"]["n"] == 6
    assert verdict["draws"]["report"] == 3
    assert "Robust accuracy" in " ".join(capsys.readouterr().out.split())


def test_held_out_tenth(folder: Path) -> None:
    for name in ("cat", "dog"):
        (folder / "animals" / name).mkdir(parents=True)
        for red in range(15):
            Image.new("RGB", (8, 8), (red, 0, 0)).save(folder / "animals" / name / f"{red}.png")
    words = "train --model snn_vgg5 --data animals --epochs 1 --batch-size 8 --out out "
    with pytest.raises(SystemExit) as left:
        cli.main([*words.split(), "--model-kwargs", *TINY.replace("in_chans=1", "").split()])
    assert left.value.code == 0
    card = json.loads((folder / "out" / "model.json").read_text())
    assert (card["data"]["n"], card["test"]["n"]) == (27, 3)
    assert card["data"]["classes"] == ["cat", "dog"]


def test_models_and_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    for command, expected in (
        ("models snn_sew7b_s*", "snn_sew7b_stog"),
        ("doctor", "backend torch"),
    ):
        with pytest.raises(SystemExit) as left:
            cli.main(command.split())
        assert left.value.code == 0
        assert expected in capsys.readouterr().out
    assert check_backend("torch") == "works"
    assert check_backend("numba") == "works"


@pytest.mark.parametrize(
    "shares, expected",
    [
        ({}, "not measured yet"),
        ({"a": 0.0}, "faster on 0 of 1 kinds of layers ("),
        (
            {"a": 0.3, "b": 0.0, "c": 0.08},
            "faster on 2 of 3 kinds of layers, below 8% to 30% spikes",
        ),
    ],
)
def test_doctor_says_what_this_machine_chose(shares, expected, monkeypatch):
    path = "robust_snn.kernels.convolution.break_even.measured_here"
    monkeypatch.setattr(path, lambda: shares)
    assert measured_choices().startswith(expected)


@pytest.mark.parametrize(
    "found, expected",
    [
        ({}, "not measured yet"),
        ({16384: 5, 4096: 2}, "4,096 neurons for 2, 16,384 neurons for 5 of 7 kinds of layers"),
    ],
)
def test_doctor_says_which_blocks_were_fastest(found, expected, monkeypatch):
    path = "robust_snn.kernels.spiking.numba.block_choice.measured_here"
    monkeypatch.setattr(path, lambda: found)
    assert measured_blocks().startswith(expected)


def test_models_are_chosen_by_a_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["models", "snn_resnet20*"])
    shown = capsys.readouterr().out
    assert shown.count("snn_resnet20") == len(MECHANISMS)
    assert "272 k" in shown and "SOPs" in shown
    with pytest.raises(SystemExit):
        cli.main(["models", "snn_resnet20_stog.digits"])
    alone = capsys.readouterr().out
    rows = [
        line.split() for text in (alone, shown) for line in text.splitlines() if "_stog" in line
    ]
    assert rows[0] == rows[1]  # the same weights and noise at every call
    assert rows[0][-3:] == ["cifar10,", "digits", "│"]
    with pytest.raises(SystemExit) as left:
        cli.main(["models", "snn_resnet2O"])
    assert left.value.code == 2
    assert "did you mean 'snn_resnet20'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["", "train", "evaluate", "models", "doctor", "demo", "report", "leaderboard", "study"],
)
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([*command.split(), "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert f"Example: robust-snn {command}" in shown if command else "evaluate" in shown


def test_installed_command() -> None:
    code = "import sys; from robust_snn.cli import main; main(['train', '--modl', 'x'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_what_an_encoding_lacks_is_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.open_streams()
    console.say("verdict in r\xfcn\udcff")
    stream.flush()
    assert stream.buffer.getvalue() == b"verdict in r\\xfcn\\udcff\n"


@pytest.mark.parametrize("columns", [1, 20, 80, 120])
def test_a_narrow_terminal_cuts_no_column_to_nothing(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    table = Table(*("attack", "gradient", "images", "claimed", "alone", "left", "95%"))
    table.add_row("apgd-ce-bptt", "bptt", "1000", "87.5%", "90.0%", "90.0%", "57.9-98.1%")
    console.say(table)
    shown = capsys.readouterr().out
    assert all(cell in shown for cell in ("apgd-ce-bptt", "1000", "90.0%", "57.9-98.1%"))


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_closed_streams_lead_nowhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)
    console.open_streams()
    console.say("done")
    with getattr(sys, name) as stream:
        assert stream.name == os.devnull and stream.writable()


def test_home_in_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    words = ["--out=~/a", "~/b:make", "~", "--out", "a~/b", "--x=~y", "./~/c", "mean=~/d"]
    expected = ["--out=/home/x/a", "/home/x/b:make", "/home/x", *words[3:]]
    assert [cli.at_home(word) for word in words] == expected


def test_pairs_in_every_form() -> None:
    expected = {"T": 4, "width": 0.25, "mean": [0.5], "decay": 0.001, "reset": "soft", "a": True}
    words = "--model-kwargs T=4 width=.25 --seed 1 --model-kwargs mean=[0.5] decay=1e-3"
    words = cli.joined([*words.split(), "--model-kwargs", "reset=soft a=true"])
    given = [word for option, word in zip(words, words[1:], strict=False) if "--model" in option]
    assert assignments(given, "x") == expected
    assert number("8/255", "eps") == 8 / 255
    for wrong in ("a", "=1", "1a=2", "a=", "a=!!python/name:os.system", "a={b: 1}"):
        with pytest.raises(InputError):
            assignments([wrong], "x")
    for bad in ("1/0", "nan", "inf", True, "", "1/2/3", "8//255"):
        with pytest.raises(InputError):
            number(bad, "x")
