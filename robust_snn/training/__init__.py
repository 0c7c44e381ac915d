"""Losses, recipes, checkpoints and the trainer."""

from robust_snn.training.checkpoint import (
    load_card,
    load_checkpoint,
    load_model,
    save_checkpoint,
)
from robust_snn.training.loop import Diverged
from robust_snn.training.recipe import Recipe, load_recipe
from robust_snn.training.regularisers import gate_penalty
from robust_snn.training.trainer import Trained, fitted_kwargs, train
from robust_snn.training.training_progress import Progress

__all__ = [
    "Diverged",
    "Progress",
    "Recipe",
    "Trained",
    "fitted_kwargs",
    "gate_penalty",
    "load_card",
    "load_checkpoint",
    "load_model",
    "load_recipe",
    "save_checkpoint",
    "train",
]
