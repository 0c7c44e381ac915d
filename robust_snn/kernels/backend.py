"""Which implementation of an op runs. A choice that cannot run raises; nothing falls back."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from robust_snn.errors import InputError, unknown

BACKENDS = ("auto", "triton", "numba", "torch")
_COMPILED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def choose_backend(backend: str, *tensors: Tensor | None) -> str:
    """Resolves `"auto"` and refuses a choice that cannot run.

    `"auto"` is `ROBUST_SNN_BACKEND` if set; else Numba for CPU tensors. float64 and devices without
    compiled kernels go to the PyTorch reference.

    Args:
        backend: One of `BACKENDS`.
        tensors: What the op reads; those that are `None` do not count.

    Raises:
        InputError: If the name is not one of `BACKENDS`, or that backend cannot take the tensors.
    """
    if backend == "auto":
        backend = os.environ.get("ROBUST_SNN_BACKEND", "auto")
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if backend == "torch":
        return backend
    given = [tensor for tensor in tensors if tensor is not None]
    if backend == "auto":
        return "torch" if _why_not_numba(given) else "numba"
    if backend == "triton":
        raise InputError("backend 'triton' is not part of this version; use 'auto'")
    reason = _why_not_numba(given)
    if reason:
        raise InputError(f"backend 'numba' cannot run: {reason}; use 'torch' or 'auto'")
    return backend


def _why_not_numba(tensors: list[Tensor]) -> str:
    for tensor in tensors:
        if tensor.device.type != "cpu":
            return f"it needs CPU tensors, got one on {tensor.device}"
        if tensor.dtype not in _COMPILED_DTYPES:
            return f"it computes in float32, got {tensor.dtype}"
    return ""
