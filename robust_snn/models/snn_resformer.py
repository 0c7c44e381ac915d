"""SpikingResformer (Shi et al., CVPR 2024): dual spike attention in a residual network.

    attention = spike(scale1 * (W1 x)^T x),   out = spike(scale2 * W2 x attention)

Shortcuts carry membranes. Attention is between spikes and patches of them, and its scales follow
running means of firing rates, as batch norm's statistics. The network is SpikingResformer-Ti with
the stem for CIFAR: `stem="imagenet"` is the paper's for large images.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from robust_snn.models.backbone import Input, Trunk
from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import MeanPool
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.snn_resnet import normalised
from robust_snn.models.snn_spikformer import SPIKINGJELLY
from robust_snn.models.spiking_attention import MatMul, TransformerBlock
from robust_snn.models.stages import Stages, Stem, check_stem, halving_pool
from robust_snn.models.time_layers import Spike, TimeConv2d, fork
from robust_snn.neurons import KeepsTimeNorms


class FiringRate(nn.Module):
    """Running mean of the firing rate of each head, by which products of spikes are scaled.

    In train mode the first batch sets it, and each further one moves it by a thousandth.
    """

    rate: Tensor
    MOMENTUM = 0.001
    UNSEEN = 0.1  # of a network that has seen no batch, so that its attention fires

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("rate", torch.zeros(heads))

    def forward(self, spikes: Tensor, summed: int) -> Tensor:
        """`1 / sqrt(rate * summed)`, `[heads, 1, 1]`, of spikes `[T, B, heads, ...]`.

        Args:
            spikes: Their rate counts in train mode.
            summed: How many of them a product adds up.
        """
        if self.training:
            with torch.no_grad():
                mean = spikes.mean((0, 1, 3, 4)).to(self.rate.dtype)
                moved = self.rate.lerp(mean, self.MOMENTUM)
                self.rate.copy_(torch.where(self.rate == 0, mean, moved))
        rate = torch.where(self.rate == 0, self.UNSEEN, self.rate)
        return torch.rsqrt(rate * summed).view(-1, 1, 1)


@register_notrace_module
class DualAttention(KeepsTimeNorms):
    """Dual spike self-attention.

    Args:
        build: Builds the layers.
        channels: Channels of tokens.
        heads: Attention heads.
        size: Height and width of the map.
        patch: Side of the patches that attend.
    """

    bounded = False  # intervals do not pass

    def __init__(
        self, build: Builder, channels: int, heads: int, size: tuple[int, int], patch: int
    ) -> None:
        super().__init__()
        self.heads = heads
        self.spike = Spike(build.neurons(channels, *size), build.steps)
        self.patches = TimeConv2d(channels, 2 * channels, patch, patch, bias=False)
        self.norm = build.norm(2 * channels)
        across, places = (size[0] // patch) * (size[1] // patch), size[0] * size[1]
        self.compare, self.gather = MatMul(), MatMul()
        self.rate_in = FiringRate(heads)
        self.attn = build.neurons(heads, across, places)
        self.rate_attn = FiringRate(heads)
        self.out = build.neurons(channels, *size)
        self.proj = normalised(channels, channels, 1, 1, build.norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` to currents of the same shape."""
        spikes = self.spike(x)
        patches = self.norm(self.patches(spikes)).flatten(3).unflatten(2, (self.heads, -1))
        asked, told = patches.chunk(2, dim=3)
        tokens = spikes.flatten(3).unflatten(2, (self.heads, -1))
        scores = self.compare(asked.transpose(-1, -2), tokens)
        attention = self.attn(scores * self.rate_in(tokens, tokens.shape[3]))
        current = self.gather(told, attention) * self.rate_attn(attention, attention.shape[3])
        return self.proj(self.out(current.reshape(spikes.shape)))


class GroupFeedForward(nn.Module):
    """A spiking bottleneck turned inside out: up, a grouped 3x3 convolution beside itself, down."""

    def __init__(
        self, build: Builder, channels: int, hidden: int, size: tuple[int, int], group: int
    ) -> None:
        super().__init__()
        self.spike1 = Spike(build.neurons(channels, *size), build.steps)
        self.up = normalised(channels, hidden, 1, 1, build.norm(hidden))
        self.spike2 = Spike(build.neurons(hidden, *size), build.steps)
        groups = hidden // group
        self.conv = normalised(hidden, hidden, 3, 1, build.norm(hidden), groups=groups)
        self.spike3 = Spike(build.neurons(hidden, *size), build.steps)
        self.down = normalised(hidden, channels, 1, 1, build.norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` to currents of the same shape."""
        x, other = fork(self.up(self.spike1(x)))
        return self.down(self.spike3(other + self.conv(self.spike2(x))))


class Downsample(nn.Module):
    """Spikes, a 3x3 convolution of stride 2, and its norm."""

    def __init__(self, spike: Spike, conv: nn.Module) -> None:
        super().__init__()
        self.spike = spike
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` to currents `[T, B, out_chans, h, w]`."""
        return self.conv(self.spike(x))


def spiking_resformer(
    build: Builder,
    entry: Input,
    heads: tuple[int, ...],
    patches: tuple[int, ...],
    depths: tuple[int, ...],
    head_dim: int = 64,
    mlp_ratio: int = 4,
    stem: Stem = "small",
    width: float = 1.0,
) -> Trunk:
    """SpikingResformer.

    Args:
        build: Builds the layers.
        entry: What the network is built for.
        heads: Attention heads of each stage; all but the first stage halve the map.
        patches: Side of the patches that attend, per stage; smaller maps have smaller ones.
        depths: Blocks of each stage.
        head_dim: Channels of a head, and of a group of the feed-forward's convolution.
        mlp_ratio: Hidden channels of a block, over those of its stage.
        stem: `"small"`, or `"imagenet"`, which quarters the image.
        width: Factor on all channel counts.
    """
    large = check_stem(stem)
    built, group = Stages(entry.size), max(1, round(head_dim * width))
    channels = heads[0] * group
    kernel, stride = (7, 2) if large else (3, 1)
    stage: list[nn.Module] = [
        normalised(entry.channels, channels, kernel, stride, build.norm(channels))
    ]
    if large:
        built.halve()
        built.halve()
        stage.append(halving_pool())
    for index, (count, patch, depth) in enumerate(zip(heads, patches, depths, strict=True)):
        outputs = count * group
        if index:
            spike = Spike(build.neurons(channels, *built.size), build.steps)
            built.halve()
            conv = normalised(channels, outputs, 3, 2, build.norm(outputs))
            stage.append(Downsample(spike, conv))
        channels, size = outputs, built.size
        side = min(patch, *size)
        for _ in range(depth):
            stage.append(
                TransformerBlock(
                    DualAttention(build, channels, count, size, side),
                    GroupFeedForward(build, channels, mlp_ratio * channels, size, group),
                )
            )
        built.end(stage, channels)
        stage = []
    return built.trunk(nn.Identity(), MeanPool(entry.readout))


default_cfgs = family_cfgs("stages.0.0.0", {"resformer": 8})

_SHAPE: dict[str, Any] = {
    "heads": (1, 3, 6),
    "patches": (4, 2, 1),
    "depths": (1, 2, 3),
    "T": 4,
    "defaults": SPIKINGJELLY,
}
register_variants(__name__, spiking_resformer, "resformer", 3, **_SHAPE)
