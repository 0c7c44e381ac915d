"""Released weights: networks written down with their module names, and what loads of them."""

from __future__ import annotations

import json
import logging
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from helpers import assert_close_rms
from robust_snn.data import ImageSet
from robust_snn.models import fitted_kwargs
from robust_snn.models.convert import _opened, convert, load_released
from robust_snn.models.encodings import CIFAR10_MEAN, CIFAR10_STD, RELEASED_STATISTICS
from robust_snn.neurons import StochasticGate
from robust_snn.utils.errors import InputError
from zoo import images, narrow

T, WIDTH, HEAD = 4, 1 / 8, 32


class Neuron(nn.Module):
    """Hard-reset neurons on `[T * B, ...]`, with one factor per step on the input if asked."""

    def __init__(self, decay: float, factors: bool) -> None:
        super().__init__()
        self.decay = decay
        self.p = nn.Parameter(torch.empty(T).uniform_(0.8, 1.2)) if factors else None

    def forward(self, x: Tensor) -> Tensor:
        membrane, spikes = torch.zeros_like(x[: len(x) // T]), []
        for t, step in enumerate(x.chunk(T)):
            membrane = self.decay * membrane + (step if self.p is None else self.p[t] * step)
            spikes.append((membrane >= 1).float())
            membrane = membrane * (1 - spikes[-1])
        return torch.cat(spikes)


class Gate(nn.Module):
    """A gate whose parameter is only named: it stays open."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.poisson_rate = nn.Parameter(torch.empty(shape).uniform_(0.1, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x


Make = Callable[..., nn.Module]


def plain(decay: float = 1.0, factors: bool = False) -> Make:
    return lambda *shape: Neuron(decay, factors)


def gated(*shape: int) -> nn.Module:
    return nn.Sequential(Neuron(1.0, False), Gate(*shape))


class Released(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(s).view(-1, 1, 1) for s in (CIFAR10_MEAN, CIFAR10_STD))
        x = ((images - mean) / std).repeat(T, 1, 1, 1)
        return self.body(x).unflatten(0, (T, -1)).mean(0)

    def body(self, x: Tensor) -> Tensor:
        raise TypeError


class ReleasedVGG5(Released):
    def __init__(self, make: Make, flatten: bool) -> None:
        super().__init__()
        chans, size = [3, 8, 16, 16], [16, 8, 8]
        parts = [
            [
                nn.Conv2d(chans[i], chans[i + 1], 3, padding=1),
                nn.BatchNorm2d(chans[i + 1]),
                make(chans[i + 1], size[i], size[i]),
            ]
            for i in range(3)
        ]
        self.layer1 = nn.Sequential(*parts[0], nn.AvgPool2d(2))
        self.layer2 = nn.Sequential(*parts[1], *parts[2], nn.AvgPool2d(2))
        self.layer3 = nn.Sequential()
        dense = [nn.Linear(16 * 4 * 4, HEAD), make(HEAD), nn.Linear(HEAD, HEAD), make(HEAD)]
        head = [*dense, nn.Linear(HEAD, 10)]
        self.classifier = nn.Sequential(*([nn.Flatten()] if flatten else []), *head)

    def body(self, x: Tensor) -> Tensor:
        return self.classifier(self.layer3(self.layer2(self.layer1(x))).flatten(1))


class Convex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.comb = nn.Parameter(torch.tensor([0.3, 0.7]))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, size: int, make: Make) -> None:
        super().__init__()
        self.bn1, self.act1 = nn.BatchNorm2d(inputs), make(inputs, size, size)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = make(outputs, size // stride, size // stride)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.convex = Convex()

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.act1(self.bn1(x))
        branch = self.conv2(self.act2(self.bn2(self.conv1(spikes))))
        shortcut = self.convShortcut(spikes) if hasattr(self, "convShortcut") else x
        return self.convex.comb[0] * shortcut + self.convex.comb[1] * branch


class ReleasedWRN16(Released):
    def __init__(self, make: Make, flatten: bool = False) -> None:
        super().__init__()
        chans, sizes = [2, 8, 16, 32], [16, 16, 8]
        self.conv1 = nn.Conv2d(3, chans[0], 3, padding=1, bias=False)
        for level in range(3):
            stride = 1 if level == 0 else 2
            block = Block(chans[level], chans[level + 1], stride, sizes[level], make)
            size = sizes[level] // stride
            again = Block(chans[level + 1], chans[level + 1], 1, size, make)
            setattr(self, f"block{level + 1}", nn.Sequential(block, again))
        self.bn1, self.act = nn.BatchNorm2d(32), make(32, 4, 4)
        self.fc = nn.Linear(32, 10)

    def body(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.act(self.bn1(x)).mean((-2, -1)))


def trained(net: nn.Module) -> nn.Module:
    """Weights as after training: every norm has statistics of its own, and every layer fires."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 1.0, 2.0)
            nn.init.uniform_(module.bias, -0.2, 0.2)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=(0.15 * module.in_features) ** -0.5)
    net.to(torch.get_default_device())
    with torch.no_grad():
        net.train()(torch.rand(8, 3, 16, 16))
    return net.eval()


CASES = [
    ("snn_vgg5", ReleasedVGG5, plain(), True, {}),  # SNN-RAT
    ("snn_wrn16", ReleasedWRN16, plain(), False, {}),
    ("snn_vgg5_dlif", ReleasedVGG5, plain(0.99, True), False, {"dlif_form": "input"}),  # stable SNN
    ("snn_wrn16_dlif", ReleasedWRN16, plain(0.99, True), False, {"dlif_form": "input"}),
]


@pytest.mark.parametrize(("name", "cls", "make", "flatten", "kwargs"), CASES)
def test_released_weights_give_the_released_network(
    name: str, cls: type[Released], make: Make, flatten: bool, kwargs: dict[str, str]
) -> None:
    released = trained(cls(make, flatten))
    net = narrow(name, T=T, **kwargs)
    conversion = load_released(net, released.state_dict())
    assert not conversion.unused
    assert not conversion.missing
    x = images(name, 4)
    with torch.no_grad():
        expected = released(x)
        assert expected.abs().max() > 0
        assert_close_rms(net(x), expected)


@pytest.mark.parametrize(
    ("name", "cls", "flatten"),
    [("snn_vgg5_stog", ReleasedVGG5, True), ("snn_wrn16_stog", ReleasedWRN16, False)],
)
def test_released_gates_open_as_often_as_in_the_release(
    name: str, cls: type[Released], flatten: bool
) -> None:
    released = cls(gated, flatten)
    rates = {k: v for k, v in released.state_dict().items() if k.endswith("poisson_rate")}
    net = narrow(name, T=T)
    conversion = load_released(net, released.state_dict())
    assert not conversion.unused and not conversion.missing
    ours = [v for k, v in net.state_dict().items() if k.endswith("gate.probability")]
    assert len(ours) == len(rates)
    found, raw = (
        torch.cat([v.flatten() for v in ours]),
        torch.cat([*map(Tensor.flatten, rates.values())]),
    )
    assert_close_rms(found.sort().values, raw.sort().values, 5e-3)
    assert (found.sort().values <= raw.sort().values).all()


def test_a_gate_that_starts_at_one_opens_with_the_released_probability() -> None:
    released = ReleasedVGG5(gated, True)
    for module in released.modules():
        if isinstance(module, Gate):
            nn.init.ones_(module.poisson_rate)
    net = narrow("snn_vgg5_stog", T=T)
    load_released(net, released.state_dict())
    openings = [v for k, v in net.state_dict().items() if k.endswith("gate.probability")]
    assert all(torch.allclose(v, torch.tensor(0.999), atol=1e-6) for v in openings)


HERE = Path(__file__).parent
AUTHORS = json.loads((HERE / "released_logits.json").read_text())  # see studies/released_logits.py
TENSOR_OF = runpy.run_path(str(HERE.parents[1] / "studies" / "released_logits.py"))["tensor_of"]


@pytest.mark.parametrize("row", AUTHORS, ids=lambda row: f"{row['source']}-{row['model']}")
def test_logits_of_the_authors_classes(row: dict[str, Any]) -> None:
    net = narrow(row["model"], img_size=row["size"], width=1 / 8, **row["kwargs"]).double()
    released = {
        name: TENSOR_OF(name, shape, row["seed"] + i)
        for i, (name, shape) in enumerate(row["tensors"].items())
    }
    load_released(net, released)
    check_logits(net, row)


@torch.no_grad()
def check_logits(net: nn.Module, row: dict[str, Any]) -> None:
    x = TENSOR_OF("p", (3, 3, row["size"], row["size"]), row["seed"] - 1) / 1.2
    logits = net(x.to(torch.get_default_device()))
    torch.testing.assert_close(logits, torch.tensor(row["logits"], dtype=torch.float64))


BACKBONES = json.loads((HERE / "backbone_logits.json").read_text())  # see public_networks/backbones


@pytest.mark.parametrize("row", BACKBONES, ids=lambda row: row["model"])
def test_logits_of_the_authors_backbones(row: dict[str, Any]) -> None:
    """With the neurons that ours have by default; images as they are."""
    net = timm.create_model(row["model"], img_size=row["size"], **row["kwargs"]).double().eval()
    released = {}
    for i, (name, shape) in enumerate(row["tensors"].items()):
        rate = "firing_rate" in name
        tensor = TENSOR_OF("running_var" if rate else name, shape, row["seed"] + i)
        released[name] = tensor / 2 if rate else tensor
    conversion = load_released(net.to(torch.get_default_device()), released)
    assert not conversion.unused and not conversion.missing
    check_logits(net, row)


def test_layers_that_authors_never_run_are_left_out() -> None:
    row = next(row for row in BACKBONES if row["model"] == "snn_spikformer")
    tensors = {name: torch.zeros(shape) for name, shape in row["tensors"].items()}
    tensors |= {"block.0.norm1.weight": torch.ones(32), "block.0.attn.what": torch.ones(1)}
    net = timm.create_model(row["model"], img_size=row["size"], **row["kwargs"])
    assert convert(tensors, net).unused == ["block.0.attn.what"]


def test_names_of_parallel_training_are_understood() -> None:
    state = {f"module.{k}": v for k, v in ReleasedVGG5(plain(), True).state_dict().items()}
    assert not convert(state, narrow("snn_vgg5", T=T)).unused


def test_what_is_not_used_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    state = ReleasedVGG5(gated, True).state_dict()
    net = narrow("snn_vgg5", T=T)
    with pytest.raises(InputError, match=r"5 unused: layer1\.2\.1\.poisson_rate"):
        load_released(net, state)
    with caplog.at_level(logging.INFO, logger="robust_snn"):
        conversion = load_released(net, state, strict=False)
    assert len(conversion.unused) == 5
    assert caplog.records[0].levelno == logging.WARNING
    assert "poisson_rate" in caplog.text

    with pytest.raises(InputError, match=r"5 missing: .*gate\.probability"):
        load_released(narrow("snn_vgg5_stog", T=T), ReleasedVGG5(plain(), True).state_dict())


def test_weights_that_cannot_fit_are_refused() -> None:
    state = ReleasedVGG5(plain(0.99, True), False).state_dict()
    with pytest.raises(InputError, match="dlif_form='input'"):
        convert(state, narrow("snn_vgg5_dlif", T=T))
    with pytest.raises(InputError, match="build it with the T"):
        convert(state, narrow("snn_vgg5_dlif", T=8, dlif_form="input"))
    with pytest.raises(InputError, match="got conv.weight"):
        convert({"conv.weight": torch.zeros(1)}, narrow("snn_vgg5", T=T))


@pytest.mark.parametrize(
    ("name", "classes"), [("cifar10", 10), ("svhn", 10), ("cifar100", 100), ("tinyimagenet", 200)]
)
def test_other_sets_need_their_own_statistics(name: str, classes: int) -> None:
    """With CIFAR-10's, weights of CIFAR-100 give other answers without a word."""
    mean, std = RELEASED_STATISTICS[name]
    fitting = narrow("snn_vgg5", num_classes=classes, mean=mean, std=std)
    with pytest.raises(InputError, match="expected weights of SNN-RAT"):
        convert(fitting.state_dict(), fitting)
    for other in {"cifar100", "cifar10"} - {name}:
        if name == "svhn" and other == "cifar10":
            continue  # both have ten classes
        mean, std = RELEASED_STATISTICS[other]
        wrong = narrow("snn_vgg5", num_classes=classes, mean=mean, std=std)
        with pytest.raises(InputError, match="images normalised by mean="):
            convert(wrong.state_dict(), wrong)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *(("cifar100", "cifar100"), ("CIFAR100", "cifar100"), ("cifar-100-python", "cifar100")),
        *(("tiny-imagenet-200", "tinyimagenet"), ("TinyImageNet.tar", "tinyimagenet")),
        *(("SVHN", "svhn"), ("cifar10", None), ("CIFAR-10", None), ("digits", None)),
    ],
)
def test_trainings_take_the_statistics_of_their_set(name: str, known: str | None) -> None:
    images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    data = ImageSet(name, "train", images, labels, ("a", "b"))
    expected = list(RELEASED_STATISTICS[known][0]) if known else None
    assert fitted_kwargs("snn_vgg5", {}, data).get("mean") == expected
    assert "mean" not in fitted_kwargs("snn_vgg5_poisson", {}, data)
    assert fitted_kwargs("snn_vgg5", {"mean": [0.5] * 3}, data)["mean"] == [0.5] * 3
    grey = ImageSet(name, "train", images[:, :1], labels, ("a", "b"))
    assert "mean" not in fitted_kwargs("snn_vgg5", {}, grey)


def test_a_released_gate_at_its_floor_opens_as_there() -> None:
    gate = StochasticGate((1,), 0.1)
    gate.probability.data = _opened(torch.full((1,), 0.1))
    assert float(gate.opening.detach()) == pytest.approx(0.09899, abs=1e-5)


def test_the_stem_of_tiny_imagenet_halves_the_image() -> None:
    net = narrow("snn_vgg5", img_size=64, stem_stride=2)
    stem = net.get_submodule("stages.0.0.conv")
    assert stem.stride == (2, 2)
    half = narrow("snn_vgg5", img_size=32)
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in half.state_dict().items()
    }
