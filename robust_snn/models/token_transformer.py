"""Transformers of one width: an embedding of images into tokens, and blocks that are alike."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from robust_snn.models.backbone import Family, Input, Trunk
from robust_snn.models.mechanisms import Builder
from robust_snn.models.stages import Stages, in_heads

Size = tuple[int, int]


def token_transformer(
    embed: Callable[[Builder, Stages, int, int], None],
    attention: Callable[[Builder, int, int, Size], nn.Module],
    mlp: Callable[[Builder, int, int, Size], nn.Module],
    block: Callable[[nn.Module, nn.Module], nn.Module],
    head: Callable[[Builder, Input, int], nn.Module],
) -> Family:
    """The family of backbones with these parts.

    Args:
        embed: Builds the stages before the blocks, from input channels to those of tokens.
        attention: Builds attention of so many channels and heads on tokens of a size.
        mlp: Builds a network of so many channels, and hidden ones, on every token.
        block: Joins the two.
        head: Builds what follows the blocks.
    """

    def family(
        build: Builder,
        entry: Input,
        dim: int,
        heads: int,
        depth: int,
        mlp_ratio: float = 4.0,
        width: float = 1.0,
    ) -> Trunk:
        """A transformer of spikes.

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
        built = Stages(entry.size)
        embed(build, built, entry.channels, channels)
        hidden = max(1, round(channels * mlp_ratio))
        blocks = [
            block(
                attention(build, channels, heads, built.size),
                mlp(build, channels, hidden, built.size),
            )
            for _ in range(depth)
        ]
        built.end(blocks, channels)
        return built.trunk(nn.Identity(), head(build, entry, channels))

    return family
