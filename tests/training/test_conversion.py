"""From activations to spikes: thresholds are percentiles of currents, and training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import assert_close_rms
from robust_snn import Victim
from robust_snn.data import load_dataset
from robust_snn.models import create_network
from robust_snn.neurons import LIF
from robust_snn.training import convert, load_model, load_recipe, save_checkpoint, train
from robust_snn.utils.errors import InputError

KWARGS: dict[str, Any] = {"T": 1, "width": 0.0625, "head_width": 8, "in_chans": 1, "img_size": 16}
ANN = {**KWARGS, "gradient": "activation(relu)"}


def saved(folder: Path, name: str = "snn_vgg5", **kwargs: Any) -> Path:
    torch.manual_seed(0)
    kwargs = {**ANN, **kwargs}
    net, path = create_network(name, **kwargs), folder / "ann.safetensors"
    save_checkpoint(net, path, {"model": {"name": name, "kwargs": kwargs}})
    return path


def currents(net: nn.Module, images: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    layers = [module for module in net.modules() if isinstance(module, LIF)]
    hooks = [m.register_forward_pre_hook(lambda _, x: found.append(x[0])) for m in layers]
    with torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    return found


def test_thresholds_are_the_percentiles_of_currents(tmp_path: Path) -> None:
    path, images = saved(tmp_path), torch.rand(16, 1, 16, 16)
    out = tmp_path / "snn.safetensors"
    net = convert(path, images, out, T=10, percentile=90, scale=1.0, search_steps=10)
    for current in currents(net.train(), images):
        assert_close_rms(torch.quantile(current.flatten(), 0.9), torch.tensor(1.0), 1e-4)
    lower = convert(path, images, out, T=10, percentile=90, scale=0.25, search_steps=10)
    first = currents(lower.train(), images)[0]
    assert_close_rms(torch.quantile(first.flatten(), 0.9), torch.tensor(4.0), 1e-4)
    again, card = load_model(out)
    assert card["model"]["kwargs"]["T"] == 10
    x = images[:4]
    assert_close_rms(again(x), lower.eval()(x))


def test_many_steps_fire_as_the_activations(tmp_path: Path) -> None:
    """The twin that attacks transfer from answers as the spiking network does in the long run."""
    path, images = saved(tmp_path, reset="soft"), torch.rand(16, 1, 16, 16)
    net = convert(path, images, tmp_path / "snn.safetensors", T=400, percentile=100, scale=1.0)
    with torch.no_grad():
        spiking, twin = net(images), Victim(net, gradient="activation(relu)")(images)
    spread = spiking.std()
    assert float((spiking - twin).abs().mean() / spread) < 0.1


def test_a_training_starts_from_it_and_resumes_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "snn.safetensors"
    data, test = load_dataset("digits", split="train", n=32), load_dataset("digits", n=8)
    convert(saved(tmp_path), data.images, out, T=2, search_steps=4)
    recipe = load_recipe("natural").replace(epochs=1, batch_size=32, lr=1e-9, min_lr=0)
    kwargs = {**KWARGS, "T": 2}
    run = train("snn_vgg5", data, test, recipe, out=tmp_path / "a", model_kwargs=kwargs, start=out)
    started = load_model(out)[0].state_dict()
    for name, value in run.net.state_dict().items():
        if name.endswith("weight"):
            assert_close_rms(value, started[name], 1e-5)
    with pytest.raises(InputError, match="another configuration"):
        train("snn_vgg5", data, test, recipe, out=tmp_path / "a", model_kwargs=kwargs)


@pytest.mark.parametrize(
    ("name", "kwargs", "options", "message"),
    [
        ("snn_vgg5", {"gradient": "bptt"}, {}, "is no network of activations"),
        ("snn_vgg5", {"decay": 0.9}, {}, "is for integrate-and-fire neurons"),
        ("snn_vgg5", {}, {"percentile": 101}, "percentile is in"),
        ("snn_vgg5", {}, {"scale": 0}, "scale above 0"),
        ("snn_msresnet18", {}, {}, "convert a VGG or a CIFARNet"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    tmp_path: Path, name: str, kwargs: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    if name != "snn_vgg5":
        kwargs = {**kwargs, "head_width": None, "decay": 1.0}
    given = {key: value for key, value in {**ANN, **kwargs}.items() if value is not None}
    net, path = create_network(name, **given), tmp_path / "ann.safetensors"
    save_checkpoint(net, path, {"model": {"name": name, "kwargs": given}})
    with pytest.raises(InputError, match=message):
        convert(path, torch.rand(4, 1, 16, 16), tmp_path / "snn.safetensors", T=2, **options)
