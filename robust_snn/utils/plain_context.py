"""PyTorch's settings as a fresh process has them, whatever the caller's are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import torch

DEVICES = ("cpu", "cuda")  # whose autocast is turned off


@contextmanager
def plain_context(tf32: bool | None = None) -> Iterator[None]:
    """Runs without autocast or inference mode, and in float32: by default and in its products.

    So a number does not depend on the context of a call. Whether gradients are recorded stays as
    it is; tensors are never inference tensors, which no later backward pass could use.

    Args:
        tf32: Whether convolutions on GPUs round their factors to TF32, as PyTorch does unless it is
            told otherwise; as in the surrounding context if left out, and not at all without one.
            PyTorch has one setting for all threads, so that they do only while no other thread is
            in a context that said no.
    """
    with ExitStack() as stack:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        stack.enter_context(_float32.held(tf32))
        yield


def tf32_is_on() -> bool:
    """Whether convolutions on GPUs round to TF32 now."""
    return _read().convolution == "tf32"


class _Float32:
    """Keeps settings that are one for all threads plain while any thread is inside."""

    def __init__(self) -> None:
        self.lock, self.inside, self.callers = threading.Lock(), 0, torch.float32
        self.wishes: dict[int, list[bool]] = {}  # for TF32, of each thread, the innermost last
        self.precisions: Precisions | None = None  # the caller's, while ours are in force
        self.tf32 = False

    @contextmanager
    def held(self, tf32: bool | None) -> Iterator[None]:
        thread = threading.get_ident()
        with self.lock:
            if not self.inside:
                self.callers = torch.get_default_dtype()
                _set_default_dtype(torch.float32)
            self.inside += 1
            if tf32 is not None:
                self.wishes.setdefault(thread, []).append(tf32)
            self._settle()
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if tf32 is not None:
                    self.wishes[thread].pop()
                    if not self.wishes[thread]:
                        del self.wishes[thread]
                self._settle()
                if not self.inside:
                    _set_default_dtype(self.callers)

    def _settle(self) -> None:
        """Puts the precision of products in force, once there is a GPU to use it."""
        if not self.inside:
            if self.precisions is not None:
                _write(self.precisions)
            self.precisions = None
        elif self.precisions is not None or torch.cuda.is_initialized():
            tf32 = bool(self.wishes) and all(wishes[-1] for wishes in self.wishes.values())
            if self.precisions is None:
                self.precisions = _read()
            elif tf32 == self.tf32:
                return
            self.tf32 = tf32
            convolution = "tf32" if tf32 else "ieee"
            _write(Precisions(convolution, convolution, "ieee", "highest"))


def _set_default_dtype(dtype: torch.dtype) -> None:
    if torch.get_default_dtype() != dtype:
        torch.set_default_dtype(dtype)


class Precisions(NamedTuple):
    """In what precision float32 is multiplied: `"tf32"`, or `"ieee"` or `"none"` for float32.

    `every_product` is PyTorch's older name for `product`, which counts CPUs too.
    """

    convolution: str
    recurrence: str
    product: str
    every_product: str | None  # PyTorch does not say where its older and newer settings disagree


def _read() -> Precisions:
    cudnn, matmul = _newer()
    every_product = None
    with suppress(RuntimeError):
        every_product = torch.get_float32_matmul_precision()
    if cudnn is None:
        convolution = "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
        return Precisions(convolution, convolution, "none", every_product)
    return Precisions(
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, matmul.fp32_precision, every_product
    )


def _write(wanted: Precisions) -> None:
    cudnn, matmul = _newer()
    # the older settings first: they overwrite the newer ones, and PyTorch refuses to read them
    # where the two disagree
    torch.backends.cudnn.allow_tf32 = wanted.convolution == "tf32"
    if wanted.every_product is not None:
        torch.set_float32_matmul_precision(wanted.every_product)
    if cudnn is not None:
        cudnn.conv.fp32_precision = wanted.convolution
        cudnn.rnn.fp32_precision = wanted.recurrence
        matmul.fp32_precision = wanted.product


def _newer() -> tuple[Any, Any]:
    """The settings of PyTorch 2.9 and later, where they are."""
    cudnn: Any = torch.backends.cudnn
    return (cudnn, torch.backends.cuda.matmul) if hasattr(cudnn, "conv") else (None, None)


_float32 = _Float32()
