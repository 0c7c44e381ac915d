"""`building_on_cpu`: networks whose constructors ask for CuPy, built where there is none."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Iterator, MutableSequence
from contextlib import ExitStack, contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from robust_snn.foreign.spikingjelly import BACKENDS

GENERATIONS = ("spikingjelly.activation_based", "spikingjelly.clock_driven")
_log = logging.getLogger("robust_snn")


@contextmanager
def building_on_cpu() -> Iterator[None]:
    """Builds networks without CuPy whose constructors ask for it.

    Inside, SpikingJelly's neurons take `backend="cupy"`, and so does `functional.set_backend`, and
    run on PyTorch, which computes the same. `import cupy` succeeds where CuPy is not installed;
    whatever is called of it raises. One line of the log says how often a backend was asked for.

        with robust_snn.building_on_cpu():
            net = spikformer(T=4)
    """
    asked: list[str] = []

    def set_backend(net: Any, backend: str, instance: Any = None) -> None:
        asked.append(backend)

    with ExitStack() as stack:
        for generation in GENERATIONS:
            parts = [_imported(f"{generation}.{name}") for name in ("base", "neuron", "functional")]
            if parts[0] is not None and parts[1] is not None:
                _take_any_backend(stack, parts[0], parts[1], asked)
            if parts[2] is not None and not hasattr(parts[2], "set_backend"):
                _set(stack, parts[2], "set_backend", set_backend)
        stack.enter_context(_cupy_in_name())
        yield
    if asked:
        _log.warning(
            "%s was asked for %d times; the neurons run on PyTorch itself", asked[0], len(asked)
        )


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _set(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Sets an attribute until the stack closes."""
    own = vars(owner)
    restore = functools.partial(setattr, owner, name, own[name]) if name in own else None
    setattr(owner, name, value)
    stack.callback(restore or functools.partial(delattr, owner, name))


def _take_any_backend(stack: ExitStack, base: Any, neuron: Any, asked: list[str]) -> None:
    """Lets the neurons of one generation take every compiled backend, and stay on PyTorch."""
    module = base.MemoryModule
    # 0.0.0.0.14 has a property, 0.0.0.0.12 an attribute, and 2.0 no backend at all.
    kept = "_backend" if isinstance(vars(module).get("backend"), property) else "backend"

    def write(self: Any, backend: str) -> None:
        if backend in BACKENDS:
            asked.append(backend)
        vars(self)[kept] = "torch" if backend in BACKENDS else backend

    def without_backend(build: Any) -> Any:
        @functools.wraps(build)
        def build_without(self: Any, *args: Any, **kwargs: Any) -> None:
            if kwargs.get("backend") in BACKENDS:
                asked.append(kwargs["backend"])
            if kwargs.get("backend") in (*BACKENDS, "torch"):
                del kwargs["backend"]
            build(self, *args, **kwargs)

        return build_without

    def read(self: Any) -> str:
        return str(vars(self).get(kept, "torch"))

    _set(stack, module, "backend", property(read, write))
    if hasattr(neuron, "check_backend"):
        _set(stack, neuron, "check_backend", lambda backend: None)
    for cls in {c for c in vars(neuron).values() if inspect.isclass(c) and issubclass(c, module)}:
        build = vars(cls).get("__init__")
        if build is not None and "backend" not in inspect.signature(build).parameters:
            _set(stack, cls, "__init__", without_backend(build))


class _AbsentCuPy(ModuleType):
    """A module of CuPy in name only."""

    __path__: MutableSequence[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AbsentCuPy(f"{self.__name__}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise ImportError(f"{self.__name__} was called, but CuPy is not installed")


class _CuPyFinder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.partition(".")[0] == "cupy" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _AbsentCuPy(spec.name)

    def exec_module(self, module: ModuleType) -> None: ...


@contextmanager
def _cupy_in_name() -> Iterator[None]:
    """Lets `import cupy` succeed; CuPy itself comes first where it is installed."""
    finder = _CuPyFinder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n, module in sys.modules.items() if isinstance(module, _AbsentCuPy)]:
            del sys.modules[name]
