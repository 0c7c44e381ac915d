"""Spike-element-wise residual networks (Fang et al., NeurIPS 2021): 7B-Net, ResNet-18 and -34.

7B-Net has seven blocks of 32 channels, c32k1-(SEW block-MP2) x 7-fc. On DVS-Gesture it reads frames
`[B, 16, 2, 128, 128]`: `in_chans=2, img_size=128, num_classes=11`. Smaller images reach a single
pixel earlier; from there on the pooling is left out.

The ResNets are the paper's for ImageNet with `stem="imagenet"`, 7x7 with stride 2 and max pooling;
`stem="small"`, the default, is 3x3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from robust_snn.models.backbone import Input, Trunk
from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import MeanPool, SpikingMLP
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.stages import Stages, Stem, check_stem, halving_pool
from robust_snn.models.time_layers import ConvSpike, TimeMaxPool2d
from robust_snn.utils.errors import unknown

# How a block joins its input x and its branch: with ADD, up to a spike per block adds up.
CONNECTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, branch: x + branch,
    "and": lambda x, branch: x * branch,
    "iand": lambda x, branch: x * (1 - branch),
}


class SEWBlock(nn.Module):
    """Two spiking 3x3 convolutions joined with the block's input, spike by spike.

    Where they change its shape, a spiking 1x1 convolution does the same to the input.
    """

    def __init__(
        self,
        conv1: ConvSpike,
        conv2: ConvSpike,
        connection: str,
        shortcut: ConvSpike | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = conv1
        self.conv2 = conv2
        self.connection = connection
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Maps spikes `[T, B, C, H, W]` to spikes or sums of spikes, `[T, B, out_chans, h, w]`."""
        kept = x if self.shortcut is None else self.shortcut(x)
        return CONNECTIONS[self.connection](kept, self.conv2(self.conv1(x)))


def sew(
    build: Builder,
    entry: Input,
    stages: tuple[int, ...],
    connection: Literal["add", "and", "iand"] = "add",
    width: float = 1.0,
) -> Trunk:
    """Spike-element-wise residual network.

    Args:
        build: Builds the layers.
        entry: What the network is built for.
        stages: Channels of each block; a 1x1 convolution goes where they change.
        connection: How a block joins its input and its branch.
        width: Factor on all channel counts.
    """
    if connection not in CONNECTIONS:
        raise unknown("connection", connection, CONNECTIONS)
    built, channels = Stages(entry.size), entry.channels
    for base in (*stages, None):  # the last pooling is a stage of its own
        stage: list[nn.Module] = []
        if built.modules and min(built.size) > 1:
            stage.append(TimeMaxPool2d(2))
            built.pool()
        size, outputs = built.size, channels if base is None else max(1, round(base * width))
        if outputs != channels:
            stage.append(ConvSpike(channels, outputs, build.act(outputs, size), kernel_size=1))
        if base is not None:
            first, second = (
                ConvSpike(outputs, outputs, build.act(outputs, size)) for _ in range(2)
            )
            stage.append(SEWBlock(first, second, connection))
        channels = outputs
        built.end(stage, channels)
    height, across = built.size
    head = SpikingMLP(channels, built.size, (), [], build.steps, entry.readout)
    return built.trunk(nn.Identity(), head, channels * height * across)


def sew_resnet(
    build: Builder,
    entry: Input,
    stages: tuple[int, ...],
    blocks: tuple[int, ...],
    connection: Literal["add", "and", "iand"] = "add",
    stem: Stem = "small",
    width: float = 1.0,
    zero_init_last: bool = False,
) -> Trunk:
    """Spike-element-wise residual network of He et al.'s shape.

    Args:
        build: Builds the layers.
        entry: What the network is built for.
        stages: Channels of each stage; all but the first halve the image.
        blocks: Blocks of each stage.
        connection: How a block joins its input and its branch.
        stem: `"small"`, or `"imagenet"`, which quarters the image.
        width: Factor on all channel counts.
        zero_init_last: Whether the last norm of every block starts at 0, so that it begins as the
            identity.
    """
    if connection not in CONNECTIONS:
        raise unknown("connection", connection, CONNECTIONS)
    large = check_stem(stem)
    built = Stages(entry.size)
    channels = max(1, round(stages[0] * width))
    kernel, stride = (7, 2) if large else (3, 1)
    size = built.halve() if large else built.size
    act = build.act(channels, size)
    first: list[nn.Module] = [ConvSpike(entry.channels, channels, act, kernel, stride)]
    if large:
        first.append(halving_pool())
        built.halve()
    for index, (base, depth) in enumerate(zip(stages, blocks, strict=True)):
        stage = first if index == 0 else []
        outputs = max(1, round(base * width))
        for block in range(depth):
            stride = 2 if index > 0 and block == 0 else 1
            size = built.halve() if stride == 2 else built.size
            second = build.act(outputs, size)
            if zero_init_last:
                nn.init.zeros_(second.norm.weight)
                nn.init.constant_(second.norm.bias, float(connection == "and"))
            changes = stride != 1 or channels != outputs
            stage.append(
                SEWBlock(
                    ConvSpike(channels, outputs, build.act(outputs, size), stride=stride),
                    ConvSpike(outputs, outputs, second),
                    connection,
                    ConvSpike(channels, outputs, build.act(outputs, size), 1, stride)
                    if changes
                    else None,
                )
            )
            channels = outputs
        built.end(stage, channels)
    return built.trunk(nn.Identity(), MeanPool(entry.readout))


RESNETS = {"sew18": (2, 2, 2, 2), "sew34": (3, 4, 6, 3)}

_POOLS = {"sew7b": 1, **dict.fromkeys(RESNETS, 4)}  # side of the last map of CIFAR's images

default_cfgs = family_cfgs("stages.0.0.conv", _POOLS)

for _backbone, _blocks in RESNETS.items():
    _shape: dict[str, Any] = {"stages": (64, 128, 256, 512), "blocks": _blocks, "T": 4}
    register_variants(__name__, sew_resnet, _backbone, 4, **_shape)

register_variants(__name__, sew, "sew7b", 8, T=16, stages=(32,) * 7, defaults={"decay": 0.5})
