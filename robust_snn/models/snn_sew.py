"""SEW 7B-Net (Fang et al., NeurIPS 2021): seven spike-element-wise blocks of 32 channels.

    c32k1-(SEW block-MP2) x 7-fc

On DVS-Gesture it reads frames `[B, 16, 2, 128, 128]`: `in_chans=2, img_size=128, num_classes=11`.
Smaller images reach a single pixel earlier; from there on the pooling is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from timm.models import generate_default_cfgs
from torch import Tensor, nn

from robust_snn.models.backbone import Input, Trunk, default_cfg, register_variants, variants
from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import SpikingMLP
from robust_snn.models.time_layers import ConvSpike, TimeMaxPool2d
from robust_snn.utils.errors import unknown

# How a block joins its input x and its branch: with ADD, up to a spike per block adds up.
CONNECTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, branch: x + branch,
    "and": lambda x, branch: x * branch,
    "iand": lambda x, branch: x * (1 - branch),
}


class SEWBlock(nn.Module):
    """Two spiking 3x3 convolutions joined with the block's input, spike by spike."""

    def __init__(self, conv1: ConvSpike, conv2: ConvSpike, connection: str) -> None:
        super().__init__()
        self.conv1 = conv1
        self.conv2 = conv2
        self.connection = connection

    def forward(self, x: Tensor) -> Tensor:
        """Maps spikes `[T, B, C, H, W]` to spikes or sums of spikes of the same shape."""
        return CONNECTIONS[self.connection](x, self.conv2(self.conv1(x)))


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
    channels, size = entry.channels, entry.size
    modules: list[nn.Module] = []
    chans: list[int] = []
    sizes: list[tuple[int, int]] = []
    for base in (*stages, None):  # the last pooling is a stage of its own
        stage: list[nn.Module] = []
        if modules and min(size) > 1:
            stage.append(TimeMaxPool2d(2))
            size = size[0] // 2, size[1] // 2
        outputs = channels if base is None else max(1, round(base * width))
        if outputs != channels:
            stage.append(ConvSpike(channels, outputs, build.act(outputs, size), kernel_size=1))
        if base is not None:
            first, second = (
                ConvSpike(outputs, outputs, build.act(outputs, size)) for _ in range(2)
            )
            stage.append(SEWBlock(first, second, connection))
        channels = outputs
        modules.append(nn.Sequential(*stage))
        chans.append(channels)
        sizes.append(size)
    head = SpikingMLP(channels, size, (), [], build.steps, entry.readout)
    return Trunk(modules, chans, sizes, nn.Identity(), head, channels * size[0] * size[1])


default_cfgs = generate_default_cfgs(
    {name: default_cfg("stages.0.0.conv", 1) for name in variants("sew7b")}
)

register_variants(__name__, sew, "sew7b", 8, T=16, stages=(32,) * 7, defaults={"decay": 0.5})
