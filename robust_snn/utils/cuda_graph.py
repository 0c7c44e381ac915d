"""Work on a GPU, captured once and replayed: one launch in place of hundreds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar
from weakref import WeakSet

import torch

Result = TypeVar("Result")
Replay = Callable[[], None]


class Recorder(Protocol):
    """Records work on tensors that stay where they are, to repeat it on what they hold later."""

    def apart(self, strict: bool = False) -> AbstractContextManager[None]:
        """Runs work as a capture will, without recording it.

        Args:
            strict: Whether an operation that waits for the GPU is an error.
        """

    def record(self, work: Callable[[], Result]) -> tuple[Replay, Result]:
        """Runs work and returns how to repeat it, and its result, which a repeat overwrites."""


class CudaRecorder:
    """Records CUDA graphs that share one pool of memory, and so run one after the other.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    @contextmanager
    def apart(self, strict: bool = False) -> Iterator[None]:
        before = torch.cuda.get_sync_debug_mode()
        with self._on_own_stream():
            torch.cuda.set_sync_debug_mode("error" if strict else before)
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode(before)

    def record(self, work: Callable[[], Result]) -> tuple[Replay, Result]:
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()  # nothing that is cached can be freed during a capture
        if not self._graphs:  # PyTorch takes no graph into a pool whose last one is gone
            self._pool = torch.cuda.graph_pool_handle()
        with self._on_own_stream():
            graph = torch.cuda.CUDAGraph()
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                result = work()
                graph.capture_end()
            except BaseException:
                self._abandon(graph)
                raise
        self._graphs.add(graph)
        return graph.replay, result

    @contextmanager
    def _on_own_stream(self) -> Iterator[None]:
        callers = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(callers)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            callers.wait_stream(self._stream)

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """Ends a capture that failed, and with it what PyTorch leaves open then.

        The allocator goes on to ask the graph which memory is its own, and the generator counts on
        being captured, until the next capture ends.
        """
        try:
            graph.capture_end()
        except RuntimeError:
            _failed.append(graph)
            torch._C._cuda_endAllocateToPool(self._device.index, self._pool)
            self._pool = torch.cuda.graph_pool_handle()
            settled = torch.cuda.CUDAGraph()
            settled.capture_begin(capture_error_mode="thread_local")
            torch.zeros(1, device=self._device)
            settled.capture_end()


_failed: list[torch.cuda.CUDAGraph] = []  # which PyTorch may still point to
