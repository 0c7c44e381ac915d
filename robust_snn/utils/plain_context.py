"""PyTorch's settings as a fresh process has them, whatever the caller's are."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch.nn.modules import module as module_hooks
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

DEVICES = ("cpu", "cuda")  # whose autocast is turned off
CPU = torch.device("cpu")
CPU_OPERATIONS = ("conv", "matmul", "rnn")
IN_FLOAT32 = ("ieee",) * len(CPU_OPERATIONS)


@contextmanager
def plain_context(tf32: bool | None = None, device: torch.device | None = CPU) -> Iterator[None]:
    """Runs without autocast or inference mode, and in float32: by default and in its products.

    So a number does not depend on the context of a call. Whether gradients are recorded stays as
    it is; tensors are never inference tensors, which no later backward pass could use. Hooks that
    someone hung on all modules of the process do not run.

    Args:
        tf32: Whether convolutions on GPUs round their factors to TF32, as PyTorch does unless it is
            told otherwise; as in the surrounding context if left out, and not at all without one.
            PyTorch has one setting for all threads, so that they do only while no other thread is
            in a context that said no.
        device: Where new tensors are made if the caller has chosen a default device; None for
            there.
    """
    with ExitStack() as stack:
        for kind in DEVICES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        if device is not None and _device_is_chosen():
            stack.enter_context(device)
        stack.enter_context(_float32.held(tf32))
        yield


@torch.compiler.disable
def _device_is_chosen() -> bool:
    """Whether a default device is in force, in this thread."""
    if not torch._C._len_torch_function_stack():
        return False
    return any(isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())


def tf32_is_on() -> bool:
    """Whether convolutions on GPUs round to TF32 now."""
    return _read().convolution == "tf32"


class _Hooks:
    """Hooks that someone hung on all modules of the process, off while any thread is inside."""

    def __init__(self) -> None:
        self._places: tuple[dict[int, Any], ...] = tuple(
            getattr(module_hooks, f"_global_{kind}_hooks")
            for kind in ("forward_pre", "forward", "backward_pre", "backward")
        )
        self._taken: list[tuple[dict[int, Any], dict[int, Any]]] = []

    def take_off(self) -> None:
        for place in filter(None, self._places):
            taken = {key: hook for key, hook in place.items() if not _is_ours(hook)}
            for key in taken:
                del place[key]
            self._taken.append((place, taken))

    def put_back(self) -> None:
        while self._taken:
            place, taken = self._taken.pop()
            place.update(taken)


def _is_ours(hook: Any) -> bool:
    return type(getattr(hook, "__self__", None)).__module__.startswith("robust_snn.")


class _Float32:
    """Keeps settings that are one for all threads plain while any thread is inside."""

    def __init__(self) -> None:
        self.lock, self.callers = threading.Lock(), torch.float32
        self.inside: dict[int, int] = {}  # how often each thread is
        self.wishes: dict[int, list[bool]] = {}  # for TF32, of each thread, the innermost last
        self.precisions: Precisions | None = None  # the caller's, while ours are in force
        self.tf32 = False
        self.hooks = _Hooks()

    @contextmanager
    def held(self, tf32: bool | None) -> Iterator[None]:
        thread = threading.get_ident()
        with self.lock:
            if not self.inside:
                self.callers = torch.get_default_dtype()
                _set_default_dtype(torch.float32)
            self.inside[thread] = self.inside.get(thread, 0) + 1
            self.hooks.take_off()
            if tf32 is not None:
                self.wishes.setdefault(thread, []).append(tf32)
            self._settle()
        try:
            yield
        finally:
            with self.lock:
                self.inside[thread] -= 1
                if not self.inside[thread]:
                    del self.inside[thread]
                if tf32 is not None:
                    self.wishes[thread].pop()
                    if not self.wishes[thread]:
                        del self.wishes[thread]
                self._settle()
                self._leave()

    def forget_other_threads(self) -> None:
        """In a forked process they are gone, whatever they were doing."""
        self.lock, thread = threading.Lock(), threading.get_ident()
        had = bool(self.inside)
        self.inside = {key: count for key, count in self.inside.items() if key == thread}
        self.wishes = {key: wishes for key, wishes in self.wishes.items() if key == thread}
        if had:
            self._settle()
            self._leave()

    def _leave(self) -> None:
        if not self.inside:
            _set_default_dtype(self.callers)
            self.hooks.put_back()

    def _settle(self) -> None:
        """Puts the precision of products in force, where the caller's could be another."""
        if not self.inside:
            if self.precisions is not None:
                _write(self.precisions)
            self.precisions = None
        elif self.precisions is not None or torch.cuda.is_initialized() or _cpus_round():
            tf32 = bool(self.wishes) and all(wishes[-1] for wishes in self.wishes.values())
            if self.precisions is None:
                self.precisions = _read()
            elif tf32 == self.tf32:
                return
            self.tf32 = tf32
            convolution = "tf32" if tf32 else "ieee"
            _write(Precisions(convolution, convolution, "ieee", "highest", IN_FLOAT32))


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
    on_cpus: tuple[str, ...]  # convolutions, products and recurrences


def _read() -> Precisions:
    cudnn, matmul = _newer()
    every_product = None
    with suppress(RuntimeError):
        every_product = torch.get_float32_matmul_precision()
    if cudnn is None:
        convolution = "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
        return Precisions(convolution, convolution, "none", every_product, ())
    return Precisions(
        cudnn.conv.fp32_precision,
        cudnn.rnn.fp32_precision,
        matmul.fp32_precision,
        every_product,
        _on_cpus(),
    )


def _on_cpus() -> tuple[str, ...]:
    """The precisions of PyTorch 2.9 and later on CPUs; its properties take 10 us each."""
    return tuple(torch._C._get_fp32_precision_getter("mkldnn", op) for op in CPU_OPERATIONS)


def _cpus_round() -> bool:
    """Whether CPUs that can may multiply float32 in a shorter type."""
    if hasattr(torch._C, "_get_fp32_precision_getter"):
        return not {"ieee", "none"}.issuperset(_on_cpus())
    return torch.get_float32_matmul_precision() != "highest"


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
        for operation, precision in zip(CPU_OPERATIONS, wanted.on_cpus, strict=True):
            torch._C._set_fp32_precision_setter("mkldnn", operation, precision)


def _newer() -> tuple[Any, Any]:
    """The settings of PyTorch 2.9 and later, where they are."""
    cudnn: Any = torch.backends.cudnn
    return (cudnn, torch.backends.cuda.matmul) if hasattr(cudnn, "conv") else (None, None)


_float32 = _Float32()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_float32.forget_other_threads)
