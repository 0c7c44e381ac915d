"""The trained networks of the package do what their cards say, without a network connection."""

from __future__ import annotations

import runpy
import socket
from functools import cache
from pathlib import Path

import pytest
import timm
import torch

from robust_snn.data import load_dataset
from robust_snn.models import create_network, zoo
from robust_snn.neurons import set_noise
from robust_snn.training import load_model, save_checkpoint
from robust_snn.utils.errors import InputError

MEGABYTE = 2**20
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no connection in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_there_are_some_and_they_are_small() -> None:
    assert {"snn_vgg5.digits", "snn_vgg5_stog.digits"} <= set(zoo.trained())
    assert set(zoo.trained()) <= set(timm.list_pretrained("snn_*"))
    sizes = [path.stat().st_size for path in Path(zoo.FOLDER).iterdir()]
    assert max(sizes) <= 4 * MEGABYTE and sum(sizes) < 20 * MEGABYTE


ELSEWHERE = {"cifar10": "data/cifar10/test.tar"}  # in the shared folder
loaded = cache(load_dataset)


@pytest.mark.parametrize("name", zoo.trained())
def test_a_trained_network_is_as_accurate_as_its_card_says(name: str, shared) -> None:
    net = timm.create_model(name, pretrained=True).eval()
    set_noise(net, "fresh", seed=0)
    card = zoo.card(name)
    source = card["data"]["name"]
    data = loaded(shared(ELSEWHERE[source]) if source in ELSEWHERE else source)
    data = data.take(card["test"]["n"])
    assert card["test"]["sha256"] == data.sha256
    batches = data.images.to(torch.get_default_device()).split(500)
    with torch.no_grad():
        found = torch.cat([net(images).argmax(1).cpu() for images in batches])
    accuracy = (found == data.labels).float().mean().item()
    # two draws of the noise on 500 images; at 90 % their difference deviates by 0.02
    noisy = "poisson" in name or "nlif" in name or "stog" in name
    assert accuracy == pytest.approx(card["accuracy"]["test"], abs=0.05 if noisy else 0.01)


@pytest.mark.parametrize("name", zoo.trained())
def test_a_card_describes_its_network(name: str) -> None:
    card, cfg = zoo.card(name), timm.get_pretrained_cfg(name)
    net = timm.create_model(name)
    kwargs = card["model"]["kwargs"]
    assert card["model"]["name"] == name.split(".")[0]
    assert cfg is not None and card["data"]["name"] in cfg.description
    assert cfg.input_size == (kwargs["in_chans"], kwargs["img_size"], kwargs["img_size"])
    assert sum(p.numel() for p in net.parameters()) == card["parameters"]
    assert card["evaluation"]["n"] >= 50
    if card["recipe"]["perturbation"] != "none":
        assert card["evaluation"]["eps"] == pytest.approx(card["recipe"]["eps"])


@pytest.mark.parametrize("name", zoo.trained())
def test_a_name_without_a_tag_means_the_network_of_the_paper(name: str) -> None:
    plain = timm.create_model(name.split(".")[0], device="meta")
    assert plain.encoder.in_chans == 3
    assert sum(p.numel() for p in plain.parameters()) > 2 * zoo.card(name)["parameters"]
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model(name.split(".")[0], pretrained=True, width=0.1)


def test_a_training_becomes_a_trained_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    script = runpy.run_path(str(ROOT / "examples" / "evaluate_zoo.py"), run_name="script")
    kwargs = {"T": 2, "width": 0.0625, "head_width": 8, "img_size": 8, "num_classes": 3}
    net = create_network("snn_vgg5", **kwargs)
    card = {"model": {"name": "snn_vgg5", "kwargs": kwargs}}
    save_checkpoint(net, tmp_path / "model.safetensors", card)
    (tmp_path / "weights").mkdir()
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "weights")
    for known in (zoo.trained, zoo.card):
        known.cache_clear()
        request.addfinalizer(known.cache_clear)
    assert zoo.trained() == ()  # which is remembered, as timm's asking is
    name = script["added"](tmp_path, "threes")
    assert name == "snn_vgg5.threes" and zoo.trained() == (name,)
    assert zoo.card(name)["model"] == card["model"]
    found = load_model(tmp_path / "weights" / f"{name}.safetensors")[0]
    assert torch.equal(found.fc.weight, net.fc.weight)
    with pytest.raises(InputError, match="no finished training"):
        script["added"](tmp_path / "weights", "none")
    monkeypatch.setitem(script["added"].__globals__, "LARGEST", 9)
    with pytest.raises(InputError, match="a packaged network has 9 at most"):
        script["added"](tmp_path, "large")


def test_the_tag_alone_gives_the_architecture_and_arguments_win() -> None:
    trained = create_network("snn_vgg5.digits", pretrained=True)
    bare = create_network("snn_vgg5.digits")
    assert [p.shape for p in bare.parameters()] == [p.shape for p in trained.parameters()]
    assert not torch.equal(bare.fc.weight, trained.fc.weight)
    assert create_network("snn_vgg5.digits", pretrained=True, num_classes=3).fc.out_features == 3
    assert create_network("snn_vgg5.digits", pretrained=True, T=2).encoder.steps == 2
    with pytest.raises(InputError, match="unknown trained network"):
        zoo.card("snn_vgg5.cifar11")
