"""Which implementation of an op runs. A choice that cannot run raises; nothing falls back."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from importlib import import_module

import torch
from torch import Tensor

from robust_snn.utils.errors import InputError, is_of_system, is_out_of_memory, unknown
from robust_snn.utils.exporting import recorded

BACKENDS = ("auto", "triton", "numba", "torch")
OLDEST_TRITON = (3, 4)  # which PyTorch 2.8 brings
_log = logging.getLogger("robust_snn")
_COMPILED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def choose_backend(backend: str, *tensors: Tensor | None, lacking: str = "") -> str:
    """Resolves `"auto"` and refuses a choice that cannot run.

    `"auto"` is `ROBUST_SNN_BACKEND` if set; else Triton for GPU tensors and Numba for CPU tensors.
    float64 and other devices go to the PyTorch reference, and so does all where Numba or Triton is
    missing, too old or broken, which is logged.

    Args:
        backend: One of `BACKENDS`.
        tensors: What the op reads; those that are `None` do not count.
        lacking: What the op needs that no compiled backend has, or nothing.

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
        compiled = ("numba", "triton") if not lacking else ()
        return next((b for b in compiled if not why_not(b, given)), "torch")
    reason = f"compiled loops have no {lacking}" if lacking else why_not(backend, given)
    if reason:
        raise InputError(f"backend '{backend}' cannot run: {reason}; use 'torch' or 'auto'")
    return backend


def why_not(backend: str, tensors: list[Tensor]) -> str:
    """Why a compiled backend cannot take these tensors, or nothing if it can."""
    if recorded():
        return "torch.jit.trace and ONNX record operations of PyTorch and no others"
    device = "cpu" if backend == "numba" or _interprets() else "cuda"
    for tensor in tensors:
        if tensor.device.type != device:
            kind = "CPU" if device == "cpu" else "GPU"
            return f"it needs {kind} tensors, got one on {tensor.device}"
        if tensor.device != tensors[0].device:
            return f"it needs tensors on one GPU, got {tensors[0].device} and {tensor.device}"
        if tensor.dtype not in _COMPILED_DTYPES:
            return f"it computes in float32, got {tensor.dtype}"
    return trouble(backend)


def auto_runs(backend: str, tensor: Tensor) -> bool:
    """Whether `"auto"` lets a compiled backend run on a tensor of our own, whatever its dtype."""
    if torch.compiler.is_compiling() or recorded() or type(tensor) is not Tensor:
        return False
    if os.environ.get("ROBUST_SNN_BACKEND", "auto") not in ("auto", backend):
        return False
    by_device = {"cpu": "triton"} if _interprets() else {"cpu": "numba", "cuda": "triton"}
    there = by_device.get(tensor.device.type) == backend
    return there and not trouble(backend)


def ready_to_launch(backend: str, tensor: Tensor) -> AbstractContextManager[None]:
    """Launches on the GPU of a tensor, whichever is the current one.

    What prepares a launch is no operation of the network, and no mode that follows its operations
    sees it.

    Raises:
        InputError: If Triton cannot compile or launch its kernels here.
    """
    return _on_its_gpu(tensor) if backend == "triton" else _unseen()


_unseen: Callable[[], AbstractContextManager[None]] = torch._C.DisableTorchFunction


@contextmanager
def _on_its_gpu(tensor: Tensor) -> Iterator[None]:
    try:
        with _unseen(), torch.cuda.device_of(tensor):
            yield
    except Exception as error:  # compilers, drivers and what they call raise anything
        capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
        if capturing or isinstance(error, InputError) or is_out_of_memory(error):
            raise  # the caller knows what to do
        reason = " ".join(str(error).split())[:200]
        hint = "TRITON_CACHE_DIR names the folder of its kernels, " if is_of_system(error) else ""
        raise InputError(
            f"Triton does not run here: {type(error).__name__}: {reason}; {hint}robust-snn doctor "
            "tests it, and ROBUST_SNN_BACKEND=torch does without"
        ) from error


def _interprets() -> bool:
    """Whether Triton runs its kernels in Python, on CPU tensors, to test them."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@torch.compiler.assume_constant_result
def trouble(backend: str) -> str:
    """What keeps a compiled backend from running on this machine, or nothing."""
    return _trouble(backend)


@lru_cache
def _trouble(backend: str) -> str:
    found = _installed_trouble(backend)
    if found:
        kind = "CPU" if backend == "numba" else "GPU"
        _log.warning("%s tensors go to the slower PyTorch reference: %s", kind, found)
    return found


def _installed_trouble(package: str) -> str:
    try:
        module = import_module(package)
    except Exception as error:  # a broken installation raises anything
        if isinstance(error, ModuleNotFoundError) and error.name in (package, None):
            return f"the package '{package}' is not installed"
        line = " ".join(str(error).split())[:100]
        return f"the package '{package}' cannot be imported: {line}"
    version = tuple(map(int, re.findall(r"\d+", module.__version__)[:2]))
    if package == "triton" and version < OLDEST_TRITON:
        oldest = ".".join(map(str, OLDEST_TRITON))
        return f"it needs Triton {oldest} or newer, found {module.__version__}"
    return ""
