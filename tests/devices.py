"""Where the tensors of a test live: on the CPU and, where there is one, on the GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import robust_snn
from robust_snn import Victim

# Under the interpreter Triton's kernels run on CPU tensors, slowly; `test_triton` starts it.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
OTHER = os.environ.get("TEST_DEVICE")  # one that stands for a GPU, see tools/mirror_device
GPU = OTHER is None and torch.cuda.is_available() and not INTERPRETED
BESIDE = OTHER or ("cuda" if GPU else None)
DEVICES = ["cpu", *([pytest.param(BESIDE, marks=pytest.mark.gpu)] if BESIDE else [])]
HELPERS = "loops", "masks", "picky", "victims", "zoo"  # modules of the tests that make tensors
FACTORIES = "adapt", "create_model", "create_network"  # what makes networks
CREATORS = (
    *("arange", "empty", "eye", "from_numpy", "full", "linspace", "logspace", "ones"),
    *("rand", "randint", "randn", "randperm", "tensor", "zeros"),
)


class On(ModuleType):
    """A library whose networks are made on the CPU and moved, for the modules of a test alone."""

    def __init__(self, device: str, library: ModuleType) -> None:
        super().__init__(library.__name__)
        self._device, self._library = device, library

    def __getattr__(self, name: str) -> Any:
        return on_device(self._device, name, getattr(self._library, name))


class TorchOn(On):
    """PyTorch with a default device, for the modules of a test alone.

    The package keeps PyTorch as it is, so a tensor that it makes on the wrong device is found.
    What a test creates is made on the CPU and moved: the same numbers on every device.
    """

    def __init__(self, device: str) -> None:
        super().__init__(device, torch)
        self.get_default_device = lambda: torch.device(device)
        for name in CREATORS:
            setattr(self, name, _created_on(device, getattr(torch, name)))


class Moved(type):
    """A class of networks that are moved to a device once they are made."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _moved(cls._device, type.__call__(vars(cls).get("_original", cls), *args, **kwargs))

    def __instancecheck__(cls, instance: Any) -> bool:
        original = vars(cls).get("_original")
        if original is None:  # a class that a test derived
            return super().__instancecheck__(instance)
        return isinstance(instance, original)


def on_device(device: str, name: str, value: Any) -> Any:
    """What a name of a test's module means on a device: networks made by it are there."""
    if value is torch:
        return TorchOn(device)
    if value in (nn, timm, robust_snn):
        return On(device, value)
    if name in FACTORIES:
        return lambda *args, **kwargs: _moved(device, value(*args, **kwargs))
    if type(value) is type and issubclass(value, nn.Module) and value not in (nn.Module, Victim):
        return Moved(value.__name__, (value,), {"_original": value, "_device": device})
    return value


def _moved(device: str, net: nn.Module) -> nn.Module:
    return net if any(value.is_meta for value in net.parameters()) else net.to(device)


def _created_on(device: str, create: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def created(*args: Any, **kwargs: Any) -> Tensor:
        made = create(*args, **kwargs)
        if "device" in kwargs:
            return made
        return made.detach().to(device).requires_grad_(made.requires_grad)

    return created


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device; what the test's module and helpers create is there, see `on_device`."""
    chosen = torch.device(request.param)
    if chosen.type != "cpu":
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # two passes add up alike
        for module in (request.module, *(sys.modules[n] for n in HELPERS if n in sys.modules)):
            for name, value in list(vars(module).items()):
                if (there := on_device(request.param, name, value)) is not value:
                    monkeypatch.setattr(module, name, there)
    return chosen


@pytest.fixture(autouse=True)
def on_every_device(device: torch.device) -> None:
    """Repeats every test of a folder on every device; its `conftest.py` imports this."""


def runs(item: pytest.Item) -> bool:
    """Whether a test has something to run on its device."""
    values = item.callspec.params if hasattr(item, "callspec") else {}
    beside = values.get("device", "cpu") != "cpu"
    backend = values.get("backend")
    if item.get_closest_marker("gpu_only" if not beside else "cpu_only"):
        return False
    if beside and OTHER and "compiled" in item.fixturenames:
        return False
    if INTERPRETED or backend not in ("numba", "triton"):
        return True
    return not (beside and OTHER) and (backend == "triton") == beside
