"""Spikformer (Zhou et al., ICLR 2023): spiking self-attention after a convolutional stem.

The network is Spikformer-4-384 of CIFAR: four convolutions quarter the image, a fifth encodes
positions, and four blocks follow. A block adds spikes to spikes, so that its output is a count.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import MeanPool
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.spiking_attention import SelfAttention, TokenMLP, TransformerBlock
from robust_snn.models.stages import Stages, halving_pool
from robust_snn.models.time_layers import ConvSpike, fork
from robust_snn.models.token_transformer import token_transformer

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


def embed(build: Builder, built: Stages, before: int, channels: int) -> None:
    """Builds the convolutions from images to tokens, and those of the positions."""
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


spikformer = token_transformer(
    embed,
    partial(SelfAttention, bias=True),
    TokenMLP,
    TransformerBlock,
    lambda build, entry, channels: MeanPool(entry.readout),
)

default_cfgs = family_cfgs("stages.0.0.conv", {"spikformer": 8})

_SHAPE: dict[str, Any] = {"dim": 384, "heads": 12, "depth": 4, "T": 4, "defaults": SPIKINGJELLY}
register_variants(__name__, spikformer, "spikformer", 4, **_SHAPE)
