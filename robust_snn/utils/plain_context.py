"""PyTorch's settings as a fresh process has them, whatever the caller's are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

DEVICES = ("cpu", "cuda")  # whose autocast is turned off


@contextmanager
def plain_context() -> Iterator[None]:
    """Runs without autocast or inference mode, and with float32 as the default type.

    So a number does not depend on the context of a call. Whether gradients are recorded stays as
    it is; tensors are never inference tensors, which no later backward pass could use.
    """
    with ExitStack() as stack:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        stack.enter_context(_float32)
        yield


class _Float32ByDefault:
    """Keeps float32 the default type, which is one for all threads, while any thread is inside."""

    def __init__(self) -> None:
        self.lock, self.inside, self.callers = threading.Lock(), 0, torch.float32

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.callers = torch.get_default_dtype()
                self._set(torch.float32)
            self.inside += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self._set(self.callers)

    @staticmethod
    def _set(dtype: torch.dtype) -> None:
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)


_float32 = _Float32ByDefault()
