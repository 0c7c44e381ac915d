"""Files that others wrote, with bits flipped: weights, results, images, recordings."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import timm
import torch

from fuzz.kinds import Kind, Place
from fuzz.mutation import mutated_bytes, mutated_tree
from fuzz.outcome import check_call
from robust_snn.data import load_dataset
from robust_snn.data.events.formats import (
    read_aedat2,
    read_aedat3,
    read_events,
    read_gesture_array,
)
from robust_snn.data.events.frames import to_frames
from robust_snn.eval import Predictions, Verdict, compare, load_curves
from robust_snn.eval.execution.report_data import ReportData
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.reporting.html import render_page
from robust_snn.eval.reporting.leaderboard import rank_runs
from robust_snn.eval.reporting.leaderboard_output import leaderboard_csv, render_leaderboard
from robust_snn.eval.reporting.terminal import render_verdict
from robust_snn.training import load_checkpoint, load_model
from robust_snn.training.training_folder import TrainingFolder

TINY = {"T": 1, "width": 0.1, "head_width": 8, "img_size": 8, "in_chans": 1, "num_classes": 10}
NAME = "snn_vgg5"


def _bytes_of(*names: str) -> Callable[[random.Random, Place], Any]:
    """Makes a case of one of some sound files: its name, and its bytes changed."""

    def make(rng: random.Random, place: Place) -> list[Any]:
        name = rng.choice(names)
        return [name, mutated_bytes(rng, (place.good / name).read_bytes())]

    return make


def _written(case: list[Any], place: Place) -> Path:
    path = place.work / Path(case[0]).name
    path.write_bytes(case[1])
    return path


def _weights(case: list[Any], place: Place) -> None:
    net = timm.create_model(NAME, **TINY)
    check_call(lambda: load_checkpoint(net, _written(case, place)))
    assert all(value.isfinite().all() for value in net.state_dict().values())


def _tree_of(name: str) -> Callable[[random.Random, Place], Any]:
    """Makes a case of a sound JSON file: its text, changed as a tree or as bytes."""

    def make(rng: random.Random, place: Place) -> bytes:
        text = (place.good / name).read_bytes()
        if rng.random() < 0.2:
            return mutated_bytes(rng, text)
        tree = json.loads(text)
        tree.pop("sha256", None)  # as other programs write it
        return json.dumps(mutated_tree(rng, tree)).encode("utf-8", "surrogatepass")

    return make


def _card(case: bytes, place: Place) -> None:
    shutil.copy(place.good / "good.safetensors", place.work)
    (place.work / "good.json").write_bytes(case)
    check_call(lambda: load_model(place.work / "good.safetensors"))


def _verdict(case: bytes, place: Place) -> None:
    run = place.work / "run"
    shutil.copytree(place.good / "run", run, ignore=shutil.ignore_patterns("pieces", "locks"))
    (run / "verdict.json").write_bytes(case)

    def use() -> None:
        import io

        from rich.console import Console

        from robust_snn.utils.plain_renderable import PlainRenderable

        verdict = Verdict.load(run / "verdict.json")
        shown = io.StringIO()
        console = Console(file=shown, markup=False, emoji=False, width=200)
        console.print(PlainRenderable(render_verdict(verdict)))
        console.print(PlainRenderable(render_leaderboard(rank_runs([run]))))
        assert all(line.isprintable() for line in shown.getvalue().split("\n"))
        leaderboard_csv(rank_runs([run])).encode()
        render_page(verdict).encode()
        compare(place.good / "run", run)

    check_call(use)


def _result(case: list[Any], place: Place) -> None:
    """A piece is read or made again; what a page reads is read or refused."""
    path = _written(case, place)
    if path.name == "results.npz":
        check_call(lambda: Predictions.load(place.work))
    elif path.name == "evidence.npz":
        verdict = Verdict.load(place.good / "run" / "verdict.json")
        check_call(lambda: render_page(verdict, ReportData.load(path)))
    elif path.name == "sweep.json":
        check_call(lambda: render_page(_sound(place), None, load_curves(place.work)))
    else:
        config = json.loads((place.good / "run" / "config.json").read_text())
        for key in ("robust_snn_run", "sha256"):
            config.pop(key)
        folder = RunFolder(place.work, config)
        (place.work / "pieces" / "clean").mkdir()
        path.rename(place.work / "pieces" / "clean" / path.name)
        check_call(lambda: folder.load("clean/00000"))


def _sound(place: Place) -> Verdict:
    return Verdict.load(place.good / "run" / "verdict.json")


def _state(case: list[Any], place: Place) -> None:
    path = _written(case, place)
    config = json.loads((place.good / "training" / "config.json").read_text())
    config.pop("robust_snn_training")
    if path.name == "config.json":
        with ExitStack() as held:
            check_call(lambda: held.enter_context(TrainingFolder(place.work, config).begun()))
    else:
        check_call(lambda: TrainingFolder(place.work, config).load())


def _images(case: list[Any], place: Place) -> None:
    path = _written(case, place)
    if path.suffix in (".png", ".jpg"):
        for name in ("cat", "dog"):
            (place.work / "set" / name).mkdir(parents=True)
            shutil.copy(path, place.work / "set" / name)
        path = place.work / "set"

    def use() -> None:
        data = load_dataset(path, n=2)
        assert data.images.isfinite().all() and 0 <= data.images.min() <= data.images.max() <= 1
        assert data.images.dtype == torch.float32 and data.labels.dtype == torch.int64
        assert len(data.labels) == len(data.images) and max(data.labels) < len(data.classes)

    check_call(use)


def _events(case: list[Any], place: Place) -> None:
    path = _written(case, place)
    readers = {"two.aedat": read_aedat2, "three.aedat": read_aedat3, "0.npy": read_gesture_array}
    check_call(lambda: to_frames(read_events(readers[path.name], path), 4, (128, 128), 16))


FILE_KINDS = {
    "weights": Kind(_bytes_of("good.safetensors", "good.pth"), _weights),
    "cards": Kind(_tree_of("good.json"), _card),
    "verdicts": Kind(_tree_of("run/verdict.json"), _verdict),
    "results": Kind(
        _bytes_of(
            *("run/results.npz", "run/evidence.npz", "run/pieces/clean/00000.npz", "run/sweep.json")
        ),
        _result,
    ),
    "states": Kind(_bytes_of("training/state.pt", "training/config.json"), _state),
    "images": Kind(
        _bytes_of(*("images.tar", "a.png", "a.jpg", "arrays.npz", "packed.safetensors")), _images
    ),
    "events": Kind(_bytes_of("two.aedat", "three.aedat", "0.npy"), _events),
}
