"""Which implementation of an op runs. A choice that cannot run raises; nothing falls back."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from robust_snn.utils.errors import InputError, unknown

BACKENDS = ("auto", "triton", "numba", "torch")
_COMPILED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def choose_backend(backend: str, *tensors: Tensor | None) -> str:
    """Resolves `"auto"` and refuses a choice that cannot run.

    `"auto"` is `ROBUST_SNN_BACKEND` if set; else Triton for GPU tensors and Numba for CPU tensors.
    float64, other devices and a GPU without Triton installed go to the PyTorch reference.

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
        return next((b for b in ("numba", "triton") if not why_not(b, given)), "torch")
    reason = why_not(backend, given)
    if reason:
        raise InputError(f"backend '{backend}' cannot run: {reason}; use 'torch' or 'auto'")
    return backend


def why_not(backend: str, tensors: list[Tensor]) -> str:
    """Why a compiled backend cannot take these tensors, or nothing if it can."""
    device = "cpu" if backend == "numba" or _interprets() else "cuda"
    for tensor in tensors:
        if tensor.device.type != device:
            kind = "CPU" if device == "cpu" else "GPU"
            return f"it needs {kind} tensors, got one on {tensor.device}"
        if tensor.dtype not in _COMPILED_DTYPES:
            return f"it computes in float32, got {tensor.dtype}"
    if backend == "triton" and not _has_triton():
        return "the package 'triton' is not installed"
    return ""


def runs_triton(tensor: Tensor) -> bool:
    """Whether `"auto"` lets Triton run on a tensor of the caller's own, whatever its dtype is."""
    if torch.compiler.is_compiling() or type(tensor) is not Tensor or not _has_triton():
        return False
    wanted = os.environ.get("ROBUST_SNN_BACKEND", "auto") in ("auto", "triton")
    return wanted and tensor.device.type == ("cpu" if _interprets() else "cuda")


def _interprets() -> bool:
    """Whether Triton runs its kernels in Python, on CPU tensors, to test them."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@lru_cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
