"""Spikformer (Zhou et al., ICLR 2023): spiking self-attention after a convolutional stem.

The network is Spikformer-4-384 of CIFAR: four convolutions quarter the image, a fifth encodes
positions, and four blocks follow. A block adds spikes to spikes, so that its output is a count.
"""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs
from torch import Tensor, nn

from robust_snn.models.backbone import Input, Trunk, default_cfg, register_variants, variants
from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import MeanPool
from robust_snn.models.spiking_attention import SelfAttention, TokenMLP, TransformerBlock
from robust_snn.models.stages import Stages, halving_pool, in_heads
from robust_snn.models.time_layers import ConvSpike, fork

SPIKINGJELLY = {"decay": 0.5, "gain": 0.5}  # tau = 2, with the current decayed


class Positions(nn.Module):
    """A spiking convolution that is added to its input, as a relative encoding of positions."""

    def __init__(self, conv: ConvSpike) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Maps spikes `[T, B, C, H, W]` to sums of spikes of the same shape."""
        x, other = fork(x)
        return other + self.conv(x)


def spikformer(
    build: Builder,
    entry: Input,
    dim: int,
    heads: int,
    depth: int,
    mlp_ratio: float = 4.0,
    width: float = 1.0,
) -> Trunk:
    """Spikformer.

    Args:
        build: Builds the layers.
        entry: What the network is built for.
        dim: Channels of tokens.
        heads: Attention heads.
        depth: Transformer blocks.
        mlp_ratio: Hidden channels of a block, over `dim`.
        width: Factor on all channel counts.
    """
    channels = in_heads(dim, heads, width)
    built, before = Stages(entry.size), entry.channels
    stage: list[nn.Module] = []
    for share, pools in ((8, False), (4, False), (2, True), (1, True)):
        after = max(1, channels // share)
        stage.append(ConvSpike(before, after, build.act(after, built.size)))
        if pools:
            stage.append(halving_pool())
            built.halve()
        if share == 1:
            stage.append(Positions(ConvSpike(after, after, build.act(after, built.size))))
        if share != 8:
            built.end(stage, after)
            stage = []
        before = after
    hidden = max(1, round(channels * mlp_ratio))
    blocks: list[nn.Module] = [
        TransformerBlock(
            SelfAttention(build, channels, heads, built.size, bias=True),
            TokenMLP(build, channels, hidden, built.size),
        )
        for _ in range(depth)
    ]
    built.end(blocks, channels)
    return built.trunk(nn.Identity(), MeanPool(entry.readout))


default_cfgs = generate_default_cfgs(
    {name: default_cfg("stages.0.0.conv", 8) for name in variants("spikformer")}
)

_SHAPE: dict[str, Any] = {"dim": 384, "heads": 12, "depth": 4, "T": 4, "defaults": SPIKINGJELLY}
register_variants(__name__, spikformer, "spikformer", 4, **_SHAPE)
