"""Bridges to attack libraries, one thin file each, imported on first use.

`robust_snn.adapters.art` and its siblings need the library they are named after; where it is
absent, the import raises an `ImportError` that names the extra to install.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# Module of this room -> distribution that it needs. A new library is its file, a row here, and an
# extra of the module's name in pyproject.toml, unless the package always needs the distribution.
LIBRARIES = {
    "autoattack": "pyautoattack",
    "robustbench": "pyautoattack",
    "art": "adversarial-robustness-toolbox",
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
}
__all__ = ["LIBRARIES"]


def __getattr__(name: str) -> ModuleType:
    if name in LIBRARIES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
