"""Wrong input to an evaluation or a comparison: one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from refusals import refused, state
from robust_snn.eval.execution import run_folder
from robust_snn.training import save_checkpoint
from robust_snn.utils.values import assignments
from runs import finished_run

TINY = "T=2 width=0.1 head_width=8 img_size=8 in_chans=1"
EVALUATE = f"evaluate --model snn_vgg5 --model-kwargs {TINY} --data digits -n 4 --out out"
RGB = EVALUATE.replace("digits -n 4", "colours").replace("in_chans=1", "")
ROW = "{name: a, implementation: autoattack, attack: square}"

SUITES = {
    "list": "- 1",
    "empty": "",
    "broken": "a: [",
    "code": "a: !!python/object/apply:os.system ['touch executed']",
    "no-name": f"attacks: [{ROW}]",
    "no-attacks": "name: a",
    "none": "{name: a, attacks: []}",
    "words": "{name: a, attacks: [square]}",
    "key": f"{{name: a, norms: L2, attacks: [{ROW}]}}",
    "draws": f"{{name: a, draws: {{report: -3}}, attacks: [{ROW}]}}",
    "twice": f"{{name: a, attacks: [{ROW}, {ROW}]}}",
    "who": f"{{name: a, attacks: [{ROW.replace('autoattack', 'autoatack')}]}}",
    "what": f"{{name: a, attacks: [{ROW.replace('square', 'sqare')}]}}",
    "mode": f"{{name: a, attacks: [{ROW.replace('}', ', gradient: bptx}')}]}}",
    "noise": f"{{name: a, attacks: [{ROW.replace('}', ', noise: loud}')}]}}",
    "eot": f"{{name: a, attacks: [{ROW.replace('}', ', eot: true}')}]}}",
    "options": f"{{name: a, attacks: [{ROW.replace('}', ', options: {x: 1}}')}]}}",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad files, which all cases share: none may change it."""
    here = tmp_path_factory.mktemp("place")
    for name, text in SUITES.items():
        (here / f"{name}.yaml").write_text(text)
    (here / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (here / "folder.yaml").mkdir()
    (here / "file").write_text("mine")
    (here / "mine.py").write_text("")
    kwargs = {**assignments([TINY], "x"), "num_classes": 10}
    net = timm.create_model("snn_vgg5", **kwargs)
    card = {"model": {"name": "snn_vgg5", "kwargs": kwargs}}
    for name in ("good", "cut", "torn", "cardless"):
        save_checkpoint(net, here / f"{name}.safetensors", card)
    whole = (here / "good.safetensors").read_bytes()
    (here / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (here / "torn.json").write_text('{"model":')
    (here / "cardless.json").write_text("[]")
    (here / "empty.safetensors").touch()
    (here / "empty.pth").touch()
    torch.save({"state_dict": 5}, here / "number.pth")
    (here / "weights.txt").write_text("0.5")
    _data(here)
    for name, content in {
        "foreign": {"architecture": "resnet"},
        "other-run": {"robust_snn_run": 1, "seed": 7},
    }.items():
        (here / name).mkdir()
        (here / name / "config.json").write_text(json.dumps(content))
    (here / "damaged").mkdir()
    (here / "damaged" / "config.json").write_text("{")
    (here / "headless").mkdir()
    (here / "headless" / "verdict.json").write_text("{}")
    right = np.ones((3, 1), bool)
    finished_run(here / "run", right)
    finished_run(here / "weaker", right, threat={"norm": "Linf", "eps": 0.05})
    finished_run(here / "elsewhere", right, data={"name": "x", "split": "", "n": 3, "sha256": "d"})
    finished_run(here / "one", right[:1])
    for name in ("answerless", "garbled"):
        finished_run(here / name, right)
    (here / "answerless" / "results.npz").unlink()
    (here / "garbled" / "results.npz").write_bytes(b"PK")
    return here


def _data(here: Path) -> None:
    (here / "void").mkdir()
    (here / "flat").mkdir()
    Image.new("RGB", (8, 8)).save(here / "flat" / "a.png")
    for name in ("red", "blue"):
        (here / "colours" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), name).save(here / "colours" / name / "a.png")
    (here / "liars" / "cat").mkdir(parents=True)
    (here / "liars" / "cat" / "a.png").write_text("no picture")
    (here / "noise.tar").write_bytes(b"noise")
    with tarfile.open(here / "empty.tar", "w"):
        pass


CASES = [
    # paths in the place of names, and folders in that of files
    ("model", f"{EVALUATE} --model good.safetensors", "is a path, .* --checkpoint FILE"),
    ("model", f"{EVALUATE} --model nowhere/net.pth", "is a path, .* --checkpoint FILE"),
    ("model", f"{EVALUATE} --model run", "is a path, .* file.py:make_net"),
    (
        "checkpoint",
        "evaluate --checkpoint run --data digits -n 4 --out o",
        "'run/model.safetensors'",
    ),
    # values
    ("eps", f"{EVALUATE} --eps=-8/255", "--eps must not be negative"),
    ("eps", f"{EVALUATE} --eps nan", "--eps must be a number"),
    ("eps", f"{EVALUATE} --eps inf", "--eps must be a number"),
    ("eps", f"{EVALUATE} --eps 8/0", "--eps must be a number"),
    ("eps", f"{EVALUATE} --eps eight", "--eps must be a number"),
    ("eps", f"{EVALUATE} --eps 8", "did you mean 8/255"),
    ("n", f"{EVALUATE} -n 0", "number of images|choose between 1|no images"),
    ("n", EVALUATE.replace("-n 4", "-n -4"), "at least|between|Invalid value|whole"),
    ("n", f"{EVALUATE} -n 1.5", "Invalid value for '-n'"),
    ("n", f"{EVALUATE} -n 100000", "asked for 100000"),
    ("draws", f"{EVALUATE} --draws 0", "draws.report .* whole number of at least 1, got 0"),
    ("draws", f"{EVALUATE} --draws many", "Invalid value for '--draws'"),
    ("steps", f"{EVALUATE} --steps 0", "steps .* whole number of at least 1, got 0"),
    ("steps", f"{EVALUATE} --steps=-1", "steps .* got -1"),
    ("eot", f"{EVALUATE} --eot 0", "eot .* whole number of at least 1, got 0"),
    ("batch", f"{EVALUATE} --batch-size 0", "batch_size must be at least 1, got 0"),
    ("threads", f"{EVALUATE} --threads 0", "--threads must be at least 1, got 0"),
    ("workers", f"{EVALUATE} --workers 0", "workers must be at least 1, got 0"),
    ("workers", f"{EVALUATE} --workers two", "Invalid value for '--workers'"),
    ("gpu-share", f"{EVALUATE} --gpu-share 0.5", "gpu_share=0.5 is for .* give ray"),
    ("gpu-share", f"{EVALUATE} --gpu-share 2 --ray local", "gpu_share must lie in .*, got 2"),
    ("url", f"{EVALUATE} --certificates s3://b/c", "certificates takes a path of this machine"),
    ("url", "leaderboard runs/a s3://b/c", "runs takes a path of this machine"),
    ("seed", f"{EVALUATE} --seed x", "Invalid value for '--seed'"),
    ("kwargs", f"{EVALUATE} --model-kwargs decay=2", r"decay must be in \(0, 1\], got 2"),
    ("kwargs", f"{EVALUATE} --model-kwargs T=9", "'T' is given twice"),
    ("kwargs", f"{EVALUATE} --model-kwargs colour=2", "colour"),
    ("precision", f"{EVALUATE} --precision 0.1", "leave out -n and --draws"),
    ("precision", EVALUATE.replace("-n 4", "--precision 0"), "between 0 and 0.5, got 0"),
    ("precision", EVALUATE.replace("-n 4", "--precision 0.7"), "between 0 and 0.5, got 0.7"),
    ("precision", EVALUATE.replace("-n 4", "--precision nan"), "between 0 and 0.5, got nan"),
    ("precision", EVALUATE.replace("-n 4", "--precision 0.001"), "asked for 96"),
    ("precision", f"{EVALUATE} --pilot run", "--pilot serves --precision"),
    # names
    ("option", f"{EVALUATE} --epsilon 0.1", "No such option: --epsilon"),
    ("option", "evaluate --data digits --model snn_vgg5", "Missing option '--out'"),
    ("model", "evaluate --model vgg5 --data digits --out out", "did you mean 'snn_vgg5'"),
    ("suite", f"{EVALUATE} --suite autoattack", "unknown suite 'autoattack': did you mean"),
    ("norm", f"{EVALUATE} --norm linf", "did you mean 'Linf'"),
    ("device", f"{EVALUATE} --device gpu", "--device must be cpu, cuda or auto"),
    ("data", EVALUATE.replace("digits", "cifar11"), "unknown data set 'cifar11': did you mean"),
    ("sweep", f"{EVALUATE} --sweep epz=1", "epz"),
    # files and checkpoints
    ("weights", f"{EVALUATE} --checkpoint gone.safetensors", "no checkpoint at"),
    ("weights", f"{EVALUATE} --checkpoint empty.safetensors", "empty.safetensors"),
    ("weights", f"{EVALUATE} --checkpoint cut.safetensors", "cut.safetensors"),
    ("weights", f"{EVALUATE} --checkpoint torn.safetensors", "torn.json"),
    ("weights", f"{EVALUATE} --checkpoint cardless.safetensors", "cardless.json"),
    ("weights", f"{EVALUATE} --checkpoint .", "no checkpoint at"),
    ("weights", f"{EVALUATE} --checkpoint empty.pth", "empty.pth"),
    ("weights", f"{EVALUATE} --checkpoint number.pth", "number.pth|state"),
    ("weights", f"{EVALUATE} --checkpoint weights.txt", "weights.txt"),
    ("weights", f"{EVALUATE} --checkpoint void", "void"),
    ("pilot", EVALUATE.replace("-n 4", "--precision 0.1 --pilot void"), "has no results.npz"),
    ("pilot", EVALUATE.replace("-n 4", "--precision 0.1 --pilot garbled"), "is damaged"),
    ("pilot", EVALUATE.replace("-n 4", "--precision 0.1 --pilot one"), "has one image"),
    ("transfer", f"{EVALUATE} --source-checkpoint gone.safetensors", "no checkpoint at"),
    # data and shapes
    ("data", RGB.replace("colours", "void"), "no images in 'void'"),
    ("data", RGB.replace("colours", "mine.py"), "name the function .*: mine.py:make_data"),
    ("data", RGB.replace("colours", "flat"), "flat"),
    ("data", RGB.replace("colours", "gone"), "gone"),
    ("data", RGB.replace("colours", "liars"), "a.png"),
    ("data", RGB.replace("colours", "noise.tar"), "noise.tar"),
    ("data", RGB.replace("colours", "empty.tar"), "empty.tar"),
    ("data", RGB.replace("colours", "file"), "file"),
    ("shape", EVALUATE.replace("digits -n 4", "colours"), "expected images .* got .2, 3, 8, 8"),
    ("shape", f"{EVALUATE} --model-kwargs num_classes=3", r"labels must lie in 0\.\.2"),
    (
        "shape",
        "evaluate --checkpoint good.safetensors --data colours --out out",
        "expected images",
    ),
    # suites
    *(
        ("suite", f"{EVALUATE} --suite {name}.yaml", message)
        for name, message in {
            "gone": "cannot read the suite",
            "bytes": "cannot read the suite",
            "folder": "cannot read the suite",
            "list": "must be a mapping",
            "empty": "must be a mapping",
            "broken": "is not YAML",
            "code": "is not YAML",
            "no-name": "needs 'name'",
            "no-attacks": "needs 'attacks', a list",
            "none": "has no attacks",
            "words": "must be a mapping",
            "key": "'norms': did you mean 'norm'",
            "draws": "draws.report .* got -3",
            "twice": "two attacks called 'a'",
            "who": "did you mean 'autoattack'",
            "what": "did you mean 'square'",
            "mode": "unknown gradient mode 'bptx'",
            "noise": "unknown noise policy 'loud'",
            "eot": "eot .* got True",
            "options": "unknown option of 'a' 'x'",
        }.items()
    ),
    # folders
    ("out", EVALUATE.replace("out out", "out file"), "'file' is no folder"),
    ("out", EVALUATE.replace("out out", "out file/inside"), "'file/inside' is no folder"),
    ("out", EVALUATE.replace("out out", "out foreign"), "belongs to something else"),
    ("out", EVALUATE.replace("out out", "out damaged"), "cannot be read"),
    ("out", EVALUATE.replace("out out", "out headless"), "without its configuration"),
    ("out", EVALUATE.replace("out out", "out other-run"), "of an earlier version"),
    # before what else is wrong with a command, and so before its work
    *(
        ("out", f"{words} --out {out}", message)
        for words in (
            "evaluate --model gone.py:net --data gone",
            "diagnose --model gone.py:net --data gone",
            "certify --model gone.py:net --data gone --eps 0.1",
            "analyse --model gone.py:net --data gone",
            "train --model gone --data gone",
            "study --plan gone.yaml --data gone",
            "benchmark gone",
            "compare gone gone",
            "submit run",
        )
        for out, message in (
            ("file", "'file' is no folder; name another place for the "),
            ("/proc/run", "cannot write the .* to '/proc/run': "),
        )
    ),
    # comparisons
    ("compare", "compare run", "Missing argument 'second'"),
    ("compare", "compare run gone", "has no results.npz"),
    ("compare", "compare void run", "has no results.npz"),
    ("compare", "compare run headless", "has no results.npz"),
    ("compare", "compare run answerless", "has no results.npz"),
    ("compare", "compare garbled run", "is damaged"),
    ("compare", "compare run weaker", "threat.eps is 0.1 in one and 0.05"),
    ("compare", "compare run elsewhere", "data.sha256 is abc in one and d"),
]


@pytest.mark.parametrize(
    ("words", "message"),
    [case[1:] for case in CASES],
    ids=[f"{number:02d} {case[0]}" for number, case in enumerate(CASES)],
)
def test_bad_input(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    monkeypatch.chdir(place)
    before = state(place)
    assert re.search(message, refused(words, capsys))
    assert state(place) == before


def test_a_full_disk_is_seen_before_the_work(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Usage:
        free = 1000

    monkeypatch.chdir(place)
    before = state(place)

    def usage(path: Any) -> Usage:
        return Usage()

    monkeypatch.setattr(run_folder.shutil, "disk_usage", usage)
    assert re.search("may need .* GB on the disk of 'out'", refused(EVALUATE, capsys))
    assert state(place) == before
