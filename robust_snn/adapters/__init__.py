"""Bridges to attack libraries, one thin file each, imported on first use.

`robust_snn.adapters.art` and its siblings need the library they are named after; where it is
absent, the import raises an `ImportError` that names the extra to install.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

LIBRARIES = (
    "art",
    "autoattack",
    "foolbox",
    "robustbench",
    "torchattacks",
)
__all__ = ["LIBRARIES"]


def __getattr__(name: str) -> ModuleType:
    if name in LIBRARIES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
