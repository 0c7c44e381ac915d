"""Spiking VGG networks as SNN-RAT (NeurIPS 2022) and StoG (AAAI 2024) use them.

Stages of 3x3 convolutions, each with batch norm and spiking neurons, average pooling between the
stages, and a head with two hidden spiking layers. The pooling opens a stage here and closes it in
the papers' code; the order of layers is the same.
"""

from __future__ import annotations

from torch import nn

from robust_snn.models.backbone import Input, Trunk
from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import SpikingMLP
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.stages import Stages
from robust_snn.models.time_layers import ConvSpike, TimeAvgPool2d, TimeMaxPool2d
from robust_snn.utils.errors import InputError

# "A" is 2x2 average pooling, "M" 2x2 maximum pooling, a number the channels of a convolution.
Layers = tuple[tuple[int | str, ...], ...]
POOLINGS = {"A": TimeAvgPool2d, "M": TimeMaxPool2d}

STAGES: dict[str, Layers] = {
    "vgg5": ((64,), ("A", 128, 128), ("A",)),
    "vgg11": ((64,), ("A", 128, 256), ("A", 512, 512, 512), ("A", 512, 512)),
    "vgg13": ((64, 64), ("A", 128, 128), ("A", 256, 256), ("A", 512, 512), ("A", 512, 512), ("A",)),
    "vgg16": (
        (64, 64),
        ("A", 128, 128),
        ("A", 256, 256, 256),
        ("A", 512, 512, 512),
        ("A", 512, 512, 512),
        ("A",),
    ),
}


def vgg(
    build: Builder,
    entry: Input,
    stages: Layers,
    width: float = 1.0,
    head_width: int | tuple[int, ...] = (4096, 4096),
    stem_stride: int = 1,
) -> Trunk:
    """Spiking VGG: stages of 3x3 convolutions, average pooling, hidden spiking layers.

    Args:
        build: Builds the layers.
        entry: What the network is built for.
        stages: Layers of each stage; see `STAGES`.
        width: Factor on all channel counts.
        head_width: Neurons per hidden layer of the head; a single number stands for two layers.
        stem_stride: Stride of the first convolution; 2 in StoG's networks for Tiny-ImageNet.
    """
    built, channels = Stages(entry.size), entry.channels
    for stage in stages:
        layers: list[nn.Module] = []
        for layer in stage:
            if layer in POOLINGS:
                layers.append(POOLINGS[str(layer)](2))
                if not min(built.pool()):
                    poolings = sum(step in POOLINGS for steps in stages for step in steps)
                    raise InputError(
                        f"img_size {entry.size} is too small for {poolings} poolings; it must be "
                        f"at least {2**poolings}"
                    )
                continue
            outputs = max(1, round(int(layer) * width))
            stride = 1 if built.channels or layers else stem_stride
            built.size = -(-built.size[0] // stride), -(-built.size[1] // stride)
            act = build.act(outputs, built.size)
            layers.append(ConvSpike(channels, outputs, act, stride=stride, bias=True))
            channels = outputs
        built.end(layers, channels)
    widths = (head_width,) * 2 if isinstance(head_width, int) else tuple(head_width)
    neurons = [build.neurons(hidden) for hidden in widths]
    head = SpikingMLP(channels, built.size, widths, neurons, build.steps, entry.readout)
    hidden = widths[-1] if widths else channels * built.size[0] * built.size[1]
    return built.trunk(nn.Identity(), head, hidden)


default_cfgs = family_cfgs(
    "stages.0.0.conv",
    {backbone: 32 // 2 ** (len(stages) - 1) for backbone, stages in STAGES.items()},
)

for _backbone, _stages in STAGES.items():
    register_variants(__name__, vgg, _backbone, len(_stages), stages=_stages)
