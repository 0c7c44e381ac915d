"""Spike-driven transformer, third version (Yao et al., TPAMI 2025), for integer spikes.

Separable convolutions on large maps, self-attention of spikes on small ones, shortcuts that carry
membranes. `snn_sdt3_ilif` with `T=1` is the paper's: spikes are 0, ..., 4 in one step, which a chip
replays as four binary ones. The network is the one of 5.1 M parameters: `stem="imagenet"` halves
the image four times, as there; `stem="small"`, the default, halves it twice.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_notrace_module
from torch import Tensor, nn

from robust_snn.models.backbone import Input, Trunk
from robust_snn.models.mechanisms import Builder
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.snn_resnet import normalised
from robust_snn.models.snn_sdt import MembraneMLP, PooledSpikes
from robust_snn.models.spiking_attention import Attend, pointwise
from robust_snn.models.stages import Stages, Stem, check_stem, in_heads
from robust_snn.models.time_layers import Spike, fork

Size = tuple[int, int]


def spiking_conv(
    build: Builder,
    in_chans: int,
    out_chans: int,
    size: Size,
    kernel: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Spikes, a convolution that keeps the size, and its norm."""
    spike = Spike(build.neurons(in_chans, *size), build.steps)
    norm = build.norm(out_chans)
    return nn.Sequential(spike, normalised(in_chans, out_chans, kernel, 1, norm, groups=groups))


def separable(build: Builder, channels: int, size: Size, kernel: int) -> nn.Sequential:
    """A separable convolution between two linear layers, each on spikes."""
    inner = 2 * channels
    return nn.Sequential(
        spiking_conv(build, channels, inner, size),
        spiking_conv(build, inner, inner, size, kernel, groups=inner),
        spiking_conv(build, inner, channels, size),
    )


class Residuals(nn.Module):
    """Branches from currents to currents, each added to what comes into it."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        self.order = tuple(branches)
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` to currents of the same shape."""
        for name in self.order:
            x, other = fork(x)
            x = other + getattr(self, name)(x)
        return x


@register_notrace_module
class WideAttention(nn.Module):
    """Self-attention of spikes with values four times as wide as queries and keys.

    Args:
        build: Builds the layers.
        channels: Channels of tokens.
        heads: Attention heads.
        size: Height and width of the map.
    """

    WIDER = 4
    bounded = False  # intervals do not pass

    def __init__(self, build: Builder, channels: int, heads: int, size: Size) -> None:
        super().__init__()
        wide = self.WIDER * channels
        scale = 2 * (channels // heads) ** -0.5 / build.largest_spike**3
        self.spike = Spike(build.neurons(channels, *size), build.steps)
        self.q, self.k = (pointwise(build, channels, channels, size, False) for _ in range(2))
        self.v = pointwise(build, channels, wide, size, False)
        self.attend = Attend(heads, scale, build.options.backend)
        self.attn = spiking_conv(build, wide, channels, size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` to currents of the same shape."""
        spikes = self.spike(x)
        q, k, v = (layer(spikes) for layer in (self.q, self.k, self.v))
        out: Tensor = self.attn(self.attend(q, k, v))
        return out


def spike_driven_transformer_3(
    build: Builder,
    entry: Input,
    dims: tuple[int, ...],
    heads: int,
    depths: tuple[int, ...],
    mlp_ratio: int = 4,
    stem: Stem = "small",
    width: float = 1.0,
) -> Trunk:
    """Spike-driven transformer, third version.

    Args:
        build: Builds the layers.
        entry: What the network is built for.
        dims: Channels of the five stages; the last two have attention.
        heads: Attention heads.
        depths: Blocks of each stage.
        mlp_ratio: Hidden channels of a block, over those of its stage.
        stem: `"small"`, or `"imagenet"`, whose first two stages halve the image, too.
        width: Factor on all channel counts.
    """
    large = check_stem(stem)
    built, before = Stages(entry.size), entry.channels
    strides = (2, 2, 2, 2, 1) if large else (1, 1, 2, 2, 1)
    for index, (base, stride, depth) in enumerate(zip(dims, strides, depths, strict=True)):
        channels = in_heads(base, heads, width) if index > 2 else max(1, round(base * width))
        stage: list[nn.Module] = []
        kernel = 7 if index == 0 and large else 3
        down = normalised(before, channels, kernel, stride, build.norm(channels), bias=True)
        if index:
            spike = Spike(build.neurons(before, *built.size), build.steps)
            stage.append(nn.Sequential(spike, down))
        else:
            stage.append(down)
        size = built.halve() if stride == 2 else built.size
        hidden = mlp_ratio * channels
        for _ in range(depth):
            if index > 2:
                block = Residuals(
                    conv=separable(build, channels, size, 3),
                    attn=WideAttention(build, channels, heads, size),
                    mlp=MembraneMLP(build, channels, hidden, size),
                )
            else:
                convs = (
                    spiking_conv(build, channels, hidden, size, 3),
                    spiking_conv(build, hidden, channels, size, 3),
                )
                block = Residuals(
                    conv=separable(build, channels, size, 7), mlp=nn.Sequential(*convs)
                )
            stage.append(block)
        built.end(stage, channels)
        before = channels
    head = PooledSpikes(Spike(build.neurons(before), build.steps), entry.readout)
    return built.trunk(nn.Identity(), head)


default_cfgs = family_cfgs("stages.0.0.0", {"sdt3": 8})

_SHAPE: dict[str, Any] = {
    "dims": (16, 32, 64, 128, 192),
    "heads": 8,
    "depths": (1, 1, 2, 6, 2),
}
register_variants(__name__, spike_driven_transformer_3, "sdt3", 5, T=4, **_SHAPE)
