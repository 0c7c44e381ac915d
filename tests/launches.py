"""Counts what a pass would launch on a GPU, without one: Triton's kernels count and do not run."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from robust_snn.kernels import backend
from robust_snn.kernels.spiking import autograd as operators

# Operators that launch nothing: allocations, views, and questions about sizes.
FREE = {
    "alias", "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "new_empty",
    "new_empty_strided", "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t",
    "transpose", "unbind", "unsqueeze", "view", "_unsafe_view", "_reshape_alias",
}  # fmt: skip
# Operators that stop the CPU until a GPU has caught up, or copy a number from the host.
SYNCHRONISING = {"_local_scalar_dense", "equal", "is_nonzero", "item", "lift_fresh", "nonzero"}
INSIDE = {
    "spiking_forward": operators._forward,
    "spiking_backward": operators._backward,
    "membranes": operators._membranes,
}


class Launches(TorchDispatchMode):
    """Counts by name every operator that launches something, inside our own operators too."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if func.namespace == "robust_snn" and name in INSIDE:
            with self:
                return INSIDE[name](*args)
        if name not in FREE:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def synchronisations(self) -> dict[str, int]:
        return {name: n for name, n in self.counts.items() if name in SYNCHRONISING}


def counted_kernels(monkeypatch: Any) -> Callable[[], Launches]:
    """Makes contexts that count; CPU tensors stand for a GPU's, outputs of kernels are empty."""
    import triton

    counting: list[Launches] = []

    def launch(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        counting[-1].counts[kernel.fn.__name__] += 1

    def count() -> Launches:
        counting.append(Launches())
        return counting[-1]

    monkeypatch.setenv("ROBUST_SNN_BACKEND", "triton")
    monkeypatch.setattr(backend, "_interprets", lambda: True)
    monkeypatch.setattr(triton.runtime.jit.JITFunction, "run", launch)
    return count
