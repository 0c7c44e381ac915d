"""Constructors that ask for CuPy work without it, and nothing of that stays behind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import robust_snn


class SpikingStage(nn.Module):
    """Linear, norm and a neuron, as the blocks of spiking transformers are built."""

    def __init__(self, dim: int, neuron: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(dim, dim), nn.BatchNorm1d(dim)
        self.lif = neuron(tau=2.0, detach_reset=True, backend="cupy")


def as_12(monkeypatch: pytest.MonkeyPatch) -> Callable[..., nn.Module]:
    """A generation whose constructor checks the backend and keeps it as an attribute."""

    class MemoryModule(nn.Module):
        pass

    def check_backend(backend: str) -> None:
        assert backend == "torch", "CuPy is not installed!"

    class MultiStepLIFNode(MemoryModule):
        def __init__(self, tau: float, detach_reset: bool = False, backend: str = "torch") -> None:
            super().__init__()
            module.check_backend(backend)
            self.tau, self.detach_reset, self.backend = tau, detach_reset, backend

    module: Any = ModuleType("spikingjelly.clock_driven.neuron")
    base: Any = ModuleType("spikingjelly.clock_driven.base")
    module.MultiStepLIFNode, module.check_backend = MultiStepLIFNode, check_backend
    base.MemoryModule = MemoryModule
    for part in (module, base):
        monkeypatch.setitem(sys.modules, part.__name__, part)
    return MultiStepLIFNode


def as_14(monkeypatch: pytest.MonkeyPatch) -> Callable[..., nn.Module]:
    """A generation whose base class has the backend as a property that checks it."""

    class MemoryModule(nn.Module):
        @property
        def backend(self) -> str:
            return str(vars(self)["_backend"])

        @backend.setter
        def backend(self, value: str) -> None:
            if value != "torch":
                raise ImportError("CuPy is not installed!")
            vars(self)["_backend"] = value

    class LIFNode(MemoryModule):
        def __init__(self, tau: float, detach_reset: bool = False, backend: str = "torch") -> None:
            super().__init__()
            self.tau, self.detach_reset, self.backend = tau, detach_reset, backend

    module: Any = ModuleType("spikingjelly.clock_driven.neuron")
    base: Any = ModuleType("spikingjelly.clock_driven.base")
    module.LIFNode, base.MemoryModule = LIFNode, MemoryModule
    for part in (module, base):
        monkeypatch.setitem(sys.modules, part.__name__, part)
    return LIFNode


def as_20(monkeypatch: pytest.MonkeyPatch) -> Callable[..., nn.Module]:
    """The generation that has no backend: it chooses by the device."""
    pytest.importorskip("spikingjelly", reason="needs spikingjelly")
    from spikingjelly.activation_based import neuron

    cls: Callable[..., nn.Module] = neuron.LIFNode
    return cls


@pytest.mark.parametrize("generation", [as_12, as_14, as_20])
def test_a_constructor_that_asks_for_cupy(
    generation: Callable[[pytest.MonkeyPatch], Callable[..., nn.Module]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    neuron = generation(monkeypatch)
    with robust_snn.building_on_cpu():
        net = nn.Sequential(SpikingStage(8, neuron), SpikingStage(8, neuron))
    assert [getattr(stage.lif, "backend", "torch") for stage in net] == ["torch", "torch"]
    assert net[0].lif.tau == 2.0 and net[0].lif.detach_reset
    messages = [record.message for record in caplog.records if record.name == "robust_snn"]
    assert messages == ["cupy was asked for 2 times; the neurons run on PyTorch itself"]
    with pytest.raises((AssertionError, ImportError, TypeError)):
        SpikingStage(8, neuron)


def test_set_backend_where_there_is_none() -> None:
    pytest.importorskip("spikingjelly", reason="needs spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    with robust_snn.building_on_cpu():
        net = nn.Sequential(layer.Flatten(), layer.Linear(16, 4), neuron.IFNode())
        functional.set_step_mode(net, "m")
        functional.set_backend(net, "cupy", instance=neuron.IFNode)
    assert not hasattr(functional, "set_backend")
    net[1].weight.data *= 8
    x = torch.rand(2, 1, 4, 4)
    assert robust_snn.adapt(net, T=4)(x).shape == (2, 4)


def test_cupy_is_imported_in_name_only() -> None:
    pytest.importorskip("torch")
    if "cupy" in sys.modules:
        pytest.skip("CuPy is installed here")
    with robust_snn.building_on_cpu():
        import cupy
        from cupy.cuda import compiler
    assert "cupy" not in sys.modules and "cupy.cuda" not in sys.modules
    with pytest.raises(ImportError, match="CuPy is not installed"):
        cupy.RawKernel("code", "name")
    with pytest.raises(ImportError, match="cupy.cuda.compiler"):
        compiler.compile_using_nvrtc("code")
    with pytest.raises(ImportError):
        import cupy
