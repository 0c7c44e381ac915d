"""Find out whether a spiking neural network is really robust to adversarial examples."""

from __future__ import annotations

from robust_snn.utils.interrupts import is_command, leave_while_loading

leave_while_loading()  # first of all: libraries load for seconds

import importlib  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from robust_snn.utils.errors import InputError  # noqa: E402
from robust_snn.utils.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from robust_snn import models, neurons
    from robust_snn.eval.evaluate import evaluate
    from robust_snn.eval.scoring.verdict import Verdict
    from robust_snn.foreign import adapt, building_on_cpu
    from robust_snn.neurons import gradient_mode
    from robust_snn.victim import Victim

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

_PLACES = {
    "Verdict": "eval",
    "Victim": "victim",
    "adapt": "foreign",
    "building_on_cpu": "foreign",
    "evaluate": "eval",
    "gradient_mode": "neurons",
}
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
    "models",
    "neurons",
    "training",
)


def __getattr__(name: str) -> Any:
    """Loads a room, or a name from one, when it is first used."""
    if name in _PLACES:
        return getattr(importlib.import_module(f"robust_snn.{_PLACES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"robust_snn.{name}")
    raise AttributeError(f"module 'robust_snn' has no attribute '{name}'")


if not is_command():  # which prints its help at once, and loads the models with its inputs
    importlib.import_module("robust_snn.models")  # registers them in timm
