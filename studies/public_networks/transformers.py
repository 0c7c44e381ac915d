"""Spiking transformers of public codebases, built small from their authors' classes."""

from __future__ import annotations

import sys
from typing import Any

from codebases import ATAN, SIGMOID, absent, codebase, mean_of_steps
from torch import Tensor, nn

from robust_snn import building_on_cpu

CLOCK_DRIVEN = "spikingjelly-0.0.0.0.12"
STAGES = [16, 32, 48, 64]  # widths of a network of four stages


def first(net: nn.Module, x: Tensor) -> Tensor:
    """Logits of a network that returns something more."""
    return net(x)[0]


def sizes(**more: Any) -> dict[str, Any]:
    """Arguments that the transformers share."""
    shared = {"img_size_h": 32, "img_size_w": 32, "patch_size": 4, "in_channels": 3}
    shared |= {"num_classes": 10, "num_heads": 8, "mlp_ratios": 2, "depths": 1, "sr_ratios": 1}
    return {**shared, **({} if "embed_dim" in more else {"embed_dims": 32}), **more}


@codebase(
    "ZK-Zhou/spikformer",
    "6212689",
    T=4,
    image=(3, 16, 16),
    surrogate=SIGMOID,
    packages=(CLOCK_DRIVEN,),
)
def spikformer() -> nn.Module:
    with building_on_cpu():
        from cifar10.model import Spikformer

        return Spikformer(**sizes(img_size_h=16, img_size_w=16), T=4)


def _qkformer(depths: int) -> nn.Module:
    with building_on_cpu():
        from cifar10.model import spiking_transformer

        return spiking_transformer(**sizes(depths=depths), T=4)


@codebase("zhouchenlin2096/QKFormer", "c2a00e8", T=4, surrogate=SIGMOID, packages=(CLOCK_DRIVEN,))
def qkformer() -> nn.Module:
    return _qkformer(2)  # the two stages of token attention


@codebase("zhouchenlin2096/QKFormer", "c2a00e8", T=4, surrogate=SIGMOID, packages=(CLOCK_DRIVEN,))
def qkformer_self_attention() -> nn.Module:
    return _qkformer(3)  # a neuron of its last stage takes [T * B, ...] as T * B steps


@codebase(
    "zhouchenlin2096/Spikingformer", "4378623", T=4, surrogate=SIGMOID, packages=(CLOCK_DRIVEN,)
)
def spikingformer() -> nn.Module:
    with building_on_cpu():
        from cifar10.model import vit_snn

        return vit_snn(**sizes(), T=4)


@codebase(
    "BICLab/Spike-Driven-Transformer",
    "3faa822",
    T=4,
    logits=first,
    surrogate=SIGMOID,
    packages=(CLOCK_DRIVEN,),
)
def spike_driven_transformer() -> nn.Module:
    with building_on_cpu():
        from model.spikeformer import SpikeDrivenTransformer

        return SpikeDrivenTransformer(**sizes(pooling_stat="0011"), T=4)


@codebase(
    "BICLab/Spike-Driven-Transformer-V2",
    "35f245f",
    images=2,
    T=2,
    image=(3, 16, 16),
    surrogate=SIGMOID,
    packages=(CLOCK_DRIVEN, "common"),
)
def spike_driven_transformer_v2() -> nn.Module:
    absent("torchinfo")
    with building_on_cpu():
        from classification.models import Spiking_vit_MetaFormer

        size = sizes(img_size_h=16, img_size_w=16, embed_dim=STAGES, depths=8, mlp_ratios=4)
        net = Spiking_vit_MetaFormer(**size)
    net.T = 2
    return net


@codebase(
    "BICLab/Spike-Driven-Transformer-V3", "00fcd1f", T=4, image=(3, 64, 64), packages=("common",)
)
def spike_driven_transformer_v3() -> nn.Module:
    absent("torchinfo")
    sys.path.insert(0, sys.path[0] + "/SDT_V3/Classification/Model_Base")
    from models import Spiking_vit_MetaFormer_Spike_SepConv

    size = sizes(img_size_h=64, img_size_w=64, patch_size=16, embed_dim=STAGES, depths=8)
    return Spiking_vit_MetaFormer_Spike_SepConv(**size)


@codebase(
    "xyshi2000/SpikingResformer",
    "3f75127",
    T=4,
    logits=mean_of_steps,
    surrogate=ATAN,
    packages=("spikingjelly-0.0.0.0.14",),
)
def spikingresformer() -> nn.Module:
    with building_on_cpu():
        from models.spikingresformer import BN, SpikingResformer, layer

        prologue = nn.Sequential(layer.Conv2d(3, 16, 3, 2, 1, bias=False, step_mode="m"), BN(16))
        stages = [["DSSA", "GWFFN"], ["DSSA", "GWFFN"]]
        size = {"img_size": 16, "T": 4, "num_classes": 10, "group_size": 16}
        return SpikingResformer(stages, [16, 32], [1, 2], [4, 2], prologue=prologue, **size)
