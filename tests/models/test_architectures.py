"""Sizes and wiring of the published architectures."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from robust_snn.models.time_layers import SimplexSum
from robust_snn.neurons import DLIF, LIF
from robust_snn.utils.errors import InputError
from zoo import images, narrow

# Counts of the published networks; the weights of `SimplexSum` come on top.
PUBLISHED: list[tuple[str, dict[str, Any], int]] = [
    # WRN-16-4 and WRN-28-10, Zagoruyko and Komodakis (2016): 2.7 M and 36.5 M
    ("snn_wrn16", {}, 2_748_890),
    ("snn_wrn28", {}, 36_479_194),
    # ResNet-18 with the stem for CIFAR: 11.17 M; ResNet-20, He et al. (2016): 0.27 M
    ("snn_resnet18", {}, 11_173_962),
    ("snn_resnet20", {}, 272_474),
    # ResNet-19 as TET trains it: 12.63 M, in Deng et al. (2022) and every table that cites it
    ("snn_resnet19", {"stem": 64}, 12_630_858),
    # VGGSNN on DVS-CIFAR, Deng et al. (2022): 9.27 M
    ("snn_vggsnn", {"in_chans": 2, "img_size": 48}, 9_271_498),
    # Spikformer-4-384: 9.32 M; SpikingResformer-Ti with the stem for CIFAR: 10.79 M; HST-4-384, of
    # 6.74 M in the paper, and SDT-2-256 as their authors' classes have them
    ("snn_spikformer", {}, 9_324_730),
    ("snn_qkformer", {}, 6_706_234),
    ("snn_sdt", {}, 2_566_954),
    ("snn_resformer", {}, 10_793_162),
    # SEW-ResNet-18 and -34 on ImageNet, Fang et al. (2021): those of ResNet, 11.69 M and 21.80 M
    ("snn_sew18", {"stem": "imagenet", "num_classes": 1000}, 11_689_512),
    ("snn_sew34", {"stem": "imagenet", "num_classes": 1000}, 21_797_672),
    # MS-ResNet-18 and -34 on ImageNet, Hu et al. (2024): one shortcut of 64 channels more
    ("snn_msresnet18", {"stem": "imagenet", "num_classes": 1000}, 11_689_512 + 4_224),
    ("snn_msresnet34", {"stem": "imagenet", "num_classes": 1000}, 21_797_672 + 4_224),
    # 7B-Net on DVS-Gesture, Fang et al. (2021): 0.13 M
    ("snn_sew7b", {"in_chans": 2, "img_size": 128, "num_classes": 11}, 130_411),
]


@pytest.mark.parametrize(("name", "kwargs", "published"), PUBLISHED)
def test_parameters_are_as_many_as_published(
    name: str, kwargs: dict[str, Any], published: int
) -> None:
    net = timm.create_model(name, device="meta", **kwargs)
    mixing = sum(m.weight.numel() for m in net.modules() if isinstance(m, SimplexSum))
    assert sum(p.numel() for p in net.parameters()) == published + mixing


def layers(*widths: int, kernel: int = 9, bias: bool = True) -> int:
    """Weights, biases and norms of a chain of convolutions."""
    convs = sum(a * b * kernel + b * bias for a, b in zip(widths, widths[1:], strict=False))
    return convs + 2 * sum(widths[1:])


def dense(*widths: int) -> int:
    return sum(a * b + b for a, b in zip(widths, widths[1:], strict=False))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # tables of SNN-RAT's code (released with NeurIPS 2022), heads of 4096-4096
        ("snn_vgg5", layers(3, 64, 128, 128) + dense(128 * 64, 4096, 4096, 10)),
        (
            "snn_vgg11",
            layers(3, 64, 128, 256, *[512] * 5) + dense(512 * 16, 4096, 4096, 10),
        ),
        (
            "snn_vgg13",
            layers(3, 64, 64, 128, 128, 256, 256, *[512] * 4) + dense(512, 4096, 4096, 10),
        ),
        (
            "snn_vgg16",
            layers(3, 64, 64, 128, 128, *[256] * 3, *[512] * 6) + dense(512, 4096, 4096, 10),
        ),
        # 128c3-256c3-ap2-512c3-ap2-1024c3-512c3-1024fc-512fc-fc, NSNN table 5
        (
            "snn_cifarnet",
            layers(3, 128, 256, 512, 1024, 512) + dense(512 * 64, 1024, 512, 10),
        ),
    ],
)
def test_parameters_follow_the_papers_tables(name: str, expected: int) -> None:
    net = timm.create_model(name, device="meta")
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "T", "decay"),
    [
        ("snn_vgg11", 8, 1.0),
        ("snn_vgg11_stog", 8, 1.0),
        ("snn_vgg11_dlif", 8, 0.99),
        ("snn_wrn16_dlif", 8, 0.99),
        ("snn_cifarnet", 4, 0.5),
        ("snn_cifarnet_stog", 4, 1.0),
        ("snn_resnet19", 4, 0.5),
        ("snn_vggsnn", 10, 0.5),
        ("snn_sew7b", 16, 0.5),
    ],
)
def test_defaults_are_those_of_the_papers(name: str, T: int, decay: float) -> None:
    net = timm.create_model(name, device="meta")
    assert net.encoder.steps == T
    neurons = [m for m in net.modules() if isinstance(m, LIF)]
    assert {neuron.dynamics.decay for neuron in neurons} == {decay}
    assert {neuron.dynamics.threshold for neuron in neurons} == {1.0}
    assert all(isinstance(neuron, DLIF) for neuron in neurons) == name.endswith("dlif")


def test_every_number_of_a_mechanism_is_an_argument() -> None:
    net = narrow("snn_vgg5_dlif", dlif_form="input", decay=0.9)
    assert {m.form for m in net.modules() if isinstance(m, DLIF)} == {"input"}
    gates = [m.gate for m in narrow("snn_vgg5_stog", gate_probability=0.5).modules() if is_lif(m)]
    assert all((gate.probability == 0.5).all() for gate in gates)
    with pytest.raises(InputError, match="decay must be in"):
        narrow("snn_vgg5", decay=2.0)


def is_lif(module: nn.Module) -> bool:
    return isinstance(module, LIF)


@pytest.mark.parametrize("connection", ["add", "and", "iand"])
def test_spike_element_wise_blocks_connect(connection: str) -> None:
    net = narrow("snn_sew7b", connection=connection)
    features = net.forward_features(images("snn_sew7b"))
    assert features.max() <= (8 if connection == "add" else 1)
    with pytest.raises(InputError, match="connection"):
        narrow("snn_sew7b", connection="xor")


def test_maximum_pooling_leaves_sparser_gradients() -> None:
    """Of four spikes one gets a gradient, where an average gives it to all."""
    shares = []
    for pooling in "AM":
        net = narrow("snn_vgg5", stages=((64,), (pooling, 128, 128), (pooling,)))
        seen: list[torch.Tensor] = []
        net.stages[0].register_forward_hook(lambda *parts, seen=seen: seen.append(parts[2]))
        loss = net(images("snn_vgg5")).square().sum()
        (gradient,) = torch.autograd.grad(loss, seen[0])
        shares.append(float(gradient.ne(0).float().mean()))
    assert 0 < shares[1] <= 0.25 < shares[0]
    with pytest.raises(InputError, match="too small for 2 poolings"):
        narrow("snn_vgg5", img_size=2, stages=((64,), ("M", 128, 128), ("M",)))


def test_polarities_of_events_are_not_normalised() -> None:
    encode = narrow("snn_vggsnn", in_chans=2).encoder
    frames = torch.rand(2, 3, 2, 16, 16)
    assert torch.equal(encode(frames), frames.transpose(0, 1))


def test_poisson_coding_replaces_the_normalisation() -> None:
    with pytest.raises(InputError, match="drop mean and std"):
        narrow("snn_vgg5_poisson", mean=(0.5,) * 3)
    net = narrow("snn_vgg5_poisson")
    seen: list[torch.Tensor] = []
    net.encoder.register_forward_hook(lambda _, __, out: seen.append(out))
    net(images("snn_vgg5"))
    assert seen[0].shape == (4, 2, 3, 16, 16)
    assert set(seen[0].unique().tolist()) == {0.0, 1.0}


def projected(c: torch.Tensor) -> torch.Tensor:
    """Euclidean projection on the simplex by sorting."""
    descending = c.sort(descending=True).values
    excess = (descending.cumsum(0) - 1) / torch.arange(1, len(c) + 1)
    kept = int((descending > excess).nonzero().max())
    return (c - excess[kept]).clamp(min=0)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.4), (1.7, 0.1), (-0.6, 0.2), (-1.0, -3.0)])
def test_mixing_weights_are_projected_on_the_simplex(weights: tuple[float, float]) -> None:
    mixing = SimplexSum()
    mixing.weight = nn.Parameter(torch.tensor(weights))
    mixing.clamp_()
    once = mixing.weight.detach().clone()
    assert torch.allclose(once, projected(torch.tensor(weights)), atol=1e-6)
    assert once.sum() == 1 and (once >= 0).all()
    mixing.clamp_()
    assert torch.allclose(mixing.weight, once)


def test_a_residual_block_may_start_as_its_shortcut() -> None:
    net = narrow("snn_resnet20", zero_init_last=True)
    block = net.stages[0][1]
    spikes = (torch.rand(4, 2, block.conv1.conv.in_channels, 16, 16) < 0.3).float()
    assert torch.equal(block(spikes), spikes)
