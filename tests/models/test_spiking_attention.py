"""Attention of spikes against its formulas, written with loops and sums."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers import assert_close_rms
from robust_snn.models.mechanisms import Builder
from robust_snn.models.snn_resformer import DualAttention, FiringRate
from robust_snn.models.snn_sdt import MaskAttention
from robust_snn.models.spiking_attention import (
    SelfAttention,
    TokenAttention,
)

SIZE = (4, 3)


def build(**options: float) -> Builder:
    return Builder("none", 5, decay=0.5, gain=0.5, threshold=0.4, **options)


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape) < 0.4).float()


def heads(x: Tensor, count: int) -> Tensor:
    """`[T, B, heads, N, d]` by a loop over heads."""
    tokens = x.flatten(3).transpose(-1, -2)
    width = tokens.shape[-1] // count
    return torch.stack([tokens[..., h * width : (h + 1) * width] for h in range(count)], 2)


def test_self_attention() -> None:
    layer = SelfAttention(build(), 8, 2, SIZE, bias=True).eval()
    x = spikes(5, 2, 8, *SIZE)
    with torch.no_grad():
        q, k, v = (heads(part(x), 2) for part in (layer.q, layer.k, layer.v))
        mixed = torch.einsum("tbhnd,tbhmd,tbhme->tbhne", q, k, v) * 0.125
        current = mixed.transpose(-1, -2).flatten(2, 3).unflatten(-1, SIZE)
        assert q.any() and v.any()
        assert_close_rms(layer(x), layer.proj(layer.attn(current)))
    assert layer.attn.dynamics.threshold == 0.2  # half of the others'


def test_token_attention() -> None:
    layer = TokenAttention(build(), 8, 2, SIZE).eval()
    x = spikes(5, 2, 8, *SIZE)
    with torch.no_grad():
        q, k = layer.q(x), layer.k(x)
        parts = []
        for half in (slice(0, 4), slice(4, 8)):
            asked = q[:, :, half].sum(2, keepdim=True)
            parts.append((asked[:, :, None], k[:, :, half]))
        passes = layer.attn(torch.cat([asked for asked, _ in parts], 2))
        masked = torch.cat([passes[:, :, h] * parts[h][1] for h in range(2)], 2)
        assert 0 < passes.mean() < 1
        assert_close_rms(layer(x), layer.proj(masked))


def test_mask_attention() -> None:
    layer = MaskAttention(build(), 8, 2, SIZE).eval()
    current = torch.rand(5, 2, 8, *SIZE) * 2
    with torch.no_grad():
        x = layer.spike(current)
        q, k, v = (part(x) for part in (layer.q, layer.k, layer.v))
        together = (k * v).sum((-2, -1))  # of each channel, over all tokens
        mask = layer.mask(together.unflatten(2, (2, 1, 4))).flatten(2)
        assert 0 < mask.mean() < 1
        assert_close_rms(layer(current), layer.proj(q * mask[..., None, None]))


def test_dual_attention() -> None:
    layer = DualAttention(build(), 8, 2, (4, 4), patch=2)
    current = torch.rand(5, 2, 8, 4, 4) * 2
    for _ in range(2):
        layer.train()(current)
    layer.eval()
    with torch.no_grad():
        x = layer.spike(current)
        y = layer.norm(layer.patches(x)).flatten(3)
        tokens, outs, attention = x.flatten(3), [], []
        for h in range(2):
            asked, told = y[:, :, 8 * h : 8 * h + 4], y[:, :, 8 * h + 4 : 8 * h + 8]
            mine = tokens[:, :, 4 * h : 4 * h + 4]
            scale = (layer.rate_in.rate[h] * 4) ** -0.5
            attention.append(torch.einsum("tbcp,tbcn->tbpn", asked, mine) * scale)
            outs.append(told)
        fired = layer.attn(torch.stack(attention, 2))
        scales = (layer.rate_attn.rate * 4) ** -0.5
        out = [torch.einsum("tbcp,tbpn->tbcn", outs[h], fired[:, :, h]) * scales[h] for h in (0, 1)]
        expected = layer.proj(layer.out(torch.cat(out, 2).unflatten(-1, (4, 4))))
        assert_close_rms(layer(current), expected)
        assert fired.any()


def test_firing_rates_are_means_of_training_batches() -> None:
    rates, x = FiringRate(2), spikes(3, 4, 2, 5, 6)
    mean = x.mean((0, 1, 3, 4))
    assert_close_rms(rates.eval()(x, 4), torch.full((2, 1, 1), 0.4**-0.5))  # nothing is known
    assert_close_rms(rates.train()(x, 4).flatten(), (4 * mean) ** -0.5)
    rates(torch.zeros_like(x), 4)
    assert_close_rms(rates.rate, 0.999 * mean)
    rates.eval()(x, 4)
    assert_close_rms(rates.rate, 0.999 * mean)
