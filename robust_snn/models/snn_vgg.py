"""Spiking VGG networks as SNN-RAT (NeurIPS 2022) and StoG (AAAI 2024) use them.

Stages of 3x3 convolutions, each with batch norm and spiking neurons, average pooling between the
stages, and a head with two hidden spiking layers. The pooling opens a stage here and closes it in
the papers' code; the order of layers is the same.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import to_2tuple
from timm.models import generate_default_cfgs
from torch import nn

from robust_snn.errors import InputError
from robust_snn.models.backbone import (
    SpikingBackbone,
    default_cfg,
    register_variants,
    variants,
)
from robust_snn.models.layers import ConvSpike, SpikingMLP, TimeAvgPool2d
from robust_snn.models.mechanisms import NeuronOptions, build_neuron

# "A" is 2x2 average pooling, a number the channels of a convolution.
STAGES: dict[str, tuple[tuple[int | str, ...], ...]] = {
    "vgg5": ((64,), ("A", 128, 128), ("A",)),
    "vgg11": ((64,), ("A", 128, 256), ("A", 512, 512, 512), ("A", 512, 512)),
}


class SpikingVGG(SpikingBackbone):
    """Spiking VGG.

    Args:
        stages: Layers of each stage; see `STAGES`.
        T: Time steps.
        width: Factor on all channel counts.
        head_width: Neurons in each of the two hidden layers of the head.
        img_size: Height and width of the input; the head and the gates are built for it.
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
        stages: tuple[tuple[int | str, ...], ...],
        *,
        T: int = 8,
        width: float = 1.0,
        head_width: int = 4096,
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
        options = NeuronOptions.read(neuron, type(self))
        channels, size = in_chans, to_2tuple(img_size)
        modules: list[nn.Module] = []
        info: list[dict[str, Any]] = []
        for index, layers in enumerate(stages):
            stage: list[nn.Module] = []
            for layer in layers:
                if layer == "A":
                    stage.append(TimeAvgPool2d(2))
                    size = size[0] // 2, size[1] // 2
                    continue
                outputs = max(1, round(int(layer) * width))
                spiking = build_neuron(mechanism, (outputs, *size), options)
                stage.append(ConvSpike(channels, outputs, spiking, T))
                channels = outputs
            if not min(size):
                raise InputError(f"img_size {img_size} is too small for {index} poolings")
            modules.append(nn.Sequential(*stage))
            info.append({"num_chs": channels, "reduction": 2**index, "module": f"stages.{index}"})
        hidden = [build_neuron(mechanism, (head_width,), options) for _ in range(2)]
        super().__init__(
            modules,
            info,
            nn.Identity(),
            SpikingMLP(channels, size, head_width, (hidden[0], hidden[1]), T),
            head_width,
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
    {
        name: default_cfg("stages.0.0.conv", 32 // 2 ** (len(stages) - 1))
        for backbone, stages in STAGES.items()
        for name in variants(backbone)
    }
)

for _backbone, _stages in STAGES.items():
    register_variants(__name__, SpikingVGG, _backbone, len(_stages), stages=_stages)
