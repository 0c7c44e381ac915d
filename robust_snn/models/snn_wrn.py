"""Spiking wide residual networks as SNN-RAT (NeurIPS 2022) and StoG (AAAI 2024) use them.

Pre-activation blocks whose two branches are summed with weights on the simplex; the currents, not
the spikes, are added. A last batch norm and spiking layer precede the pooled, linear readout.
"""

from __future__ import annotations

from torch import Tensor, nn

from robust_snn.models.backbone import Input, Trunk
from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import MeanPool
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.stages import Stages
from robust_snn.models.time_layers import SimplexSum, TimeConv2d, fork
from robust_snn.neurons import NormSpike
from robust_snn.utils.errors import InputError

# Depth and widening factor.
SHAPES: dict[str, tuple[int, int]] = {"wrn16": (16, 4), "wrn28": (28, 10)}


class PreActivationBlock(nn.Module):
    """Two spiking layers with a 3x3 convolution each, and a weighted shortcut."""

    def __init__(
        self, in_chans: int, out_chans: int, stride: int, act1: NormSpike, act2: NormSpike
    ) -> None:
        super().__init__()
        self.act1 = act1
        self.conv1 = TimeConv2d(in_chans, out_chans, 3, stride, padding=1, bias=False)
        self.act2 = act2
        self.conv2 = TimeConv2d(out_chans, out_chans, 3, padding=1, bias=False)
        self.shortcut = (
            TimeConv2d(in_chans, out_chans, 1, stride, bias=False)
            if in_chans != out_chans or stride != 1
            else None
        )
        self.sum = SimplexSum()

    def forward(self, x: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` to currents `[T, B, out_chans, h, w]`."""
        if self.shortcut is None:
            x, shortcut = fork(x)
            spikes = self.act1(x)
        else:
            spikes, other = fork(self.act1(x))
            shortcut = self.shortcut(other)
        return self.sum(shortcut, self.conv2(self.act2(self.conv1(spikes))))


def wide_resnet(build: Builder, entry: Input, depth: int, widen: int, width: float = 1.0) -> Trunk:
    """Spiking wide residual network.

    Args:
        build: Builds the layers.
        entry: What the network is built for.
        depth: Number of layers, `6 n + 4`.
        widen: Widening factor of the three stages.
        width: Factor on all channel counts.
    """
    if (depth - 4) % 6:
        raise InputError(f"depth must be 6 n + 4, got {depth}")
    built, channels = Stages(entry.size), max(1, round(16 * width))
    for index in range(3):
        stage: list[nn.Module] = []
        if index == 0:
            stage.append(TimeConv2d(entry.channels, channels, 3, padding=1, bias=False))
        outputs = max(1, round(16 * 2**index * widen * width))
        for block in range((depth - 4) // 6):
            stride = 2 if index > 0 and block == 0 else 1
            act = build.act(channels, built.size)
            size = built.halve() if stride == 2 else built.size
            stage.append(
                PreActivationBlock(channels, outputs, stride, act, build.act(outputs, size))
            )
            channels = outputs
        built.end(stage, channels)
    return built.trunk(build.act(channels, built.size), MeanPool(entry.readout))


default_cfgs = family_cfgs("stages.0.0", dict.fromkeys(SHAPES, 8))

for _backbone, (_depth, _widen) in SHAPES.items():
    register_variants(__name__, wide_resnet, _backbone, 3, depth=_depth, widen=_widen)
