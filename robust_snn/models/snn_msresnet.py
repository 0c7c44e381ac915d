"""MS-ResNet (Hu et al., TNNLS 2024): residual networks whose shortcuts carry membranes, not spikes.

    out = in + norm(conv(spike(norm(conv(spike(in))))))

ResNet-18 and -34 with the paper's decay of 0.25, threshold of 0.5 and threshold-dependent norms.
The paper trains on ImageNet: `stem="imagenet"` is its stem, 7x7 with stride 2 and a first stage of
stride 2. `stem="small"`, the default, is 3x3 with a first stage of stride 1.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from robust_snn.models.backbone import Input, Trunk
from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import MeanPool
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.snn_resnet import normalised
from robust_snn.models.stages import Stages, Stem, check_stem
from robust_snn.models.time_layers import Spike, fork

MS: dict[str, Any] = {
    "stages": (64, 128, 256, 512),
    "T": 6,
    "defaults": {"decay": 0.25, "threshold": 0.5, "norm": "tdbn"},
}
SHAPES: dict[str, dict[str, Any]] = {
    "msresnet18": {"blocks": (2, 2, 2, 2), **MS},
    "msresnet34": {"blocks": (3, 4, 6, 3), **MS},
}


class MembraneBlock(nn.Module):
    """Two spiking layers with a normalised convolution each, added to the currents that came in."""

    def __init__(
        self,
        spike1: Spike,
        conv1: nn.Module,
        spike2: Spike,
        conv2: nn.Module,
        shortcut: nn.Module,
    ) -> None:
        super().__init__()
        self.spike1 = spike1
        self.conv1 = conv1
        self.spike2 = spike2
        self.conv2 = conv2
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` to currents `[T, B, out_chans, h, w]`."""
        x, other = fork(x)
        return self.conv2(self.spike2(self.conv1(self.spike1(x)))) + self.shortcut(other)


def membrane_resnet(
    build: Builder,
    entry: Input,
    stages: tuple[int, ...],
    blocks: tuple[int, ...],
    stem: Stem = "small",
    width: float = 1.0,
    zero_init_last: bool = False,
) -> Trunk:
    """Residual network with membrane shortcuts.

    Args:
        build: Builds the layers.
        entry: What the network is built for.
        stages: Channels of each stage; all but the first halve the image.
        blocks: Blocks of each stage.
        stem: `"small"`, or `"imagenet"`, which halves the image, as its first stage then does too.
        width: Factor on all channel counts.
        zero_init_last: Whether the last norm of every block starts at 0, as in the released code.
    """
    large = check_stem(stem)
    built = Stages(entry.size)
    channels = max(1, round(stages[0] * width))
    kernel, stride = (7, 2) if large else (3, 1)
    if large:
        built.halve()
    first = normalised(entry.channels, channels, kernel, stride, build.norm(channels))
    for index, (base, depth) in enumerate(zip(stages, blocks, strict=True)):
        stage: list[nn.Module] = [first] if index == 0 else []
        outputs = max(1, round(base * width))
        for block in range(depth):
            stride = 2 if block == 0 and (index > 0 or large) else 1
            spike1 = Spike(build.neurons(channels, *built.size), build.steps)
            size = built.halve() if stride == 2 else built.size
            last = build.norm(outputs)
            if zero_init_last:
                nn.init.zeros_(last.weight)
            changes = stride != 1 or channels != outputs
            stage.append(
                MembraneBlock(
                    spike1,
                    normalised(channels, outputs, 3, stride, build.norm(outputs)),
                    Spike(build.neurons(outputs, *size), build.steps),
                    normalised(outputs, outputs, 3, 1, last),
                    normalised(channels, outputs, 1, stride, build.norm(outputs))
                    if changes
                    else nn.Identity(),
                )
            )
            channels = outputs
        built.end(stage, channels)
    spikes = Spike(build.neurons(channels, *built.size), build.steps)
    return built.trunk(spikes, MeanPool(entry.readout))


default_cfgs = family_cfgs("stages.0.0.0", dict.fromkeys(SHAPES, 4))

for _backbone, _shape in SHAPES.items():
    register_variants(__name__, membrane_resnet, _backbone, 4, **_shape)
