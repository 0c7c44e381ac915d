"""The networks of the StoG paper's tables, how they are trained here, and on what scale."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from robust_snn.training import Recipe, load_recipe

PUBLISHED_EPOCHS = 200
ADVERSARIAL = 2.0  # time of an adversarial epoch, in those of a plain one, before it is measured


@dataclass(frozen=True)
class Net:
    """A network, and how it is trained.

    Attributes:
        setting: What the paper's tables call it.
        model: Name of the model.
        recipe: Name of the recipe. Its gates are led to a mean opening of 0.7, as the paper's
            penalty does in 200 epochs.
        changes: What is different in it.
    """

    setting: str
    model: str
    recipe: str = "natural"
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return f"{self.model}-{self.recipe}"

    @property
    def cost(self) -> float:
        """Time of an epoch, in plain ones."""
        return 1.0 if self.recipe == "natural" else ADVERSARIAL


WRN, VGG = {"retraction": 4e-3}, {"retraction": 5e-4}  # the paper's
# in the order of their turn: what no time is left for is not trained
NETS = (
    Net("vanilla", "snn_wrn16"),
    Net("AT", "snn_wrn16", "at"),
    Net("AT + StoG", "snn_wrn16_stog", "at"),
    Net("RAT + StoG", "snn_wrn16_stog", "rat", WRN),
    Net("AT", "snn_vgg11", "at"),
    Net("AT + StoG", "snn_vgg11_stog", "at"),
    Net("RAT", "snn_wrn16", "rat", WRN),
    Net("RAT + StoG", "snn_vgg11_stog", "rat", VGG),
    Net("vanilla", "snn_vgg11"),
    Net("RAT", "snn_vgg11", "rat", VGG),
    Net("vanilla + StoG", "snn_wrn16_stog"),
    Net("vanilla + StoG", "snn_vgg11_stog"),
)


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        kwargs: Arguments of all models.
        head_width: Hidden neurons in the heads of VGG networks, if not the published ones.
        images: Images to train on; None for all.
        attacked: Images to attack at most.
        block: Images that are attacked first, to learn how long one takes.
        nets: Networks to train at most.
        least_epochs: Epochs that every network should have.
        recipe: What is different in all recipes.
    """

    kwargs: dict[str, Any]
    head_width: int | None
    images: int | None
    attacked: int
    block: int
    nets: int
    least_epochs: int
    recipe: dict[str, Any]

    def arguments(self, net: Net) -> dict[str, Any]:
        """Arguments of a network's model."""
        vgg = "vgg" in net.model and self.head_width is not None
        return self.kwargs | ({"head_width": self.head_width} if vgg else {})

    def prepared(self, net: Net) -> Recipe:
        """The recipe of a network, whose number of epochs is not chosen yet.

        The hidden layers of a VGG network have no batch norm, and bear no higher learning rate.
        """
        changes = self.recipe | net.changes
        if "vgg" in net.model:
            changes["lr"] = changes["lr"] / 2
        recipe = load_recipe(net.recipe)
        if recipe.perturbation == "none":  # which has no precision
            changes.pop("perturbation_precision", None)
        return recipe.replace(**changes)


FAST = {"precision": "bf16", "perturbation_precision": "bf16", "channels_last": True}
PUBLISHED = Scale(
    {"T": 8}, None, None, 1000, 100, len(NETS), 4, {**FAST, "batch_size": 256, "lr": 0.1}
)
SMOKE = Scale(
    {"T": 2, "width": 0.125, "img_size": 8},
    *(16, 128, 6, 3, 3, 1),
    {**FAST, "batch_size": 32, "lr": 0.1},
)
