"""Which implementation of an op runs: an explicit choice that cannot run raises, nothing falls back."""

from __future__ import annotations

import os

import torch

from robust_snn.errors import InputError, unknown

BACKENDS = ("auto", "triton", "numba", "torch")


def choose_backend(backend: str, tensor: torch.Tensor) -> str:
    """Resolves `"auto"`: `ROBUST_SNN_BACKEND` if set, else what suits the tensor's device.

    Raises:
        InputError: If the name is not one of `BACKENDS`.
    """
    if backend == "auto":
        backend = os.environ.get("ROBUST_SNN_BACKEND", "auto")
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    return "torch" if backend == "auto" else backend
