"""Self-attention of spikes, and the parts that spiking transformers share.

Tokens are the places of a map `[T, B, C, H, W]`, so that a linear layer on tokens is a 1x1
convolution. There is no softmax: queries, keys and values are spikes, and products of spikes are
counts, which `robust_snn.kernels.attend` sums up on the maps as they lie.
"""

from __future__ import annotations

from timm.models import register_notrace_module
from torch import Tensor, nn

from robust_snn.kernels import attend
from robust_snn.models.mechanisms import Builder
from robust_snn.models.time_layers import ConvSpike, fork


def pointwise(
    build: Builder, in_chans: int, out_chans: int, size: tuple[int, int], bias: bool = True
) -> ConvSpike:
    """A linear layer on tokens, its norm, and spikes."""
    return ConvSpike(in_chans, out_chans, build.act(out_chans, size), kernel_size=1, bias=bias)


class SpikeProduct(nn.Module):
    """Base of products of tensors, one of spikes at least, whose additions energy counts."""

    bounded = False  # intervals do not pass

    def additions(self, *factors: Tensor) -> list[tuple[Tensor, int]]:
        """Spikes `[T, B, ...]`, and to how many sums each of them is added."""
        raise TypeError(f"{type(self).__name__} does not say what it adds")


@register_notrace_module
class Attend(SpikeProduct):
    """`scale * (q k^T) v` of the tokens of each head: a query meets every key, a value every query.

    Args:
        heads: Attention heads.
        scale: Factor on the result.
        backend: As in `robust_snn.kernels.attend`.
    """

    def __init__(self, heads: int, scale: float, backend: str) -> None:
        super().__init__()
        self.heads, self.scale, self.backend = heads, scale, backend

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Maps spikes `[T, B, C, H, W]` to currents of the shape of the values."""
        return attend(q, k, v, self.heads, self.scale, backend=self.backend)

    def additions(self, *factors: Tensor) -> list[tuple[Tensor, int]]:
        q, _, v = factors
        tokens = q.flatten(3).shape[3]
        return [(q, tokens), (v, tokens)]


class MatMul(SpikeProduct):
    """`weights @ spikes`."""

    def forward(self, weights: Tensor, spikes: Tensor) -> Tensor:
        """Maps `[T, B, ..., M, N]` and `[T, B, ..., N, P]` to `[T, B, ..., M, P]`."""
        return weights @ spikes

    def additions(self, *factors: Tensor) -> list[tuple[Tensor, int]]:
        weights, spikes = factors
        return [(spikes, weights.shape[-2])]


@register_notrace_module
class SelfAttention(nn.Module):
    """Spiking self-attention (Spikformer, ICLR 2023): `spike(scale (q k^T) v)`, then a projection.

    Args:
        build: Builds the layers.
        channels: Channels of tokens.
        heads: Attention heads.
        size: Height and width of the map.
        bias: Whether the layers of queries, keys and values have one.
    """

    SCALE = 0.125
    bounded = False  # intervals do not pass

    def __init__(
        self, build: Builder, channels: int, heads: int, size: tuple[int, int], bias: bool
    ) -> None:
        super().__init__()
        self.q, self.k, self.v = (
            pointwise(build, channels, channels, size, bias) for _ in range(3)
        )
        self.attend = Attend(heads, self.SCALE, build.options.backend)
        self.attn = build.neurons(channels, *size, sensitivity=2.0)
        self.proj = pointwise(build, channels, channels, size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps spikes `[T, B, C, H, W]` to spikes of the same shape."""
        q, k, v = (layer(x) for layer in (self.q, self.k, self.v))
        return self.proj(self.attn(self.attend(q, k, v)))


@register_notrace_module
class TokenAttention(nn.Module):
    """Query-key token attention (QKFormer, NeurIPS 2024): queries choose which tokens pass.

    A token of a head passes where the sum of its queries spikes; then the keys of all such tokens
    are projected. It costs what a linear layer costs.

    Args:
        build: Builds the layers.
        channels: Channels of tokens.
        heads: Attention heads.
        size: Height and width of the map.
    """

    bounded = False  # intervals do not pass

    def __init__(self, build: Builder, channels: int, heads: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k = (pointwise(build, channels, channels, size, False) for _ in range(2))
        self.attn = build.neurons(heads, 1, *size, sensitivity=2.0)
        self.proj = pointwise(build, channels, channels, size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps spikes `[T, B, C, H, W]` to spikes of the same shape."""
        q, k = (layer(x).unflatten(2, (self.heads, -1)) for layer in (self.q, self.k))
        passes = self.attn(q.sum(3, keepdim=True))
        return self.proj((passes * k).flatten(2, 3))


class TokenMLP(nn.Module):
    """Two spiking linear layers on tokens."""

    def __init__(self, build: Builder, channels: int, hidden: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.fc1 = pointwise(build, channels, hidden, size)
        self.fc2 = pointwise(build, hidden, channels, size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps spikes `[T, B, C, H, W]` to spikes of the same shape."""
        return self.fc2(self.fc1(x))


class TransformerBlock(nn.Module):
    """Attention and a token-wise network, each added to what comes in."""

    def __init__(self, attn: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attn = attn
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """Maps sums of spikes, or currents, `[T, B, C, H, W]` to the same."""
        for branch in (self.attn, self.mlp):
            x, other = fork(x)
            x = other + branch(x)
        return x
