"""Spiking wide residual networks as SNN-RAT (NeurIPS 2022) and StoG (AAAI 2024) use them.

Pre-activation blocks whose two branches are summed with weights on the simplex; the currents, not
the spikes, are added. A last batch norm and spiking layer precede the pooled, linear readout.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import to_2tuple
from timm.models import generate_default_cfgs
from torch import Tensor, nn

from robust_snn.errors import InputError
from robust_snn.models.backbone import (
    SpikingBackbone,
    default_cfg,
    register_variants,
    variants,
)
from robust_snn.models.layers import MeanPool, SimplexSum, TimeConv2d
from robust_snn.models.mechanisms import NeuronOptions, build_neuron
from robust_snn.neurons import NormSpike

# Depth and widening factor.
SHAPES: dict[str, tuple[int, int]] = {"wrn16": (16, 4)}


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
        spikes = self.act1(x)
        branch = self.conv2(self.act2(self.conv1(spikes)))
        return self.sum(x if self.shortcut is None else self.shortcut(spikes), branch)


class SpikingWideResNet(SpikingBackbone):
    """Spiking wide residual network.

    Args:
        depth: Number of layers, `6 n + 4`.
        widen: Widening factor of the three stages.
        T: Time steps.
        width: Factor on all channel counts.
        img_size: Height and width of the input; the gates are built for it.
        mechanism: Row of `robust_snn.models.mechanisms.MECHANISMS`.
        in_chans: Input channels.
        num_classes: Number of classes.
        global_pool: `"avg"`, or `""` for the feature map.
        drop_rate: Dropout before the classifier.
        mean: Mean per input channel; CIFAR-10's by default.
        std: Standard deviation per input channel.
        device: Where to put the parameters.
        dtype: Type of the parameters.
        **neuron: Fields of `NeuronOptions`.
    """

    def __init__(
        self,
        depth: int,
        widen: int,
        *,
        T: int = 8,
        width: float = 1.0,
        img_size: int | tuple[int, int] = 32,
        mechanism: str = "none",
        in_chans: int = 3,
        num_classes: int = 10,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        **neuron: Any,
    ) -> None:
        if (depth - 4) % 6:
            raise InputError(f"depth must be 6 n + 4, got {depth}")
        options = NeuronOptions.read(neuron, type(self))

        def act(chans: int, size: tuple[int, int]) -> NormSpike:
            spiking = build_neuron(mechanism, (chans, *size), options)
            return NormSpike(nn.BatchNorm2d(chans), spiking, T)

        channels, size = max(1, round(16 * width)), to_2tuple(img_size)
        stages: list[nn.Module] = []
        info: list[dict[str, Any]] = []
        for index in range(3):
            stage: list[nn.Module] = []
            if index == 0:
                stage.append(TimeConv2d(in_chans, channels, 3, padding=1, bias=False))
            outputs = max(1, round(16 * 2**index * widen * width))
            for block in range((depth - 4) // 6):
                stride = 2 if index > 0 and block == 0 else 1
                reduced = -(-size[0] // stride), -(-size[1] // stride)
                acts = act(channels, size), act(outputs, reduced)
                stage.append(PreActivationBlock(channels, outputs, stride, *acts))
                channels, size = outputs, reduced
            stages.append(nn.Sequential(*stage))
            info.append({"num_chs": channels, "reduction": 2**index, "module": f"stages.{index}"})
        super().__init__(
            stages,
            info,
            act(channels, size),
            MeanPool(),
            channels,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
            mean=mean,
            std=std,
            device=device,
            dtype=dtype,
        )


default_cfgs = generate_default_cfgs(
    {name: default_cfg("stages.0.0", 8) for backbone in SHAPES for name in variants(backbone)}
)

for _backbone, (_depth, _widen) in SHAPES.items():
    register_variants(__name__, SpikingWideResNet, _backbone, 3, depth=_depth, widen=_widen)
