"""Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011).

A draw is a function of its address and of nothing else, so it does not depend on batch composition,
block size, backend, device or the global generator. An address is

    key     = sample key (64 bits)
    counter = (neuron, step // 4, layer, purpose)

and the four words of one call serve four consecutive steps. Arithmetic is integer, so every backend
produces the same bits; `uniform` keeps 24 of them, which float32 represents exactly.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from robust_snn.kernels.backend import auto_runs
from robust_snn.utils.errors import InputError
from robust_snn.utils.exporting import to_onnx

_MASK = 0xFFFFFFFF
MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10


class Purpose(IntEnum):
    """What a draw is for: the last word of its counter."""

    KEY = 0
    GATE = 1
    SPIKE = 2
    MEMBRANE = 3
    ENCODER = 4
    FLIP = 5
    DROP = 6
    LEAK = 7


def _product(a: int, b: Any) -> tuple[Any, Any]:
    """High and low 32 bits of `a * b` for 32-bit unsigned values held in int64."""
    low = (a & 0xFFFF) * b
    high = (a >> 16) * b + (low >> 16)
    return high >> 16, ((high << 16) | (low & 0xFFFF)) & _MASK


def philox(key: Tensor, counter: tuple[Tensor | int, Tensor | int, int, int]) -> tuple[Tensor, ...]:
    """Four random 32-bit words for every (key, counter), broadcast together.

    Args:
        key: Sample keys, int64; all 64 bits are used.
        counter: Four words of 32 bits each: neuron, step // 4, layer, purpose.

    Returns:
        Four int64 tensors with values in [0, 2**32).

    Raises:
        InputError: If ONNX's older exporter records it.
    """
    words = [_on(key.device, word) & _MASK for word in counter]
    if to_onnx() and torch.jit.is_tracing():
        raise InputError(
            "random draws need dynamo=True in torch.onnx.export: its older exporter knows no "
            "exclusive or of integers"
        )
    # one node: the compiler would take minutes over the rounds
    if torch.compiler.is_compiling() and not to_onnx():
        result: tuple[Tensor, ...] = torch.ops.robust_snn.philox(key, *words)
        return result
    return _rounds(key, *words)


def _on(device: torch.device, word: Tensor | int) -> Tensor:
    """A word as int64; a number is written on the device, since a copy of it would wait for one."""
    if isinstance(word, Tensor):
        return word.to(device).long()
    return torch.full((), word, dtype=torch.int64, device=device)


def _rounds(key: Any, c0: Any, c1: Any, c2: Any, c3: Any) -> tuple[Any, ...]:
    """Four words for keys and counters that are tensors, arrays of NumPy or numbers."""
    k0, k1 = key & _MASK, (key >> 32) & _MASK
    for _ in range(ROUNDS):
        high0, low0 = _product(MULTIPLIER_0, c0)
        high1, low1 = _product(MULTIPLIER_1, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL_0) & _MASK, (k1 + WEYL_1) & _MASK
    return c0, c1, c2, c3


_library = torch.library.Library("robust_snn", "FRAGMENT")
_library.define(
    "philox(Tensor key, Tensor c0, Tensor c1, Tensor c2, Tensor c3) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
_library.impl("philox", _rounds, "CompositeExplicitAutograd")


@torch.library.register_fake("robust_snn::philox", lib=_library)
def _fake_rounds(*arguments: Tensor) -> tuple[Tensor, ...]:
    shape = torch.broadcast_shapes(*(a.shape for a in arguments))
    return tuple(arguments[0].new_empty(shape) for _ in range(4))


def uniform(words: Tensor) -> Tensor:
    """Maps 32-bit words to float32 in [0, 1), exactly and with 24 bits."""
    return (words >> 8).to(torch.float32) * 2.0**-24


def draw_uniform(
    keys: Tensor, shape: tuple[int, ...], steps: int, layer: int, purpose: Purpose
) -> Tensor:
    """Uniform draws for `steps` time steps of one layer.

    Args:
        keys: Sample keys `[B]`, int64.
        shape: Shape of the layer for one sample, such as `(C, H, W)`.
        steps: Number of time steps `T`.
        layer: Address of the layer.
        purpose: What the draws are for.

    Returns:
        float32 in [0, 1), `[T, B, *shape]`.
    """
    neurons = torch.arange(torch.Size(shape).numel(), device=keys.device)
    words: list[Tensor] = []
    for quad in range(-(-steps // 4)):
        words.extend(philox(keys[:, None], (neurons, quad, layer, int(purpose))))
    return uniform(torch.stack(words[:steps])).reshape(steps, len(keys), *shape)


def sample_keys(seed: int, ids: Tensor, draw: int = 0, call: int | Tensor = 0) -> Tensor:
    """Keys of the samples `ids` in one noise draw.

    Args:
        seed: Seed of the stream, 64 bits; see `derive_seed`.
        ids: What tells samples apart, `[B]`: positions in a batch or indices in a dataset.
        draw: Number of the noise draw (EOT sample or scoring draw).
        call: Number of the forward call.

    Returns:
        Sample keys `[B]`, int64.
    """
    if isinstance(call, int) and auto_runs("triton", ids):
        from robust_snn.kernels.spiking.triton.sample_keys import sample_keys_on_gpu

        return sample_keys_on_gpu(seed, ids, draw, call)
    purpose = int(Purpose.KEY)
    if isinstance(call, int) and _is_plain(ids):  # PyTorch takes four times as long for a few
        words = ids.long().numpy() & _MASK, call & _MASK, draw & _MASK, purpose
        low, high, _, _ = _rounds(seed, *words)
        return torch.from_numpy(low | (high << 32))
    low, high, _, _ = philox(_on(ids.device, seed), (ids, call, draw, purpose))
    return low | (high << 32)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is in memory, and nothing records what is done with it."""
    if type(tensor) is not Tensor or tensor.device.type != "cpu" or torch.jit.is_tracing():
        return False
    return not (torch.compiler.is_compiling() or to_onnx())


def derive_seed(seed: int, *names: str | int) -> int:
    """A stable 63-bit seed for a named sub-stream: `derive_seed(0, "attack", "apgd-ce")`."""
    text = "\x1f".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
