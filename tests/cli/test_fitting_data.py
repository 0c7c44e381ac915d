"""Networks and data that suit each other, or are refused by name; sizes that fit the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robust_snn import InputError, cli
from robust_snn.cli.inputs import load_subject, split_calibration
from robust_snn.cli.training_inputs import fitting_width
from robust_snn.data import ImageSet, load_dataset
from robust_snn.neurons.noise_source import NoisyModule

DIGITS = "snn_vgg5.digits"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    grey = rng.random((6, 1, 28, 28), np.float32)
    np.savez("grey.npz", images=grey, labels=np.arange(6))
    np.savez("colour.npz", images=rng.random((4, 3, 16, 16), np.float32), labels=np.arange(4))
    np.savez("many.npz", images=rng.random((12, 1, 16, 16), np.float32), labels=np.arange(12))
    for name in ("cat", "dog"):
        (tmp_path / "animals" / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(f"animals/{name}/0.png")
    return tmp_path


def subject(model: str, data: str, *kwargs: str) -> Any:
    return load_subject(model, kwargs, None, data, None, None)


def test_a_packaged_network_gets_images_of_its_size_and_keeps_its_classes(folder: Path) -> None:
    found = subject(DIGITS, "grey.npz")
    assert found.images.images.shape[-2:] == (16, 16)
    assert found.info["kwargs"]["num_classes"] == 10
    digits = load_dataset("digits", n=16)
    answers = subject(DIGITS, "digits").net.eval()(digits.images).argmax(1)
    assert (answers == digits.labels).float().mean() > 0.9


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (DIGITS, "colour.npz", "images of 3 channels, and snn_vgg5.digits was trained on 1"),
        (
            DIGITS,
            "many.npz",
            "has 12 classes, the training data 10; class 10 is '10' here and 'none'",
        ),
        (DIGITS, "animals", "'animals' has 2 .* class 0 is 'cat' here and '0' there: labels must"),
        ("snn_resnet20.cifar10", "digits", "class 0 is '0' here and 'airplane' there"),
    ],
)
def test_what_does_not_suit_is_refused(folder: Path, model: str, data: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        subject(model, data)


@pytest.mark.parametrize(
    ("data", "outputs", "told"),
    [
        ("animals", 2, ""),
        ("animals", 3, "2 classes"),
        ("digits", 5, "10 classes"),
        ("grey.npz", 8, ""),
    ],
)
def test_another_number_of_outputs_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture, data: str, outputs: int, told: str
) -> None:
    """As of a network of many classes that meets a folder of some, numbered anew."""
    (folder / "flat.py").write_text(
        "from torch import nn\n"
        f"def net():\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear({outputs}))\n"
    )
    subject("flat.py:net", data).victim("cpu")
    said = [line for line in caplog.messages if "are taken for outputs" in line]
    assert len(said) == bool(told) and (not told or f"has {told}, the network {outputs}" in said[0])


def images(count: int) -> ImageSet:
    zeros = torch.zeros(count, 1, 1, 1)
    return ImageSet("x", "train", zeros, torch.zeros(count).long(), ("a", "b"))


def test_one_image_leaves_none_to_choose_attacks_on() -> None:
    scored, others = split_calibration(images(2), None, 32)
    assert (len(scored), len(others)) == (1, 1)
    with pytest.raises(InputError, match="'x' has one image.* give two or more"):
        split_calibration(images(1), None, 32)


@pytest.mark.parametrize(
    ("model", "kwargs", "count", "expected"),
    [
        ("snn_vgg5_stog", {}, 1297, {"width": 0.125, "head_width": 64}),
        ("snn_resnet20_stog", {}, 1297, {"width": 0.5}),
        ("snn_wrn16", {}, 100, {"width": 0.25}),
        ("snn_vgg11_stog", {}, 100, {"width": 0.25, "head_width": 256}),
        ("snn_vgg5", {"width": 1}, 1297, {}),
        ("snn_vgg5", {"head_width": 32}, 1297, {}),
        ("snn_vgg5", {}, 50_000, {}),
        ("resnet18", {}, 100, {}),
    ],
)
def test_few_images_get_a_narrow_network(
    model: str, kwargs: dict[str, Any], count: int, expected: dict[str, Any]
) -> None:
    assert fitting_width(model, kwargs, images(count)) == expected


def test_training_says_what_it_chose(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = "train --model snn_vgg5 --data digits --epochs 1 -n 50 --out out --model-kwargs T=2"
    with pytest.raises(SystemExit) as left:
        cli.main(words.split())
    assert left.value.code == 0
    assert (folder / "out" / "model.safetensors").stat().st_size < 400_000


def test_the_same_command_builds_the_same_noisy_network(folder: Path) -> None:
    seeds = []
    for _ in range(2):
        before = torch.get_rng_state()
        net = subject("snn_vgg5_stog.digits", "grey.npz").net
        assert torch.equal(torch.get_rng_state(), before)
        seeds.append([m.seed for m in net.modules() if isinstance(m, NoisyModule)])
    assert seeds[0] and seeds[0] == seeds[1]  # or a killed run would not resume
