"""Sweeps: axes are read strictly, every value is a run, and curves come back as they were."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from robust_snn import InputError, Victim, evaluate
from robust_snn.eval import AttackSpec, Draws, Suite, load_curves, sweep
from robust_snn.eval.protocol.sweep_axes import parse_axes, read_axes
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.victim import SETTINGS
from victims import told_by

INFO = {
    "name": "snn_vgg5_stog",
    "kwargs": {"T": 2, "width": 0.1, "head_width": 8, "img_size": 8, "in_chans": 3},
}
TINY = Suite(
    "tiny",
    (AttackSpec("pgd", "robust_snn", "pgd", gradient="bptt", steps=2, options={"eot_loss": 2}),),
    draws=Draws(2, 3),
    eps=0.1,
)


def net(name: str = "snn_vgg5_stog", **kwargs: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=10, **{**INFO["kwargs"], **kwargs}).eval()


def images(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Labelled by the network itself, so that there is something to attack."""
    return told_by(Victim(net()), count)


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("eps=0,2/255,0.1", (0.0, 2 / 255, 0.1)),
        ("steps=1,10", (1, 10)),
        ("eot=5", (5,)),
        ("T=2,4", (2, 4)),
        (
            "gradient=bptr,bptt(surrogate=atan(alpha=4),detach_reset=true)",
            ("bptr", "bptt(surrogate=atan(alpha=4),detach_reset=true)"),
        ),
    ],
)
def test_axes_as_words(word: str, values: tuple[object, ...]) -> None:
    assert read_axes([word], "--sweep") == {word.partition("=")[0]: values}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epss=1"], "axis of --sweep 'epss': did you mean 'eps'"),
        (["eps"], "must have the form axis=value,value"),
        (["eps="], "must have the form axis=value,value"),
        (["eps=1,,2"], "must be a number"),
        (["eps=-1"], "must not be negative"),
        (["eps=nan"], "must be a number"),
        (["steps=1.5"], "whole number"),
        (["steps=0"], "whole number"),
        (["eps=0.1,0.1"], "has a value twice"),
        (["eps=0.1", "eps=0.2"], "'eps' is given twice"),
        (["gradient=bptx"], "did you mean 'bpt"),
    ],
)
def test_refused_words(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_axes(words, "--sweep")


@pytest.mark.parametrize("given", [3, {"eps": 3}, {"eps": []}, {"steps": [True]}])
def test_refused_trees(given: object) -> None:
    with pytest.raises(InputError):
        parse_axes(given, "sweep")


def test_every_axis_is_a_curve_and_survives_the_disk(tmp_path: Path) -> None:
    x, y = images()
    axes = {"eps": [0, 0.05, 0.1], "steps": [1], "eot": [1], "gradient": ["bptr"], "T": [3]}
    verdict, curves = sweep(
        Victim(net()), x, y, axes, suite=TINY, out=tmp_path / "run", model_info=INFO
    )
    assert [p.value for p in curves["eps"]] == [0.0, 0.05, 0.1]
    assert curves["eps"][0].robust.value == verdict.clean.accuracy
    assert curves["eps"][2].robust.value == verdict.robust.accuracy
    assert load_curves(tmp_path / "run") == curves
    configs = {
        path.parent.name: json.loads(path.read_text())
        for path in (tmp_path / "run/sweep").glob("*/config.json")
    }
    assert sorted(configs) == ["T=3", "eot=1", "eps=0.05"] + sorted(
        name for name in configs if name.startswith(("gradient=", "steps="))
    )
    assert configs["steps=1"]["attacks"]["pgd"]["steps"] == 1
    assert configs["eot=1"]["attacks"]["pgd"]["options"] == {"eot_loss": 1}
    assert configs["gradient=bptr"]["attacks"]["pgd"]["gradient"] == "bptr"
    assert configs["T=3"]["model"]["kwargs"]["T"] == 3


def test_a_suite_brings_its_own_axes(tmp_path: Path) -> None:
    x, y = images()
    suite = replace(TINY, sweep={"eps": (0.0, 0.05)})
    verdict, curves = sweep(net(), x, y, suite=suite, out=tmp_path / "a")
    assert list(curves) == ["eps"]
    alone = evaluate(net(), x, y, suite=replace(suite, sweep={}), out=tmp_path / "a")
    assert alone.robust == verdict.robust  # the same run: axes are no part of its configuration


def test_files_of_others_change_nothing(tmp_path: Path) -> None:
    """A sweep of two shards of another network, but for its settings, which are refused."""
    x, y = images()
    own, other = tmp_path / "own", tmp_path / "other"
    options: dict[str, Any] = {"suite": TINY, "batch_size": 2, "report": False}
    found = sweep(net(), x, y, {"eps": [0.05]}, out=own, **options)
    stranger = net(decay=0.7)
    sweep(stranger, x, y, {"eps": [0.05]}, out=other, **options)
    files = [path.relative_to(own) for path in own.rglob("*.npz")]
    assert len([path for path in files if path.stem in ("00000", "00001")]) == 12

    def again() -> Any:
        for path in [*own.rglob("verdict.json"), own / "sweep.json"]:
            path.unlink()
        return sweep(net(), x, y, {"eps": [0.05]}, out=own, **options)

    def numbers(pair: Any) -> Any:
        verdict, curves = pair
        attacks = [(a.accuracy, a.ci, a.forwards) for a in verdict.attacks]
        return verdict.clean, verdict.robust, attacks, curves

    for path in files:
        shutil.copy(other / path, own / path)
    assert numbers(again()) == numbers(found)
    (own / "config.json").write_bytes((other / "config.json").read_bytes())
    with pytest.raises(InputError, match="decay"):
        again()


def test_a_damaged_sweep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"schema": 1}')
    with pytest.raises(InputError, match="cannot read the sweep"):
        load_curves(tmp_path)
    assert load_curves(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("model", "info", "message"),
    [
        ("snn_vgg5", {}, "needs model_info"),
        ("snn_vgg5_dlif", {**INFO, "name": "snn_vgg5_dlif"}, "weights per time step"),
    ],
)
def test_time_steps_that_cannot_vary(
    tmp_path: Path, model: str, info: dict[str, object], message: str
) -> None:
    x, y = images()
    with pytest.raises(InputError, match=message):
        sweep(net(model), x, y, {"T": [3]}, suite=TINY, out=tmp_path / "run", model_info=info)
    assert not (tmp_path / "run").exists()


def test_transfer_from_a_source(tmp_path: Path) -> None:
    x, y = images()
    source = net("snn_vgg5")
    verdict = evaluate(net(), x, y, suite=TINY, out=tmp_path / "run", source=source)
    assert [row.name for row in verdict.attacks] == ["pgd", "transfer-source"]
    row = verdict.attacks[1]
    assert "transfer(steps=100,source=checkpoint,refine=0)" in row.implementation
    assert row.backwards > 0  # of the source
    needs = Suite(
        "t", (AttackSpec("t", "robust_snn", "transfer", options={"source": "checkpoint"}),)
    )
    with pytest.raises(InputError, match="--source-checkpoint"):
        evaluate(net(), x, y, suite=needs, out=tmp_path / "b")
    with pytest.raises(InputError, match="the source has 5 classes"):
        few = timm.create_model("snn_vgg5", num_classes=5, **INFO["kwargs"])
        evaluate(net(), x, y, suite=TINY, out=tmp_path / "b", source=few)


def test_independent_attacks_meet_every_image(tmp_path: Path) -> None:
    x, y = images(8)
    rows = tuple(AttackSpec(name, "robust_snn", "fgsm", gradient="bptt") for name in ("a", "b"))
    suite = Suite("pair", rows, draws=Draws(1, 1), eps=0.5, independent=True)
    evaluate(net("snn_vgg5"), x, y, suite=suite, out=tmp_path / "run")
    for folder in ("01-a", "02-b"):
        with np.load(tmp_path / "run/pieces" / folder / "00000.npz") as piece:
            assert len(piece["positions"]) == 8


def test_a_sweep_over_steps_keeps_every_setting_of_the_victim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = images()
    chosen = {"gradient": "bptr", "eot": 2, "noise": "frozen", "seed": 5}
    fast = {"sparse": "auto", "channels_last": True, "bf16": True}
    module = importlib.import_module("robust_snn.eval.sweep")
    seen: list[Victim] = []

    def noted(victim: Victim, *arguments: Any, **settings: Any) -> Verdict:
        seen.append(victim)
        return evaluate(victim, *arguments, **settings)

    monkeypatch.setattr(module, "evaluate", noted)
    given = Victim(net(), **chosen, **fast)
    sweep(given, x, y, {"T": [3]}, suite=TINY, out=tmp_path / "run", model_info=INFO)
    moved = seen[-1]
    assert moved.net is not given.net
    assert {name: getattr(moved, name) for name in SETTINGS} == {
        name: getattr(given, name) for name in SETTINGS
    }
