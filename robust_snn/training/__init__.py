"""Losses, recipes, checkpoints and the trainer, imported on first use.

Whoever only reads a checkpoint, as an evaluation does, loads `robust_snn.training.checkpoint` and
neither the trainer nor Accelerate.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robust_snn.training.checkpoint import (
        load_card,
        load_checkpoint,
        load_model,
        save_checkpoint,
    )
    from robust_snn.training.conversion import convert
    from robust_snn.training.loop import Diverged
    from robust_snn.training.recipe import Recipe, load_recipe
    from robust_snn.training.regularisers import gate_penalty
    from robust_snn.training.session import Trained
    from robust_snn.training.trainer import train
    from robust_snn.training.training_progress import TrainingProgress

_MODULES = {
    "Diverged": "loop",
    "Recipe": "recipe",
    "Trained": "session",
    "TrainingProgress": "training_progress",
    "convert": "conversion",
    "gate_penalty": "regularisers",
    "load_card": "checkpoint",
    "load_checkpoint": "checkpoint",
    "load_model": "checkpoint",
    "load_recipe": "recipe",
    "save_checkpoint": "checkpoint",
    "train": "trainer",
}
__all__ = [
    "Diverged",
    "Recipe",
    "Trained",
    "TrainingProgress",
    "convert",
    "gate_penalty",
    "load_card",
    "load_checkpoint",
    "load_model",
    "load_recipe",
    "save_checkpoint",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
