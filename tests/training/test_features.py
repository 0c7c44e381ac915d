"""Averaged and best weights, checks, precision, pages, curves and TensorBoard."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from robust_snn import InputError
from robust_snn.data import ImageSet, load_dataset
from robust_snn.training import Diverged, load_card, load_recipe, train

KWARGS = {"T": 2, "width": 0.125, "head_width": 16, "img_size": 8}


@pytest.fixture(scope="module")
def data() -> tuple[ImageSet, ImageSet]:
    whole, test = load_dataset("digits", split="train", size=8), load_dataset("digits", size=8)
    return whole.take(80), test.take(20)


def run(data: tuple[ImageSet, ImageSet], out: Path, name: str = "natural", **changes: Any) -> Any:
    options = {key: changes.pop(key) for key in ("progress", "tensorboard") if key in changes}
    chosen = load_recipe(name).replace(**{"epochs": 3, "batch_size": 16, **changes})
    return train("snn_vgg5_stog", *data, chosen, out=out, model_kwargs=KWARGS, **options)


def test_held_out_images_choose_the_best_weights(
    data: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    done = run(data, tmp_path, held_out=0.2, check_every=2, check_eps=0.1)
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [bool(row["attacked_accuracy"]) for row in rows] == [False, True, True]
    assert all(0 <= float(row["held_out_accuracy"]) <= 1 for row in rows)
    checked = [row for row in done.history if row.attacked_accuracy is not None]
    best = max(checked, key=lambda row: row.attacked_accuracy)
    card = load_card(tmp_path / "best.safetensors")
    assert card["epochs"] == best.epoch
    assert card["accuracy"]["attacked"] == best.attacked_accuracy
    page = (tmp_path / "best.md").read_text()
    assert f"{best.attacked_accuracy:.1%}" in page and "no verdict" in page
    with pytest.raises(InputError, match="too small to part"):
        run(data, tmp_path / "none", held_out=0.001)


def test_recipes_without_their_mechanism_are_refused(
    data: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    for name, changes, message in (
        ("stog-vanilla", {}, "'stog-vanilla' is for stog neurons.*ends in _stog"),
        ("stable-gaussian", {}, "'stable-gaussian' is for dlif neurons.*ends in _dlif"),
        ("nsnn-stbp", {}, "'nsnn-stbp' is for nlif neurons.*ends in _nlif"),
        ("nsnn-tet", {}, "'nsnn-tet' is for nlif neurons.*ends in _nlif"),
        ("natural", {"gate_penalty": 1e-4}, "gate_penalty .* is for a model with gates"),
        ("natural", {"gate_opening": 0.5}, "gate_opening .* is for a model with gates"),
        ("natural", {"gate_share": 0.5}, "gate_share .* is for a model with gates"),
        ("at", {"eot": 4}, "eot .* is for a stochastic model"),
        ("natural", {"cutout": 9}, "cutout .* is for images larger than its 9 pixels"),
    ):
        with pytest.raises(InputError, match=message):
            chosen = load_recipe(name).replace(**changes)
            train("snn_vgg5", *data, chosen, out=tmp_path, model_kwargs=KWARGS)
        assert not (tmp_path / "config.json").exists()
    with pytest.raises(InputError, match="gates of the model open with 0.95 from the start"):
        run(data, tmp_path, gate_opening=0.99)


def test_a_card_says_what_was_done_to_the_images(
    data: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    run(data, tmp_path / "clean")
    card = load_card(tmp_path / "clean" / "model.safetensors")
    assert card["perturbed"]["epochs"] == 0
    assert card["recipe"]["augment"] is False  # digits are grey, and not shifted
    assert "| steps |" not in (tmp_path / "clean" / "model.md").read_text()
    run(data, tmp_path / "later", "at", perturbation="none,fgsm@3", eps=0.05)
    found = load_card(tmp_path / "later" / "model.safetensors")["perturbed"]
    assert found["epochs"] == 1 and found["largest_change"] == pytest.approx(0.05, abs=1e-6)
    page = (tmp_path / "later" / "model.md").read_text()
    assert "1 of 3 epochs, a pixel changed by 0.0500 at most" in page


def test_released_scripts_are_followed(data: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    plain, released = (
        run(data, tmp_path / str(on), "stog-at", released=on, cutout=4) for on in (False, True)
    )
    rates = [row.lr for row in released.history]
    assert rates == pytest.approx([0.1, 0.075, 0.025])  # one step of the cosine per epoch
    assert plain.history[0].lr < 0.1
    whole = load_recipe("stog-at").replace(released=True, batch_size=64)
    assert (whole.steps_per_epoch(80), load_recipe("stog-at").steps_per_epoch(80)) == (2, 1)


def test_averaged_weights_are_saved_and_go_on(
    data: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    def stop(now: Any) -> None:
        if now.epoch == 3:
            raise KeyboardInterrupt

    whole = run(data, tmp_path / "whole", "rat", ema=0.9)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "parts", "rat", ema=0.9, progress=stop)
    run(data, tmp_path / "parts", "rat", ema=0.9)
    one, two = (load_file(tmp_path / part / "model.safetensors") for part in ("whole", "parts"))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    plain = run(data, tmp_path / "plain", "rat")
    assert not torch.equal(plain.net.fc.weight, whole.net.fc.weight)
    assert plain.history[-1].train_loss == whole.history[-1].train_loss


def test_memory_can_be_saved_without_another_result(
    data: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    one = run(data, tmp_path / "plain", epochs=1)
    two = run(data, tmp_path / "saving", epochs=1, checkpointing=True)
    for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"perturbation_precision": "bf16", "channels_last": True}])
def test_brain_floats_train(
    data: tuple[ImageSet, ImageSet], tmp_path: Path, changes: dict[str, Any]
) -> None:
    done = run(data, tmp_path, "stog-at", epochs=2, precision="bf16", eps=0.05, **changes)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in done.net.parameters())
    assert done.history[-1].train_loss < 3


def test_a_loss_beyond_chance_stops(data: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="training diverged: .*smaller learning rate"):
        run(data, tmp_path, epochs=6, lr=1e4, momentum=0.0)


def test_pages_and_curves(data: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="curves are drawn with matplotlib")
    done = run(data, tmp_path, epochs=1)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "model.md").read_text()
    assert "snn_vgg5_stog on digits" in page and f"{done.history[0].test_accuracy:.1%}" in page


def test_a_network_without_spikes_is_told(
    data: tuple[ImageSet, ImageSet], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train("test_resnet", *data, load_recipe("natural").replace(epochs=1), out=tmp_path)
    assert "test_resnet has no spiking neurons of robust_snn" in caplog.text


def test_missing_curves_are_told(
    data: tuple[ImageSet, ImageSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run(data, tmp_path, epochs=1)
    assert "no picture of the curves: matplotlib is not installed" in caplog.text


def test_tensorboard(
    data: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="an extra")
    run(data, tmp_path / "on", epochs=1, tensorboard=True)
    assert list((tmp_path / "on" / "tensorboard").glob("events.*"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"robust-snn\[tensorboard\]"):
        run(data, tmp_path / "off", epochs=1, tensorboard=True)
