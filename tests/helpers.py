"""What tests share: comparisons, files that become modules, and what a compiler must know."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from robust_snn.utils.folder_lock import LOCK, locked

needs_dynamo = pytest.mark.skipif(
    torch.__version__ < (2, 14),
    reason="Dynamo breaks the graph at a ContextVar before PyTorch 2.14",
)


def rms_ratio(actual: Tensor, expected: Tensor) -> float:
    """RMS of the difference over RMS of the expected tensor, in float64 (0 when both are zero)."""
    if actual.shape != expected.shape:
        raise AssertionError(f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}")
    expected = expected.detach().cpu().double()
    error = (actual.detach().cpu().double() - expected).square().mean().sqrt()
    if error == 0:
        return 0.0
    return float(error / expected.square().mean().sqrt())


def assert_close_rms(actual: Tensor, expected: Tensor, ratio: float = 1e-5) -> None:
    """Fails unless `actual` lies within an RMS error ratio of `expected`; NaN always fails."""
    found = rms_ratio(actual, expected)
    if not found <= ratio:
        worst = (actual.detach().cpu() - expected.detach().cpu()).abs().argmax()
        index = tuple(int(i) for i in torch.unravel_index(worst, expected.shape))
        raise AssertionError(f"RMS error ratio {found:.3g} > {ratio:g}; largest error at {index}")


def logits_and_gradient(run: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits `[B, K]` of images, and the gradient of a sum in which no two classes cancel."""
    x = images.clone().requires_grad_()
    logits = run(x)
    weights = torch.arange(1.0, 1 + logits.shape[1], device=logits.device)
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), x)[0]


def module_from(path: Path) -> ModuleType:
    """The module that a file outside of every package is."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refuse_reading(monkeypatch: pytest.MonkeyPatch, number: int, *methods: str) -> None:
    """From now on the system refuses to read files whole, whoever the tests run as.

    Args:
        monkeypatch: Takes it back.
        number: The system's number of the error.
        methods: `"read_bytes"` or `"read_text"`; both if left out.
    """

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    for method in methods or ("read_bytes", "read_text"):
        monkeypatch.setattr(Path, method, refuse)


@contextmanager
def held_by_another(folder: Path, last: Callable[[], object]) -> Iterator[None]:
    """Holds a folder as another process would, until something waits for it: then calls `last`."""
    folder.mkdir(parents=True, exist_ok=True)
    held, log = ExitStack(), logging.getLogger("robust_snn")
    held.enter_context(locked(folder / LOCK))

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for the process that" in record.getMessage():
                last()
                held.close()

    listener = Listener()
    log.addHandler(listener)
    try:
        yield
    finally:
        log.removeHandler(listener)
        held.close()
