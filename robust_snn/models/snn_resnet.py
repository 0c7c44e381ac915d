"""Spiking residual networks with neurons after the sum: ResNet-18, ResNet-19 and ResNet-20.

ResNet-18 is He et al.'s with a 3x3 stem and no max pooling, as NSNN trains it (2022, table 5).
ResNet-19 is Zheng et al.'s (tdBN, AAAI 2021) with 3, 3, 2 blocks; NSNN's table lists 2, 3, 2, and
TET's code (ICLR 2022) has a stem of 64 channels: `blocks=(2, 3, 2)` and `stem=64`. ResNet-20 is He
et al.'s for CIFAR.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from robust_snn.models.backbone import Input, Trunk
from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import MeanPool, SpikingMLP
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.stages import Stages
from robust_snn.models.time_layers import ConvSpike, TimeConv2d, fork
from robust_snn.neurons import KeepsTimeNorms, TimeBatchNorm2d

NSNN: dict[str, Any] = {"T": 4, "defaults": {"decay": 0.5}}

# Channels of the stem and of the stages, blocks per stage, hidden layers of the head, neurons.
SHAPES: dict[str, dict[str, Any]] = {
    "resnet18": {"stem": 64, "stages": (64, 128, 256, 512), "blocks": (2, 2, 2, 2), **NSNN},
    "resnet19": {
        "stem": 128,
        "stages": (128, 256, 512),
        "blocks": (3, 3, 2),
        "head_width": (256,),
        **NSNN,
    },
    "resnet20": {"stem": 16, "stages": (16, 32, 64), "blocks": (3, 3, 3), "T": 8},
}


class BasicBlock(nn.Module):
    """Two normalised 3x3 convolutions and a shortcut; the sum of the currents spikes."""

    def __init__(
        self, conv1: ConvSpike, conv2: nn.Module, shortcut: nn.Module, neuron: nn.Module
    ) -> None:
        super().__init__()
        self.conv1 = conv1
        self.conv2 = conv2
        self.shortcut = shortcut
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        """Maps spikes `[T, B, C, H, W]` to spikes `[T, B, out_chans, h, w]`."""
        x, other = fork(x)
        return self.neuron(self.conv2(self.conv1(x)) + self.shortcut(other))


class ConvNorm(KeepsTimeNorms, nn.Sequential):
    """A convolution and its norm."""


def normalised(
    in_chans: int,
    out_chans: int,
    kernel_size: int,
    stride: int,
    norm: TimeBatchNorm2d,
    bias: bool = False,
    groups: int = 1,
) -> nn.Sequential:
    """A convolution and its norm, for a current that is added to another."""
    padding = kernel_size // 2
    conv = TimeConv2d(in_chans, out_chans, kernel_size, stride, padding, groups=groups, bias=bias)
    return ConvNorm(conv, norm)


def resnet(
    build: Builder,
    entry: Input,
    stem: int,
    stages: tuple[int, ...],
    blocks: tuple[int, ...],
    head_width: tuple[int, ...] = (),
    width: float = 1.0,
    zero_init_last: bool = False,
) -> Trunk:
    """Spiking residual network.

    Args:
        build: Builds the layers.
        entry: What the network is built for.
        stem: Channels of the first convolution.
        stages: Channels of each stage; all but the first halve the image.
        blocks: Blocks of each stage.
        head_width: Neurons per hidden layer between the pooled features and the classifier.
        width: Factor on all channel counts.
        zero_init_last: Whether the last norm of every block starts at 0, as timm's does by default:
            a block then passes the spikes of its shortcut on, and deep narrow networks learn.
    """
    built, channels = Stages(entry.size), max(1, round(stem * width))
    for index, (base, depth) in enumerate(zip(stages, blocks, strict=True)):
        stage: list[nn.Module] = []
        if index == 0:
            stage.append(ConvSpike(entry.channels, channels, build.act(channels, built.size)))
        outputs = max(1, round(base * width))
        for block in range(depth):
            stride = 2 if index > 0 and block == 0 else 1
            size = built.halve() if stride == 2 else built.size
            changes = stride != 1 or channels != outputs
            last = build.norm(outputs, branches=2)
            if zero_init_last:
                nn.init.zeros_(last.weight)
            stage.append(
                BasicBlock(
                    ConvSpike(channels, outputs, build.act(outputs, size), stride=stride),
                    normalised(outputs, outputs, 3, 1, last),
                    normalised(channels, outputs, 1, stride, build.norm(outputs, branches=2))
                    if changes
                    else nn.Identity(),
                    build.neurons(outputs, *size),
                )
            )
            channels = outputs
        built.end(stage, channels)
    if not head_width:
        return built.trunk(nn.Identity(), MeanPool(entry.readout))
    widths = tuple(max(1, round(hidden * width)) for hidden in head_width)
    neurons = [build.neurons(hidden) for hidden in widths]
    head = SpikingMLP(channels, (1, 1), widths, neurons, build.steps, entry.readout)
    return built.trunk(nn.Identity(), head, widths[-1])


default_cfgs = family_cfgs(
    "stages.0.0.conv",
    {backbone: 32 // 2 ** (len(shape["stages"]) - 1) for backbone, shape in SHAPES.items()},
)

for _backbone, _shape in SHAPES.items():
    register_variants(__name__, resnet, _backbone, len(_shape["stages"]), **_shape)
