"""Find out whether a spiking neural network is really robust to adversarial examples."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from robust_snn.utils.interrupts import leave_while_loading

leave_while_loading()  # before the libraries load, which takes seconds

from robust_snn import models, neurons
from robust_snn.foreign import adapt, building_on_cpu
from robust_snn.neurons import gradient_mode
from robust_snn.utils.errors import InputError
from robust_snn.utils.version import __version__
from robust_snn.victim import Victim

if TYPE_CHECKING:
    from robust_snn.eval.evaluate import evaluate
    from robust_snn.eval.scoring.verdict import Verdict

__all__ = [
    "InputError",
    "Verdict",
    "Victim",
    "__version__",
    "adapt",
    "building_on_cpu",
    "evaluate",
    "gradient_mode",
    "models",
    "neurons",
]

_ROOMS = (
    "adapters",
    "attacks",
    "data",
    "diagnostics",
    "eval",
    "export",
    "foreign",
    "gradients",
    "kernels",
    "metrics",
    "training",
)


def __getattr__(name: str) -> Any:
    """Loads the rooms that a plain import leaves alone when they are first used."""
    if name in ("evaluate", "Verdict"):
        return getattr(importlib.import_module("robust_snn.eval"), name)
    if name in _ROOMS:
        return importlib.import_module(f"robust_snn.{name}")
    raise AttributeError(f"module 'robust_snn' has no attribute '{name}'")
