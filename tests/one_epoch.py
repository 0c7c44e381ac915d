"""A short training on a set whose files a test has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from robust_snn.data import ImageSet
from robust_snn.training import load_card, load_recipe, train

KWARGS = {"snn_vgg5": {"T": 2, "width": 0.0625, "head_width": 8}, "snn_sew7b": {"width": 0.0625}}


def check_training(
    data: ImageSet, test: ImageSet, out: Path, model: str = "snn_vgg5", recipe: str = "natural"
) -> None:
    """Trains a small network for an epoch; it ends finite, and names its data."""
    changes: dict[str, Any] = {"epochs": 1, "batch_size": 4, "lr": 0.01}
    if (chosen := load_recipe(recipe)).warmup_epochs:
        changes["warmup_epochs"] = 0
    done = train(model, data, test, chosen.replace(**changes), out=out, model_kwargs=KWARGS[model])
    card = load_card(out / "model.safetensors")
    assert card is not None and card["data"]["n"] == len(data)
    assert card["model"]["kwargs"]["num_classes"] == len(data.classes)
    assert torch.isfinite(torch.tensor(done.history[-1].train_loss))
    saved = load_file(out / "model.safetensors")
    assert all(value.isfinite().all() for value in saved.values())
    assert done.history[-1].test_accuracy is not None
