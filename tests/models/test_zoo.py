"""The trained networks of the package do what their cards say, without a network connection."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import timm
import torch

from robust_snn.data import load_dataset
from robust_snn.errors import InputError
from robust_snn.models import create_network, zoo
from robust_snn.neurons import set_noise

MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no connection in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_there_are_some_and_they_are_small() -> None:
    assert {"snn_vgg5.digits", "snn_vgg5_stog.digits"} <= set(zoo.trained())
    assert set(zoo.trained()) <= set(timm.list_pretrained("snn_*"))
    sizes = [path.stat().st_size for path in Path(zoo.FOLDER).iterdir()]
    assert max(sizes) < 2 * MEGABYTE and sum(sizes) < 6 * MEGABYTE


@pytest.mark.parametrize("name", zoo.trained())
def test_a_trained_network_is_as_accurate_as_its_card_says(name: str) -> None:
    net = timm.create_model(name, pretrained=True).eval()
    set_noise(net, "fresh", seed=0)
    card = zoo.card(name)
    data = load_dataset(card["data"]["name"], size=card["model"]["kwargs"]["img_size"])
    assert card["test"]["sha256"] == data.sha256
    with torch.no_grad():
        accuracy = (net(data.images).argmax(1) == data.labels).float().mean().item()
    # two draws of the noise on 500 images; at 90 % their difference deviates by 0.02
    noisy = "poisson" in name or "nlif" in name or "stog" in name
    assert accuracy == pytest.approx(card["accuracy"]["test"], abs=0.05 if noisy else 0.01)
    assert card["model"]["name"] == name.split(".")[0]
    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None and "digits" in cfg.description
    assert cfg.input_size == data.images.shape[1:]
    assert sum(p.numel() for p in net.parameters()) == card["parameters"]


@pytest.mark.parametrize("name", zoo.trained())
def test_a_name_without_a_tag_means_the_network_of_the_paper(name: str) -> None:
    plain = timm.create_model(name.split(".")[0], device="meta")
    assert plain.encoder.in_chans == 3
    assert sum(p.numel() for p in plain.parameters()) > 2 * zoo.card(name)["parameters"]
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model(name.split(".")[0], pretrained=True, width=0.1)


def test_the_tag_alone_gives_the_architecture_and_arguments_win() -> None:
    trained = create_network("snn_vgg5.digits", pretrained=True)
    bare = create_network("snn_vgg5.digits")
    assert [p.shape for p in bare.parameters()] == [p.shape for p in trained.parameters()]
    assert not torch.equal(bare.fc.weight, trained.fc.weight)
    assert create_network("snn_vgg5.digits", pretrained=True, num_classes=3).fc.out_features == 3
    assert create_network("snn_vgg5.digits", pretrained=True, T=2).encoder.steps == 2
    with pytest.raises(InputError, match="unknown trained network"):
        zoo.card("snn_vgg5.cifar11")
