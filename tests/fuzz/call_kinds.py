"""Command lines and calls from Python with wrong arguments, up to where the work would begin."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import torch

import robust_snn
from fuzz.file_kinds import NAME, TINY
from fuzz.kinds import Kind, Place
from fuzz.mutation import TEXTS, mutated_text, wrong_value
from fuzz.outcome import Passed, check_call, check_command
from robust_snn import Victim, attacks
from robust_snn.adapters import autoattack
from robust_snn.data import ImageSet, load_dataset
from robust_snn.diagnostics import full
from robust_snn.eval import sweep
from robust_snn.training import train
from robust_snn.victim.scoring import accuracy
from zoo import narrow

KWARGS = " ".join(f"{name}={value}" for name, value in TINY.items())
MODEL = ["--model", NAME, "--model-kwargs", KWARGS]
DATA = ["--data", "digits", "-n", "2", "--threads", "1", "--device", "cpu"]
COMMANDS: tuple[list[str], ...] = (
    ["evaluate", *MODEL, *DATA, "--eps", "8/255", "--out", "out"],
    ["evaluate", "--checkpoint", "good.safetensors", *DATA, "--out", "out", "--suite", "quick"],
    ["evaluate", *MODEL, *DATA, "--out", "out", "--sweep", "eps=0,2/255", "--draws", "2"],
    ["evaluate", *MODEL, *DATA, "--out", "out", "--steps", "3", "--eot", "2", "--norm", "L2"],
    ["evaluate", *MODEL, "--data", "digits", "--precision", "0.2", "--pilot", "run", "--out", "o"],
    ["evaluate", *MODEL, *DATA, "--out", "out", "--batch-size", "2", "--workers", "2"],
    ["train", "--model", NAME, *DATA, "--out", "out", "--recipe", "at", "--set", "steps=2"],
    ["train", "--model", NAME, *DATA, "--out", "out", "--epochs", "2", "--lr", "0.1"],
    ["diagnose", *MODEL, *DATA, "--eps", "8/255", "--norm", "Linf", "--gradient", "bptr"],
    ["analyse", *MODEL, *DATA, "--out", "out", "--trials", "2", "--sample", "0"],
    ["compare", "run", "run"],
    ["leaderboard", "run", "--csv", "out/board.csv", "--json", "board.json"],
    ["report", "run"],
    ["study", "--plan", "newer-defences", *DATA, "--out", "out", "--defence", "AT", "--seed", "1"],
    ["models", "snn_vgg5"],
    ["benchmark", "layers", "--rounds", "1", "--clock", "wall", "--out", "out"],
)
PLACES = ("good.safetensors", "run", "images.tar", "a.png", "arrays.npz", "pipe", "folder")


def _begin(*_: object, **__: object) -> Any:
    raise Passed


# where each command has checked all it can and begins to work, or to write
BEGIN = (
    "robust_snn.eval.evaluate.RunFolder",
    "robust_snn.training.trainer.TrainingFolder",
    "robust_snn.diagnostics.diagnose",
    "robust_snn.metrics.repeat",
    "robust_snn.victim.scoring.correct",
    "robust_snn.eval.reporting.html.render_page",
    "robust_snn.metrics.profile",
    "robust_snn.benchmarks.run_part",
)

# where calls do, which may ask for a million steps
BEGIN_OF_CALLS = (
    *BEGIN[:2],
    "robust_snn.diagnostics.all_checks.measure_or_warn",
    "robust_snn.adapters._autoattack_run._Run.begin",
)


def _words(rng: random.Random, place: Place) -> list[str]:
    words = list(rng.choice(COMMANDS))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, action = rng.randrange(1, len(words)), rng.random()
        if action < 0.35:
            words[at] = rng.choice((*TEXTS, *PLACES, *PLACES))
        elif action < 0.7:
            words[at] = mutated_text(rng, words[at])
        elif action < 0.8 and len(words) > 2:
            del words[at]
        elif action < 0.9:
            words[at:at] = [words[at]]
        else:
            words += [rng.choice(words), rng.choice((*TEXTS, *PLACES))]
    return words


def _command(case: list[str], place: Place) -> None:
    if any("\0" in word for word in case):
        return  # no system passes such words
    for path in place.good.iterdir():
        (place.work / path.name).symlink_to(path)
    before = os.getcwd()
    os.chdir(place.work)
    try:
        with mock.patch.multiple("torch", set_num_threads=lambda _: None):
            patches = [mock.patch(name, _begin) for name in BEGIN]
            for patch in patches:
                patch.start()
            try:
                check_command(case)
            finally:
                for patch in patches:
                    patch.stop()
    finally:
        os.chdir(before)


@cache
def _victim() -> Victim:
    return Victim(narrow(NAME, "fresh", T=1, img_size=8, num_classes=3))


VALUES: dict[str, Callable[[], Any]] = {
    "victim": _victim,
    "net": lambda: _victim().net,
    "images": lambda: torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
    "labels": lambda: torch.tensor([0, 1]),
    "numpy images": lambda: np.zeros((2, 3, 8, 8), np.float32),
    "nan images": lambda: torch.full((2, 3, 8, 8), torch.nan),
    "byte images": lambda: torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
    "large images": lambda: torch.full((2, 3, 8, 8), 255.0),
    "grey images": lambda: torch.rand(2, 1, 8, 8),
    "flat images": lambda: torch.rand(2, 192),
    "no images": lambda: torch.rand(0, 3, 8, 8),
    "meta images": lambda: torch.rand(2, 3, 8, 8, device="meta"),
    "sparse images": lambda: torch.zeros(2, 3, 8, 8).to_sparse(),
    "complex images": lambda: torch.zeros(2, 3, 8, 8, dtype=torch.complex64),
    "column labels": lambda: torch.tensor([[0], [1]]),
    "one-hot labels": lambda: torch.eye(3)[:2],
    "wide labels": lambda: torch.tensor([0, 99]),
    "negative labels": lambda: torch.tensor([-1, 0]),
    "short labels": lambda: torch.tensor([0]),
    "scalar": lambda: torch.tensor(0.1),
    "numpy scalar": lambda: np.float32(0.1),
    "numpy integer": lambda: np.int64(2),
    "object": object,
    "class": lambda: dict,
    "module": lambda: torch.nn.Linear(2, 2),
    "set": lambda: ImageSet("x", "all", VALUES["images"](), VALUES["labels"](), ("a", "b", "c")),
}
_SET = "set"
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "evaluate": (
        robust_snn.evaluate,
        {
            **{"victim": "victim", "images": "images", "labels": "labels"},
            **{"suite": ["quick"], "eps": [0.1], "norm": ["Linf"], "draws": [2], "steps": [2]},
            **{"eot": [1], "batch_size": [2], "seed": [0], "workers": [1], "source": [None]},
            **{"model_info": [{}], "data_info": [{}], "calibration": [None]},
        },
    ),
    "sweep": (
        sweep,
        {
            **{"victim": "victim", "images": "images", "labels": "labels"},
            **{"axes": [{"eps": [0, 0.1]}], "suite": ["quick"], "eps": [0.1], "steps": [2]},
        },
    ),
    "Victim": (
        Victim,
        {
            **{"net": "net", "gradient": ["bptt"], "eot": [1], "noise": ["fresh"], "seed": [0]},
            **{"output": ["logits"], "sparse": ["never"], "eot_batch": ["auto"]},
        },
    ),
    "adapt": (robust_snn.adapt, {"obj": "net", "gradient": ["bptt"], "eot": [1], "seed": [0]}),
    "adapt by name": (
        robust_snn.adapt,
        {"obj": [NAME], **{k: [v] for k, v in TINY.items()}, "readout": ["mean"]},
    ),
    "load_dataset": (
        load_dataset,
        {"name_or_path": ["digits"], "split": ["test"], "size": [8], "n": [2], "steps": [None]},
    ),
    "accuracy": (
        accuracy,
        {"victim": "victim", "images": "images", "labels": "labels", "draws": [1]},
    ),
    "PGD": (
        attacks.PGD,
        {"steps": [2], "restarts": [1], "keep": [1], "loss": ["ce"], "targets": [None]},
    ),
    "attack": (
        attacks.PGD(steps=1, keep=1, select=1),
        {
            **{"victim": "victim", "images": "images", "labels": "labels"},
            **{"eps": [0.1], "norm": ["Linf"], "seed": [0]},
        },
    ),
    "autoattack": (
        autoattack.autoattack,
        {
            **{"victim": "victim", "images": "images", "labels": "labels", "eps": [0.1]},
            **{"norm": ["Linf"], "attacks": [["apgd-ce"]], "n_iter": [1], "seed": [0]},
        },
    ),
    "diagnose": (
        full,
        {
            **{"victim": "victim", "images": "images", "labels": "labels"},
            **{"eps": [0.1], "norm": ["Linf"], "seed": [0]},
        },
    ),
    "train": (
        train,
        {
            **{"model": [NAME], "data": _SET, "test": _SET, "recipe": ["natural"]},
            **{"model_kwargs": [{"T": 1, "width": 0.1}], "seed": [0], "device": ["cpu"]},
        },
    ),
}


def _call(rng: random.Random, place: Place) -> list[Any]:
    """A name of `CALLS` and arguments; those in lists are values, others names of `VALUES`."""
    name = rng.choice(list(CALLS))
    arguments = dict(CALLS[name][1])
    for _ in range(rng.choice((1, 1, 1, 2))):
        key = rng.choice(list(arguments))
        arguments[key] = rng.choice(list(VALUES)) if rng.random() < 0.4 else [wrong_value(rng)]
    return [name, arguments]


def _called(case: list[Any], place: Place) -> None:
    function, _ = CALLS[case[0]]
    arguments = {
        key: VALUES[value]() if isinstance(value, str) else value[0]
        for key, value in case[1].items()
    }
    if case[0] in ("evaluate", "sweep", "train"):
        arguments["out"] = place.work / "out"
    patches = [mock.patch(name, _begin) for name in BEGIN_OF_CALLS]
    for patch in patches:
        patch.start()
    try:
        check_call(lambda: function(**arguments))
    finally:
        for patch in patches:
            patch.stop()


CALL_KINDS = {"commands": Kind(_words, _command), "calls": Kind(_call, _called)}
