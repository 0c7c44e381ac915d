"""Training: learns, repeats itself bit by bit, resumes after a kill, and refuses to mix."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from helpers import held_by_another, refuse_reading
from robust_snn import InputError
from robust_snn.data import ImageSet, load_dataset
from robust_snn.neurons import StochasticGate, TimeBatchNorm2d
from robust_snn.training import Diverged, Recipe, load_model, load_recipe, train
from robust_snn.training.optim import parameter_groups
from robust_snn.utils.errors import FolderError

KWARGS = {"T": 2, "width": 0.125, "head_width": 32, "img_size": 8}


@pytest.fixture(scope="module")
def digits() -> tuple[ImageSet, ImageSet]:
    return load_dataset("digits", split="train", size=8), load_dataset("digits", size=8)


@pytest.fixture
def small(digits: tuple[ImageSet, ImageSet]) -> tuple[ImageSet, ImageSet]:
    return digits[0].take(96), digits[1].take(40)


def recipe(name: str = "at", **changes: Any) -> Recipe:
    return load_recipe(name).replace(**{"epochs": 2, "batch_size": 32, **changes})


def run(data: tuple[ImageSet, ImageSet], out: Path, chosen: Recipe, **options: Any) -> Any:
    options = {"model_kwargs": KWARGS, **options}
    return train("snn_vgg5_stog", *data, chosen, out=out, **options)


def test_learns_digits(digits: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    kwargs = {**KWARGS, "T": 4, "width": 0.25, "head_width": 64}
    chosen = recipe(epochs=5, eps="8/255", gate_opening=0.8)
    done = run(digits, tmp_path, chosen, model_kwargs=kwargs)
    last = done.history[-1]
    assert last.test_accuracy > 0.9
    assert 0.7 < last.opening < 0.9
    assert 0 < last.firing_rate < 1
    assert done.history[0].train_loss > last.train_loss
    assert last.lr < 0.01 < done.history[0].lr
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert float(rows[-1]["test_accuracy"]) == pytest.approx(last.test_accuracy)
    net, card = load_model(tmp_path / "model.safetensors")
    assert card["accuracy"]["test"] == last.test_accuracy
    assert card["model"]["kwargs"] == {**kwargs, "num_classes": 10, "in_chans": 1}
    weights = done.net.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["natural", "at"])
def test_deterministic_and_independent_of_the_caller(
    small: tuple[ImageSet, ImageSet], tmp_path: Path, name: str
) -> None:
    chosen = recipe(name, perturbation="rfgsm") if name == "at" else recipe(name)
    kwargs = {**KWARGS, "drop_rate": 0.2}
    first = run(small, tmp_path / "a", chosen, model_kwargs=kwargs)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = run(small, tmp_path / "b", chosen, model_kwargs=kwargs)
    assert torch.equal(torch.get_rng_state(), before)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    other = run(small, tmp_path / "c", chosen, model_kwargs=kwargs, seed=1)
    assert weights(tmp_path / "a") != weights(tmp_path / "c")
    assert first.history[-1].train_loss == again.history[-1].train_loss
    assert first.history[-1].train_loss != other.history[-1].train_loss


def weights(out: Path) -> dict[str, bytes]:
    table = load_file(out / "model.safetensors")
    return {name: value.numpy().tobytes() for name, value in table.items()}


def test_interrupted_and_resumed(small: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    chosen = recipe(epochs=3, perturbation="rfgsm", eps=0.1)
    run(small, tmp_path / "whole", chosen)

    def stop(now: Any) -> None:
        if now.epoch == 2 and now.done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small, tmp_path / "parts", chosen, progress=stop)
    assert len(list(csv.DictReader((tmp_path / "parts" / "history.csv").open()))) == 1
    path = tmp_path / "parts" / "config.json"
    config = json.loads(path.read_text())
    del config["recipe"]["certified"]  # as a version wrote it whose recipes had no such setting
    path.write_text(json.dumps(config))
    seen: list[int] = []
    done = run(small, tmp_path / "parts", chosen, progress=lambda now: seen.append(now.epoch))
    assert min(seen) == 2
    assert [row.epoch for row in done.history] == [1, 2, 3]
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    seen.clear()
    run(small, tmp_path / "parts", chosen, progress=lambda now: seen.append(now.epoch))
    assert not seen
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def command(out: Path) -> list[str]:
    words = "train --model snn_vgg5_stog --data digits -n 256 --recipe at --eps 0.1 --epochs 4 "
    words += f"--seed 3 --threads 1 --model-kwargs T=2 width=.125 head_width=32 --out {out}"
    return [sys.executable, "-c", "from robust_snn.cli import main; main()", *words.split()]


@pytest.mark.slow
def test_killed_and_resumed(tmp_path: Path) -> None:
    subprocess.run(command(tmp_path / "whole"), check=True)
    process = subprocess.Popen(command(tmp_path / "parts"))
    while not (tmp_path / "parts" / "history.csv").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    subprocess.run(command(tmp_path / "parts"), check=True)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    kept = ["config.json", "history.csv", "lock", "model.json", "model.md", "model.safetensors"]
    assert [name for name in names if name != "curves.png"] == [*kept, "state.pt"]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_second_training_waits(
    small: tuple[ImageSet, ImageSet], tmp_path: Path, seed: int
) -> None:
    """What the first made, it takes over, or refuses if that is another training."""
    one, two, chosen, seen = tmp_path / "one", tmp_path / "two", recipe(epochs=1), []
    run(small, one, chosen)
    with held_by_another(two, lambda: shutil.copytree(one, two, dirs_exist_ok=True)):
        if seed:
            with pytest.raises(InputError, match="seed: 0, now 1"):
                run(small, two, chosen, seed=seed)
        else:
            run(small, two, chosen, progress=seen.append)
    assert not seen
    assert weights(two) == weights(one)


def test_refuses_to_mix(small: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    chosen = recipe(epochs=1)
    run(small, tmp_path / "a", chosen)
    before = weights(tmp_path / "a")
    for message, call in (
        ("seed: 0, now 1", lambda out: run(small, out, chosen, seed=1)),
        (r"recipe\.lr: 0\.1, now 0\.05", lambda out: run(small, out, chosen.replace(lr=0.05))),
        ("data.n: 96, now 64", lambda out: run((small[0].take(64), small[1]), out, chosen)),
        (
            r"model\.kwargs\.T: 2, now 3",
            lambda out: run(small, out, chosen, model_kwargs={**KWARGS, "T": 3}),
        ),
    ):
        with pytest.raises(InputError, match=message) as error:
            call(tmp_path / "a")
        assert "\n" not in str(error.value)
    assert weights(tmp_path / "a") == before


def test_other_folders_are_left_alone(small: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"robust_snn_run": 1}')
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_text("mine")
    for name, message in (
        ("file", "is no folder"),
        ("run", "something else"),
        ("weights", "holds other weights"),
    ):
        with pytest.raises(InputError, match=message):
            run(small, tmp_path / name, recipe(epochs=1))
    assert (tmp_path / "weights" / "model.safetensors").read_text() == "mine"


def test_damaged_state(small: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    run(small, tmp_path, recipe(epochs=1))
    state = tmp_path / "state.pt"
    flipped = bytearray(state.read_bytes())
    flipped[len(flipped) // 2] ^= 1  # in a tensor, of which torch checks no sum
    for damage in (state.read_bytes()[:200], flipped):
        state.write_bytes(damage)
        with pytest.raises(InputError, match="is damaged; remove it"):
            run(small, tmp_path, recipe(epochs=1))


def test_a_disk_that_fills_is_named_and_the_training_resumes(
    small: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    chosen, fsync, written = recipe(epochs=2), os.fsync, []
    run(small, tmp_path / "whole", chosen)

    def full(file: int) -> None:
        written.append(file)
        if len(written) > 6:  # the configuration, and the five files of the first epoch
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FolderError, match="No space left.*start the same training again"):
            run(small, tmp_path / "parts", chosen)
    assert len(list(csv.DictReader((tmp_path / "parts" / "history.csv").open()))) == 1
    assert load_model(tmp_path / "parts" / "model.safetensors")[1]["epochs"] == 1
    run(small, tmp_path / "parts", chosen)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_a_state_that_the_system_refuses_is_not_damaged(
    small: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe(epochs=1)
    run(small, tmp_path, chosen)
    refuse_reading(monkeypatch, errno.EIO, "read_bytes")
    with pytest.raises(FolderError, match="start the same training again"):
        run(small, tmp_path, chosen)
    refuse_reading(monkeypatch, errno.EIO, "read_text")
    with pytest.raises(InputError, match="cannot read the configuration .*: Input/output error"):
        run(small, tmp_path, chosen)


def test_divergence_keeps_the_last_good_weights(
    small: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    chosen = recipe("natural", epochs=3)
    good = run(small, tmp_path / "good", chosen)

    def poison(now: Any) -> None:
        if now.epoch == 2:
            state["net"].weight.data.fill_(torch.nan)

    state: dict[str, Any] = {}
    original = torch.nn.Linear.forward

    def spy(self: Any, x: torch.Tensor) -> torch.Tensor:
        if self.out_features == 10:
            state["net"] = self
        return original(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Linear, "forward", spy)
        with pytest.raises(Diverged, match="loss is nan in step 2 of epoch 2.*keeps epoch 1"):
            run(small, tmp_path / "bad", chosen, progress=poison)
    net, card = load_model(tmp_path / "bad" / "model.safetensors")
    assert card["epochs"] == 1
    assert card["accuracy"]["train"] == good.history[0].train_accuracy
    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_a_statistic_that_is_not_finite_is_no_result(
    small: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[TimeBatchNorm2d] = []
    original = TimeBatchNorm2d.forward

    def spy(self: TimeBatchNorm2d, x: torch.Tensor) -> torch.Tensor:
        norms.append(self)
        return original(self, x)

    def poison(now: Any) -> None:
        norms[0].running_var.fill_(torch.inf)  # which no loss in train mode shows

    monkeypatch.setattr(TimeBatchNorm2d, "forward", spy)
    with pytest.raises(Diverged, match="running_var' is not finite after epoch 1; nothing is kept"):
        run(small, tmp_path, recipe("natural", epochs=1), progress=poison)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: replace(d, images=d.images * 2), r"pixels must lie in \[0, 1\]"),
        (lambda d: replace(d, images=d.images / 0 * 0), "NaN pixels"),
        (lambda d: replace(d, labels=d.labels + 1), "labels must lie in 0..9"),
        (lambda d: replace(d, images=d.images.repeat(1, 3, 1, 1)), "channels"),
        (lambda d: replace(d, images=d.images[..., :6]), "built for images of 8x8"),
    ],
)
def test_bad_data_writes_nothing(
    small: tuple[ImageSet, ImageSet],
    tmp_path: Path,
    change: Callable[[ImageSet], ImageSet],
    message: str,
) -> None:
    kwargs = {**KWARGS, "in_chans": 1}
    for data in ((change(small[0]), small[1]), (small[0], change(small[1]))):
        with pytest.raises(InputError, match=message):
            run(data, tmp_path / "out", recipe(epochs=1), model_kwargs=kwargs)
    assert not (tmp_path / "out").exists()


def test_gates_have_their_own_group(small: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    net = timm.create_model("snn_wrn16_stog", T=1, width=0.25, img_size=8)
    decayed, plain, gates = parameter_groups(net, 0.1)
    probabilities = [m.probability for m in net.modules() if isinstance(m, StochasticGate)]
    assert [id(p) for p in gates["params"]] == [id(p) for p in probabilities]
    assert (decayed["weight_decay"], plain["weight_decay"], gates["weight_decay"]) == (0.1, 0, 0)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert sum(len(g["params"]) for g in (decayed, plain, gates)) == len(list(net.parameters()))
    with pytest.raises(InputError, match="give gate_penalty"):
        run(small, tmp_path / "adam", recipe(optimizer="adamw", lr=1e-3))
    chosen = recipe(optimizer="adamw", lr=1e-3, gate_penalty=1e-4, epochs=1, clip_norm=1.0)
    assert run(small, tmp_path / "adam", chosen).history[-1].train_loss > 0


def test_colour_images_are_augmented(tmp_path: Path) -> None:
    colour = ImageSet(
        "noise", "all", torch.rand(32, 3, 8, 8), torch.arange(32) % 2, classes=("a", "b")
    )
    losses = [
        run((colour, colour), tmp_path / str(on), recipe(epochs=1, augment=on)).history[0]
        for on in (True, False)
    ]
    assert losses[0].train_loss != losses[1].train_loss
    assert losses[0].opening == pytest.approx(losses[1].opening, abs=0.1)


class Items:
    """A map-style data set, which counts what is read."""

    def __init__(self, data: ImageSet) -> None:
        self.data, self.read = data, 0
        self.targets, self.classes = data.labels.tolist(), data.classes

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read += 1
        return self.data.images[index], self.targets[index]


def test_images_that_are_read_as_they_are_needed(
    small: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They train the very weights; few enough are read once; one that changes is named."""
    data, options = (small[0].take(32), small[1].take(8)), {"check_every": 1, "held_out": 0.25}
    run(data, tmp_path / "memory", recipe(**options))
    few = Items(data[0])
    run((few, Items(data[1])), tmp_path / "few", recipe(**options))
    assert few.read < 2 * len(few)  # its labels' items, and each image once
    monkeypatch.setattr("robust_snn.training.trainer.IN_MEMORY", 0)
    many = Items(data[0])
    run((many, Items(data[1])), tmp_path / "many", recipe(**options))
    assert many.read > 2 * len(many)
    weights = [(tmp_path / name / "model.safetensors") for name in ("memory", "few", "many")]
    assert len({path.read_bytes()[-1000:] for path in weights}) == 1
    many.read, whole = 0, Items.__getitem__

    def changing(self: Items, index: int) -> tuple[torch.Tensor, int]:
        image, label = whole(self, index)
        return (1 - image if index == 5 and self.read > 2 * len(self) else image), label

    monkeypatch.setattr(Items, "__getitem__", changing)
    with pytest.raises(InputError, match="image 5 of 'Items' has changed"):
        run((many, Items(data[1])), tmp_path / "changed", recipe(epochs=4))
    with pytest.raises(InputError, match="images to train are no set with labels, but Tensor"):
        run((data[0].images, data[1]), tmp_path / "tensor", recipe())  # type: ignore[arg-type]
