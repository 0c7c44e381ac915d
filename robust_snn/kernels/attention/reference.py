"""Self-attention of spikes in plain PyTorch: what the kernels must give.

Tokens stay where they lie in maps, so that nothing is transposed in memory: a head is a matrix
`[channels, tokens]`, and its attention `values keys^T queries`.
"""

from __future__ import annotations

from torch import Tensor


def reference_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    """`scale * (q k^T) v` per head, in the order that multiplies less; see `attend`."""
    queries, keys, values = (matrices(x, heads) for x in (q, k, v))
    if values_first(queries, values):
        mixed = (values @ keys.mT) @ queries
    else:
        mixed = values @ (keys.mT @ queries)
    return (mixed * scale).reshape(v.shape)


def reference_gradients(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float, mixed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients on queries, keys and values.

    Args:
        gradient: That on the result, `[T, B, values, ...]`.
        q: Queries.
        k: Keys.
        v: Values.
        heads: Attention heads.
        scale: Factor on the result.
        mixed: The first of both products, `[T, B, heads, values / heads, C / heads]`, or of keys
            and queries `[T, B, heads, N, N]`.
    """
    given = (x.to(mixed.dtype) for x in (q, k, v, gradient))
    queries, keys, values, upstream = (matrices(x, heads) for x in given)
    mixed = mixed * scale
    if values_first(queries, values):
        on_mixed = (upstream @ queries.mT) * scale
        on_each = mixed.mT @ upstream, on_mixed.mT @ values, on_mixed @ keys
    else:
        on_mixed = (values.mT @ upstream) * scale
        on_each = keys @ on_mixed, queries @ on_mixed.mT, upstream @ mixed.mT
    likes = zip(on_each, (q, k, v), strict=True)
    on_q, on_k, on_v = (x.reshape(like.shape).to(like.dtype) for x, like in likes)
    return on_q, on_k, on_v


def matrices(maps: Tensor, heads: int) -> Tensor:
    """Maps `[T, B, C, ...]` as `[T, B, heads, C / heads, N]`."""
    return maps.flatten(3).unflatten(2, (heads, -1))


def values_first(queries: Tensor, values: Tensor) -> bool:
    """Whether it multiplies less to mix values with keys first, not keys with queries."""
    width, tokens = queries.shape[-2:]
    wide = values.shape[-2]
    return 2 * width * wide <= tokens * (width + wide)
