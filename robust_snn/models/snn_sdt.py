"""Spike-driven transformer (Yao et al., NeurIPS 2023): masks and additions in place of products.

Shortcuts carry membranes. Attention masks: a channel's queries pass where the keys that coincide
with its values, summed over all tokens, spike. The network is SDT-2-256 of CIFAR.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_notrace_module
from torch import Tensor, nn

from robust_snn.models.mechanisms import Builder
from robust_snn.models.readout import Readout
from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.snn_resnet import normalised
from robust_snn.models.snn_spikformer import SPIKINGJELLY
from robust_snn.models.spiking_attention import TransformerBlock, pointwise
from robust_snn.models.stages import Stages, halving_pool
from robust_snn.models.time_layers import ConvSpike, Spike, fork
from robust_snn.models.token_transformer import token_transformer


@register_notrace_module
class MaskAttention(nn.Module):
    """Spike-driven self-attention: `q * spike(sum over tokens of k * v)`, then a projection."""

    bounded = False  # intervals do not pass

    def __init__(self, build: Builder, channels: int, heads: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.spike = Spike(build.neurons(channels, *size), build.steps)
        self.q, self.k, self.v = (
            pointwise(build, channels, channels, size, bias=False) for _ in range(3)
        )
        self.mask = build.neurons(heads, 1, channels // heads, sensitivity=2.0)
        self.proj = normalised(channels, channels, 1, 1, build.norm(channels), bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` to currents of the same shape."""
        x = self.spike(x)
        q, k, v = (layer(x) for layer in (self.q, self.k, self.v))
        together = (k * v).sum((-2, -1)).unflatten(2, (self.heads, 1, -1))
        return self.proj(q * self.mask(together).flatten(2)[..., None, None])


class MembraneMLP(nn.Module):
    """Two linear layers on the spikes of tokens, with currents before and after."""

    def __init__(self, build: Builder, channels: int, hidden: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.spike1 = Spike(build.neurons(channels, *size), build.steps)
        self.fc1 = normalised(channels, hidden, 1, 1, build.norm(hidden), bias=True)
        self.spike2 = Spike(build.neurons(hidden, *size), build.steps)
        self.fc2 = normalised(hidden, channels, 1, 1, build.norm(channels), bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` to currents of the same shape."""
        return self.fc2(self.spike2(self.fc1(self.spike1(x))))


class MembranePositions(nn.Module):
    """A convolution of spikes that is added to the currents that they come from."""

    def __init__(self, build: Builder, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.spike = Spike(build.neurons(channels, *size), build.steps)
        self.conv = normalised(channels, channels, 3, 1, build.norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps currents `[T, B, C, H, W]` to currents of the same shape."""
        x, other = fork(x)
        return other + self.conv(self.spike(x))


class PooledSpikes(nn.Module):
    """Spikes of the mean current over space, read out over time: `[T, B, C, H, W]` to `[B, C]`."""

    def __init__(self, spike: Spike, readout: Readout) -> None:
        super().__init__()
        self.spike = spike
        self.readout = readout

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.spike(x.mean((-2, -1))))


def embed(build: Builder, built: Stages, before: int, channels: int) -> None:
    """Builds the convolutions from images to the currents of tokens, and those of the positions."""
    stage: list[nn.Module] = []
    for share in (8, 4, 2):
        after = max(1, channels // share)
        stage.append(ConvSpike(before, after, build.act(after, built.size)))
        if share == 4:
            built.end(stage, after)
            stage = []
        before = after
    stage.append(halving_pool())
    built.halve()
    built.end(stage, before)
    embedding: list[nn.Module] = [
        normalised(before, channels, 3, 1, build.norm(channels)),
        halving_pool(),
        MembranePositions(build, channels, built.halve()),
    ]
    built.end(embedding, channels)


spike_driven_transformer = token_transformer(
    embed,
    MaskAttention,
    MembraneMLP,
    TransformerBlock,
    lambda build, entry, channels: PooledSpikes(
        Spike(build.neurons(channels), build.steps), entry.readout
    ),
)

default_cfgs = family_cfgs("stages.0.0.conv", {"sdt": 8})

_SHAPE: dict[str, Any] = {"dim": 256, "heads": 8, "depth": 2, "T": 4, "defaults": SPIKINGJELLY}
register_variants(__name__, spike_driven_transformer, "sdt", 4, **_SHAPE)
