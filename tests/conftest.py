"""Fixtures that every test may use."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from attacked_certificates import attacked_certificates  # noqa: F401  a fixture
from devices import device, runs  # noqa: F401  a fixture
from digits import digits, trained_digits  # noqa: F401  fixtures

ROOT = Path(__file__).resolve().parents[1]

torch.set_num_threads(min(2, torch.get_num_threads()))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what a device has no use for, such as Numba's kernels on a GPU."""
    left_out = [item for item in items if not runs(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if runs(item)]


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Starts every test from the same global random state."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations of tests write no report, which takes a second, unless a test is of `pages`."""
    module = sys.modules.get("robust_snn.eval.evaluate")
    if module is not None and request.node.get_closest_marker("pages") is None:
        monkeypatch.setattr(module, "write_report", lambda *_, **__: None)


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Gives the path of a file in the `shared` folder beside the repository, or skips the test."""

    def locate(name: str) -> Path:
        path = ROOT.parent / "shared" / name
        if not path.exists():
            pytest.skip(f"needs ../shared/{name} beside the repository")
        return path

    return locate


@pytest.fixture
def poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills uninitialised floating-point memory with NaN, so that reading it shows."""

    def poison(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def poisoned(*args: object, **kwargs: object) -> torch.Tensor:
            out = allocate(*args, **kwargs)
            if out.is_floating_point():
                with torch.no_grad():
                    out.fill_(torch.nan)
            return out

        return poisoned

    for owner, name in [
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
    ]:
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))
