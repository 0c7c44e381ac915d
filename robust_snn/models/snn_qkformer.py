"""QKFormer (Zhou et al., NeurIPS 2024): token attention on large maps, self-attention on small.

The network is HST-4-384 of CIFAR: three stages with a patch embedding each, of which the last two
halve the image; one block of token attention in each of the first two, spiking self-attention in
the third. In the authors' code, the last neurons of a self-attention take batch and time for time;
here each image has its own steps.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from robust_snn.models.backbone import Input, Trunk
from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import MeanPool
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.snn_spikformer import SPIKINGJELLY
from robust_snn.models.spiking_attention import (
    SelfAttention,
    TokenAttention,
    TokenMLP,
    TransformerBlock,
)
from robust_snn.models.stages import Stages, halving_pool, in_heads
from robust_snn.models.time_layers import ConvSpike, TimeConv2d, fork
from robust_snn.neurons import NormSpike


class PooledConvSpike(nn.Module):
    """Convolution, batch norm, max pooling that halves the map, spiking neurons."""

    def __init__(self, in_chans: int, out_chans: int, act: NormSpike) -> None:
        super().__init__()
        self.conv = TimeConv2d(in_chans, out_chans, 3, padding=1, bias=False)
        self.pool = halving_pool()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Maps spikes `[T, B, C, H, W]` to spikes `[T, B, out_chans, h, w]`."""
        act = self.act
        return act.neuron(self.pool(act.norm(self.conv(x))))


class PatchEmbedding(nn.Module):
    """Two spiking convolutions, and a spiking 1x1 convolution beside them that is added."""

    def __init__(self, conv1: nn.Module, conv2: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv1
        self.conv2 = conv2
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Maps spikes `[T, B, C, H, W]` to sums of spikes `[T, B, out_chans, h, w]`."""
        x, other = fork(x)
        return self.conv2(self.conv1(x)) + self.shortcut(other)


def qkformer(
    build: Builder,
    entry: Input,
    dim: int,
    heads: int,
    depths: tuple[int, ...],
    mlp_ratio: float = 4.0,
    width: float = 1.0,
) -> Trunk:
    """QKFormer.

    Args:
        build: Builds the layers.
        entry: What the network is built for.
        dim: Channels of the last stage; each one before has half of the next.
        heads: Attention heads.
        depths: Transformer blocks of each of three stages.
        mlp_ratio: Hidden channels of a block, over those of its stage.
        width: Factor on all channel counts.
    """
    built = Stages(entry.size)
    base = in_heads(dim // 4, heads, width)
    before = max(1, base // 2)
    first: list[nn.Module] = [ConvSpike(entry.channels, before, build.act(before, built.size))]
    for index, depth in enumerate(depths):
        channels, large = base * 2**index, built.size
        size = built.halve() if index else large
        # the first embedding has its first convolution in common with its shortcut
        conv1 = ConvSpike(before, channels, build.act(channels, large)) if index else nn.Identity()
        act, beside = build.act(channels, size), build.act(channels, size)
        embedding = PatchEmbedding(
            conv1,
            PooledConvSpike(channels, channels, act) if index else ConvSpike(before, channels, act),
            ConvSpike(before, channels, beside, kernel_size=1, stride=2 if index else 1),
        )
        stage = [*(first if index == 0 else []), embedding]
        hidden = max(1, round(channels * mlp_ratio))
        for _ in range(depth):
            attention: nn.Module = (
                SelfAttention(build, channels, heads, size, bias=False)
                if index == len(depths) - 1
                else TokenAttention(build, channels, heads, size)
            )
            stage.append(TransformerBlock(attention, TokenMLP(build, channels, hidden, size)))
        built.end(stage, channels)
        before = channels
    return built.trunk(nn.Identity(), MeanPool(entry.readout))


default_cfgs = family_cfgs("stages.0.0.conv", {"qkformer": 8})

_SHAPE: dict[str, Any] = {
    "dim": 384,
    "heads": 8,
    "depths": (1, 1, 2),
    "T": 4,
    "defaults": SPIKINGJELLY,
}
register_variants(__name__, qkformer, "qkformer", 3, **_SHAPE)
