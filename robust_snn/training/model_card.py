"""The card of a training as a Markdown page, and its curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_snn.training.recipe_effects import idle_settings
from robust_snn.training.training_folder import Epoch
from robust_snn.utils.figures import new_figure, save_figure
from robust_snn.utils.share_texts import percent

CURVES: dict[str, dict[str, str]] = {
    "loss": {"train_loss": "trained on"},
    "accuracy": {
        "train_accuracy": "trained on",
        "test_accuracy": "test",
        "held_out_accuracy": "held out",
        "attacked_accuracy": "after a cheap attack",
    },
    "firing rate": {"firing_rate": "all layers"},
    "opening probability": {"opening": "all gates"},
}


def markdown(card: Mapping[str, Any]) -> str:
    """The card of a training as Markdown."""
    model, data, test, recipe = (card[key] for key in ("model", "data", "test", "recipe"))
    arguments = ", ".join(f"{name}={value}" for name, value in model["kwargs"].items())
    left_out = {"source", *idle_settings(recipe)}
    changed = "\n".join(
        f"| {name} | {value} |" for name, value in recipe.items() if name not in left_out
    )
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    attacked = card["accuracy"].get("attacked")
    found = "" if attacked is None else f"| after PGD with 5 steps, eps {recipe['check_eps']:.4g} "
    found += (
        "" if attacked is None else f"(to choose weights by, no verdict) | {percent(attacked)} |\n"
    )
    return f"""# {model["name"]} on {data["name"]}

`timm.create_model("{model["name"]}", {arguments})`, {card["parameters"]:,} parameters, trained for
{card["epochs"]} epochs on {data["n"]} images of {data["name"]} ({data["split"]}) with seed
{card["seed"]}.

| | |
|---|---|
| accuracy on {test["n"]} images of {test["name"]} ({test["split"]}), one noise draw each | \
{percent(card["accuracy"]["test"])} |
| accuracy on the images trained on | {percent(card["accuracy"]["train"])} |
| trained on perturbed images in | {_perturbed(card)} |
{found}| mean opening probability of the gates | {card["opening"]:.3f} |
| mean spikes per neuron and step | {card["firing_rate"]:.3f} |

How robust it is, `robust-snn evaluate` measures.

## Recipe `{recipe["name"]}`

{recipe["source"]}

| | |
|---|---|
{changed}

{versions}
"""


def _perturbed(card: Mapping[str, Any]) -> str:
    """What the perturbation did, as it was measured in training."""
    epochs, change = card["perturbed"]["epochs"], card["perturbed"]["largest_change"]
    if not epochs:
        return "no epoch"
    return f"{epochs} of {card['epochs']} epochs, a pixel changed by {change:.4f} at most"


def draw_curves(history: Sequence[Epoch], path: Path) -> None:
    """Draws loss, accuracies, firing rate and opening probability over the epochs.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = new_figure(9.6, 6.0)
    for axes, (title, lines) in zip(figure.subplots(2, 2).flat, CURVES.items(), strict=True):
        for name, label in lines.items():
            known = [(row.epoch, getattr(row, name)) for row in history]
            points = [(epoch, value) for epoch, value in known if value is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label)
        axes.set(title=title, xlabel="epoch")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path, dpi=120)
