"""Versions of an image as exactly what differs from it, compressed by zlib.

Most pixels of an attacked image are at the edge of a ball of the largest norm around the clean one.
Two bits per pixel say where it is: as it was, at the upper or the lower edge, or elsewhere. What is
elsewhere is kept by its distance in float32 steps. So the clean image is needed to read a version.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

HEADER = struct.Struct("<BdI")  # rule, eps, length of the compressed codes
FAST = 1  # level of zlib: higher ones take twice the time and save 2 %
SAME, UPPER, LOWER, ELSEWHERE = range(4)
MOST = 0.9  # of the bytes of a float32 image, which a version without any structure takes
Edges = tuple[np.ndarray, np.ndarray]


def encode(version: np.ndarray, clean: np.ndarray, eps: float) -> bytes:
    """What differs between an image and a version of it, both float32 in [0, 1] of one shape.

    Args:
        version: The version.
        clean: The image.
        eps: Radius of the ball at whose edges many pixels may be.
    """
    x, found = _flat(clean), _flat(version)
    codes, rule = min(
        ((_codes(found, x, edges(x, eps)), rule) for rule, edges in enumerate(_EDGES)),
        key=lambda made: np.count_nonzero(made[0] == ELSEWHERE),
    )
    at = codes == ELSEWHERE
    steps = found.view(np.uint32)[at] - x.view(np.uint32)[at]  # modulo 2**32
    packed = np.zeros(-len(codes) % 4 + len(codes), np.uint8)
    packed[: len(codes)] = codes
    packed = packed.reshape(-1, 4) @ np.array([1, 4, 16, 64], np.uint8)
    first = zlib.compress(packed.tobytes(), FAST)
    second = zlib.compress(steps.astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes(), FAST)
    return HEADER.pack(rule, eps, len(first)) + first + second


def decode(content: bytes, clean: np.ndarray) -> np.ndarray:
    """The version that was encoded, float32, in the shape of its clean image.

    Raises:
        ValueError: If the content is none that `encode` made of a version of this image.
    """
    x = _flat(clean)
    try:
        rule, eps, length = HEADER.unpack_from(content)
        edges = _EDGES[rule](x, eps)
        body = content[HEADER.size :]
        packed = np.frombuffer(_inflated(body[:length], -(-len(x) // 4)), np.uint8)
        codes = (packed[:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(-1)[: len(x)]
        at = codes == ELSEWHERE
        planes = np.frombuffer(_inflated(body[length:], 4 * int(at.sum())), np.uint8)
    except (struct.error, zlib.error, IndexError, OverflowError) as error:
        raise ValueError(f"no version of this image: {error}") from None
    steps = np.ascontiguousarray(planes.reshape(4, -1).T).view("<u4")[:, 0]
    found = np.choose(codes, (x, *edges, x)).astype(np.float32)
    found.view(np.uint32)[at] += steps
    return found.reshape(clean.shape)


def pack(contents: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Several contents as arrays by name, to be stored."""
    ends = np.cumsum([len(content) for content in contents], dtype=np.int64)
    return {"differences": np.frombuffer(b"".join(contents), np.uint8), "ends": ends}


def unpack(arrays: Any) -> list[bytes]:
    """The contents that `pack` was given.

    Raises:
        KeyError: If an array is missing.
        ValueError: If they do not fit each other.
    """
    ends, every = arrays["ends"], arrays["differences"]
    if every.dtype != np.uint8 or ends.dtype.kind != "i" or every.ndim != 1 or ends.ndim != 1:
        raise ValueError(f"differences are {every.dtype}, which end at {ends.dtype}")
    starts = np.concatenate([[0], ends])
    if (np.diff(starts) < 0).any() or starts[-1] != len(every):
        raise ValueError("differences do not end where they should")
    whole = every.tobytes()
    return [whole[a:b] for a, b in zip(starts[:-1], ends, strict=True)]


def _codes(version: np.ndarray, x: np.ndarray, edges: Edges) -> np.ndarray:
    codes = np.full(len(x), ELSEWHERE, np.uint8)
    for code, value in ((LOWER, edges[1]), (UPPER, edges[0]), (SAME, x)):
        codes[version.view(np.uint32) == value.view(np.uint32)] = code  # by bits: zeros have signs
    return codes


def _rounded_edges(x: np.ndarray, eps: float) -> Edges:
    """As libraries compute them, in float32."""
    step = np.float32(eps)
    return np.minimum(x + step, np.float32(1)), np.maximum(x - step, np.float32(0))


def _inner_edges(x: np.ndarray, eps: float) -> Edges:
    """As this package does: nothing beyond the edge, not by rounding either."""
    upper = np.minimum(x.astype(np.float64) + eps, 1)
    lower = np.maximum(x.astype(np.float64) - eps, 0)
    return _rounded_down(upper), -_rounded_down(-lower)


def _rounded_down(values: np.ndarray) -> np.ndarray:
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)


_EDGES: tuple[Callable[[np.ndarray, float], Edges], ...] = (_rounded_edges, _inner_edges)


def _flat(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image, np.float32).reshape(-1)


def _inflated(content: bytes, size: int) -> bytes:
    """What was compressed, which must be of a size: nothing larger is unpacked."""
    reader = zlib.decompressobj()
    found = reader.decompress(content, size + 1)
    if len(found) != size or not reader.eof or reader.unused_data:
        raise ValueError(f"no version of this image: {len(found)} of {size} bytes")
    return found
