"""Networks of a user on the command line: made by their function, recorded, refused in one line."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_snn import InputError, cli
from robust_snn.cli.adapt_text import parse_adapt
from robust_snn.training import save_checkpoint
from robust_snn.utils.user_function import load_function

LAYERS = """
import torch
from torch import nn

class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).float()

    @staticmethod
    def backward(ctx, g):
        return g / (1 + ctx.saved_tensors[0].abs()) ** 2

class Net(nn.Module):
    def __init__(self, T, width, inputs):
        super().__init__()
        self.T = T
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, 10)

    def forward(self, x):
        current, v, out = self.first(x.flatten(1)), 0, 0
        for _ in range(self.T):
            v = 0.5 * v + current
            s = Step.apply(v - 1)
            v, out = v * (1 - s), out + self.last(s)
        return out / self.T
"""
NETS = """
from cli_layers import Net

def make_net(T=2, width=8, inputs=256):
    return Net(T, width, inputs)

def make_nothing():
    pass
"""
ATTACK = """
import torch
from robust_snn import Victim

def attack(victim, images, labels, eps, norm, seed, share):
    assert isinstance(victim, Victim)
    return (images + share * eps * torch.randn_like(images).sign()).clamp(0, 1)
"""
SUITE = """
name: mine
draws: {select: 1, report: 1}
attacks:
  - {name: own, implementation: cli_attack.py:attack, options: {share: 1}}
"""
EVALUATE = "evaluate --data digits -n 6 --suite suite.yaml --eps 0.1 --quiet "


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a user's files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("robust_snn.utils.user_code._loaded", {})
    for name, text in {"cli_layers": LAYERS, "cli_nets": NETS, "cli_attack": ATTACK}.items():
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path


def run(words: str) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words.split())
    assert left.value.code == 0


def made(**kwargs: Any) -> torch.nn.Module:
    torch.manual_seed(7)
    net: torch.nn.Module = load_function("cli_nets.py:make_net").result(**kwargs)
    return net


def test_from_a_file_to_a_verdict(folder: Path) -> None:
    net = made(T=3)
    torch.save({"model": torch.nn.DataParallel(net).state_dict()}, folder / "w.pth.tar")
    words = (
        f"{EVALUATE} --model cli_nets.py:make_net --model-kwargs T=3 --weights w.pth.tar "
        "--adapt mean=0.5,std=0.25 --out out"
    )
    run(words)
    verdict = json.loads((folder / "out" / "verdict.json").read_text())
    model = verdict["model"]
    assert model["name"] == "cli_nets.py:make_net"
    assert model["kwargs"] == {"T": 3, "width": 8, "inputs": 256}
    assert model["adapt"] == {"mean": [0.5], "std": [0.25]}
    assert model["parameters"] == sum(p.numel() for p in net.parameters())
    assert re.fullmatch(
        r"cli_attack.py [0-9a-f]{8}: attack\(share=1\)", verdict["attacks"][0]["implementation"]
    )
    run(words)  # the finished run is found again
    assert json.loads((folder / "out" / "verdict.json").read_text()) == verdict


@pytest.mark.slow
def test_processes_share_it(folder: Path) -> None:
    run(f"{EVALUATE} --model cli_nets.py:make_net --workers 2 --batch-size 1 --out shared")
    run(f"{EVALUATE} --model cli_nets.py:make_net --batch-size 1 --out alone")
    verdicts = [json.loads((folder / n / "verdict.json").read_text()) for n in ("shared", "alone")]
    for verdict in verdicts:
        del verdict["seconds"], verdict["attacks"][0]["seconds"], verdict["sha256"]
    assert verdicts[0] == verdicts[1]


def test_a_network_without_weights_is_the_same_one_again(folder: Path) -> None:
    for _ in range(2):
        run(f"{EVALUATE} --model cli_nets:make_net --out out")


def test_a_card_knows_the_arguments(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = {"name": "elsewhere/cli_nets.py:make_net", "kwargs": {"T": 3, "width": 4}}
    card = {"model": model, "adapt": {"mean": [0.5], "std": [0.25]}}
    save_checkpoint(made(T=3, width=4), folder / "w.safetensors", card)
    command = f"{EVALUATE} --weights w.safetensors --out out "
    run(f"{command} --model cli_nets.py:make_net")
    model = json.loads((folder / "out" / "verdict.json").read_text())["model"]
    assert model["kwargs"] == {"T": 3, "width": 4, "inputs": 256}
    assert model["adapt"] == card["adapt"]
    own = "--model cli_nets.py:make_net"
    for words, message in {
        f"{own} --model-kwargs T=4": "--model-kwargs has T=4, but the checkpoint .* with T=3",
        f"{own} --adapt mean=0.5,std=0.5": r"--adapt has std=\[0.5\], but the .* std=\[0.25\]",
        "--model cli_nets.py:make_nothing": "but the checkpoint is a elsewhere/cli_nets.py:make",
        "": "names elsewhere/cli_nets.py:make_net, whose code runs only if you name it",
    }.items():
        assert re.search(message, refused(command + words, capsys))


def refused(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        cli.main(words.split())
    lines = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and "Traceback" not in " ".join(lines)
    return lines[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model cli_nets.py", r"name the function in cli_nets.py .*: cli_nets.py:make_net"),
        ("--model cli_nets.py:make_nett", "did you mean 'make_net'"),
        ("--model gone.py:make_net", "no file 'gone.py'"),
        ("--model cli_nets.py:make_net --model-kwargs wdth=3", "did you mean 'width'"),
        ("--model cli_nets.py:make_net --model-kwargs width=wide", "make_net failed: TypeError"),
        ("--model cli_nets.py:make_nothing", "returned NoneType, expected a torch.nn.Module"),
        ("--model cli_nets.py:make_net --weights gone.pth", "no checkpoint at 'gone.pth'"),
        ("--model cli_nets.py:make_net --adapt means=1", "did you mean 'mean'"),
        ("--model cli_nets.py:make_net --suite gone.yaml", "cannot read the suite"),
    ],
)
def test_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    before = sorted(folder.rglob("*.*"))
    assert re.search(message, refused(f"{EVALUATE} --out out {words}", capsys))
    assert [p for p in sorted(folder.rglob("*.*")) if p.suffix != ".pyc"] == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {}),
        ("T=8, readout=membrane mean", {"T": 8, "readout": "membrane mean"}),
        ("mean=0.5/0.4/0.3,std=0.25", {"mean": [0.5, 0.4, 0.3], "std": [0.25]}),
        ("resize=32,channels=3,random=true", {"resize": [32, 32], "channels": 3, "random": True}),
        ("resize=24/32", {"resize": [24, 32]}),
        ("encoder=poisson", {"encoder": "poisson"}),
        ("output=nets.py:first", {"output": "nets.py:first"}),
    ],
)
def test_adapt_text(text: str | None, expected: dict[str, Any]) -> None:
    assert parse_adapt(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the form name=value"),
        ("T", "must have the form name=value"),
        ("T=8,,mean=1", "must have the form name=value"),
        ("T=8,T=4", "gives 'T' twice"),
        ("readuot=mean", "did you mean 'readout'"),
        ("gradient=bptt", "unknown name in --adapt 'gradient'"),
        ("T=8.5", "T in --adapt must be a whole number, got '8.5'"),
        ("T=-1", "must be a whole number"),
        ("mean=a/b", "mean in --adapt must be a number"),
        ("random=yes", "must be true or false"),
        ("output=first", "must be a function, as file.py:function"),
    ],
)
def test_adapt_text_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_adapt(text)
