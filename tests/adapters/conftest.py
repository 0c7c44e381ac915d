"""Every test of this room runs on every device, and without waiting for other libraries' Numba."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from unittest import mock

from devices import on_every_device  # noqa: F401  a fixture


def left_as_python(spec: Any = None) -> Callable[[Any], Any]:
    """Stands in for `jitclass`."""

    def keep(cls: Any) -> Any:
        cls.class_type = SimpleNamespace(instance_type=None)
        cls._ctor = SimpleNamespace(signatures=())
        return cls

    return keep


# The optimisers of the Brendel-Bethge attacks take up to a minute each to compile in every process;
# on images of a few pixels Python is quicker, and the adapters see no difference.
with mock.patch("numba.experimental.jitclass", left_as_python), suppress(ImportError):
    import foolbox.attacks  # noqa: F401
with mock.patch("numba.experimental.jitclass", left_as_python), suppress(ImportError):
    import art.attacks.evasion  # noqa: F401
