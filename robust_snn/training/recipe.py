"""Recipes: the hyper-parameters of a training, read from YAML."""

from __future__ import annotations

import math
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from robust_snn.gradients import parse_mode
from robust_snn.training.membrane_guards import GUARDS
from robust_snn.training.perturb import phases
from robust_snn.training.recipe_effects import check_effects, idle_settings
from robust_snn.training.training_losses import DISTANCES, TASK_LOSSES
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.file_texts import parse_yaml
from robust_snn.utils.shipped_files import shipped_names, yaml_text
from robust_snn.utils.values import assignments, number

OPTIMIZERS = ("sgd", "adam", "adamw")
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a training.

    Attributes:
        name: What cards call it.
        source: Where it comes from, and how it differs from that.
        epochs: Passes over the training images.
        batch_size: Images per step; a last, smaller batch is left out, as timm does, unless
            `released`.
        optimizer: `"sgd"` (Nesterov), `"adam"` or `"adamw"`, from timm.
        lr: Highest learning rate; a cosine takes it to `min_lr`.
        min_lr: Learning rate at the end.
        warmup_epochs: Epochs over which the learning rate rises, from the length of one such step.
        momentum: Momentum of SGD.
        weight_decay: Decay of weight matrices and kernels; biases, norms and gates have none.
        clip_norm: Largest norm of the gradient of all parameters; 0 does not clip.
        augment: Whether colour images and events are shifted and mirrored at random; a card says
            false where the images are neither.
        cutout: Side of the square that is cut out of each image; 0 cuts none.
        perturbation: What the network is trained on: `"none"`, `"gaussian"`, `"fgsm"`, `"rfgsm"`,
            `"pgd"`, `"universal"`, `"rfgsm_released"` or `"gaussian_released"`; see `perturb`. A
            list changes it at an epoch: `"none,fgsm@5,pgd@15"` is FGSM from epoch 5 and PGD from
            epoch 15 on.
        eps: Radius of the perturbation in Linf; of Gaussian noise its standard deviation.
        alpha: Random step of RFGSM, half of `eps` if left out; or step of PGD, `2.5 eps / steps`.
        steps: Steps of PGD, or of a universal perturbation.
        gradient: Gradient mode of the perturbation, with its surrogate.
        eot: Noise draws that the perturbation averages.
        loss: `"ce"`, the cross entropy of the mean logits (STBP), `"tet"`, that of every step, or
            `"rte"`, the same on images perturbed against one step drawn at random.
        tet_weight: How much of `"tet"` draws the logits to 1.
        clean_share: Share `chi` of the clean images in the task loss.
        trades: Weight of TRADES' divergence, whose task loss is on clean images; 0 is no TRADES.
        rho: Weight of the distance between the last layer's activity on clean and perturbed images.
        distance: `"ms_mppd"` (the paper's sum), `"ms_mppd_mean"` (its code's mean), `"mppd_l1"` and
            `"mppd_l1_mean"` (absolute values in place of squares), `"tasad"` or `"std"`.
        guard: Weight of a penalty on membranes near the threshold, in the images trained on.
        guard_kind: `"tgo"`, whose weight grows from 0 along half a cosine, or `"mpd_sgr"`; see
            `membrane_guards`.
        guard_margin: Distance from the threshold that it is about.
        sr: Weight of the sparse gradient penalty.
        sr_squared: Whether that penalty is squared, as in its code, or absolute, as in its paper.
        certified: Share of the loss of interval bounds within `eps`, which grows from 0 to that in
            the first half of the epochs; see `certified_loss`.
        retraction: Strength of SNN-RAT's orthogonal retraction after every step.
        gate_penalty: Strength of the penalty on stochastic gates; found from `gate_opening` if left
            out.
        gate_opening: Opening probability that the penalty alone would lead to, once the momentum
            has built up; a training of few steps leaves gates a little more open. Only for SGD.
        gate_share: Share of the epochs, the first ones, in which the gates learn.
        ema: Decay of averaged weights, which are then the ones measured and saved; 0 for none.
        precision: `"float32"` or `"bf16"`, which autocasts.
        perturbation_precision: `"float32"` or `"bf16"`, in which adversarial images are made.
        channels_last: Whether images, kernels and activations lie channels-last in memory.
        checkpointing: Whether the backward pass recomputes norms and spikes, which saves memory.
        script: Settings that `released` takes over from the script, as `name=value name=value`;
            empty where a recipe follows none.
        released: Whether to follow the script released with the paper where it differs from the
            text, or from what is usual here: the settings of `script`, and, as in all of these
            scripts, SGD without Nesterov, weight decay on biases, norms and DLIF factors too, a
            cosine in epochs instead of steps, a last, smaller batch, and clean images before
            perturbed ones.
        mechanism: Mechanism that the model must have, such as `"dlif"`; any if empty.
        held_out: Share of the training images that is held out to choose the best weights by.
        check_every: Epochs between attacks on the held-out or test images; 0 is never.
        check_eps: Radius of that attack, PGD with 5 steps.
    """

    name: str
    source: str
    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float = 0.1
    min_lr: float = 0.0
    warmup_epochs: int = 0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float = 0.0
    augment: bool = True
    cutout: int = 0
    perturbation: str = "none"
    eps: float = 0.0
    alpha: float | None = None
    steps: int = 7
    gradient: str = "bptt"
    eot: int = 1
    loss: str = "ce"
    tet_weight: float = 0.05
    clean_share: float = 0.0
    trades: float = 0.0
    rho: float = 0.0
    distance: str = "ms_mppd"
    guard: float = 0.0
    guard_kind: str = "tgo"
    guard_margin: float = 0.5
    sr: float = 0.0
    sr_squared: bool = True
    certified: float = 0.0
    retraction: float = 0.0
    gate_penalty: float | None = None
    gate_opening: float = 0.7
    gate_share: float = 1.0
    ema: float = 0.0
    precision: str = "float32"
    perturbation_precision: str = "float32"
    channels_last: bool = False
    checkpointing: bool = False
    script: str = ""
    released: bool = False
    mechanism: str = ""
    held_out: float = 0.0
    check_every: int = 0
    check_eps: float = 8 / 255

    def __post_init__(self) -> None:
        _check(self)

    def replace(self, **changes: Any) -> Recipe:
        """The recipe with other values; a None among them is left out.

        What would change nothing beside them, such as `steps` without PGD, gets its default back;
        with `released`, what the script says comes before what the recipe says.

        Raises:
            InputError: If a name or value is not known, or one of those given changes nothing.
        """
        where = f"recipe '{self.name}'"
        wanted = {name: value for name, value in changes.items() if value is not None}
        given = _converted(wanted, where)
        if given.get("released") and not self.released:
            given = {**_converted(assignments(self.script.split(), where), where), **given}
        values = {**vars(self), **given}
        if "gate_opening" in given and values["gate_penalty"] is not None:
            raise InputError(
                f"gate_opening of {where} does nothing beside its gate_penalty of "
                f"{values['gate_penalty']:g}; give another gate_penalty"
            )
        idle = {name: _DEFAULTS[name] for name in idle_settings(values) if name not in given}
        return Recipe(**{**values, **idle})

    def perturbation_in(self, epoch: int) -> str:
        """The perturbation of an epoch, from 1."""
        return [kind for kind, first in phases(self.perturbation) if first <= epoch][-1]

    def steps_per_epoch(self, images: int) -> int:
        """Optimiser steps per epoch."""
        if self.released:
            return -(-images // self.batch_size)
        return max(1, images // self.batch_size)  # a smaller batch is the only one, or left out

    def certified_eps(self, epoch: int) -> float:
        """Radius of the bounds in an epoch, from 1."""
        return self.eps * min(1.0, 2 * epoch / self.epochs)

    def guard_weight(self, epoch: int) -> float:
        """Weight of the guard in an epoch, from 1."""
        grown = (1 - math.cos(math.pi * epoch / self.epochs)) / 2
        return self.guard * (grown if GUARDS[self.guard_kind].grows else 1.0)

    @property
    def gate_epochs(self) -> int:
        """Number of epochs in which the gates learn."""
        return round(self.gate_share * self.epochs)


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Recipe)}


def shipped() -> tuple[str, ...]:
    """Names of the recipes in the package."""
    return shipped_names(__package__, "recipes")


def load_recipe(recipe: str | Path | Recipe) -> Recipe:
    """Reads a recipe of the package by name, or a user's own by the path of a YAML file.

    Raises:
        InputError: If there is none, or a key or value is not known.
    """
    if isinstance(recipe, Recipe):
        return recipe
    text = yaml_text(str(recipe), "recipe", __package__, "recipes")
    return _parse(text, f"recipe '{recipe}'")


def _parse(text: str, where: str) -> Recipe:
    tree = parse_yaml(text, where)
    if not isinstance(tree, Mapping) or not all(isinstance(key, str) for key in tree):
        raise InputError(f"{where} must be a mapping from names to values")
    values = _converted(tree, where)
    for key in ("name", "source"):
        if key not in values:
            raise InputError(f"{where} needs '{key}'")
    recipe = Recipe(**{**values, "released": False})
    return recipe.replace(released=True) if values.get("released") else recipe


def _converted(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values in the types of the recipe's fields."""
    hints = get_type_hints(Recipe)
    for key in values:
        if key not in hints:
            raise unknown(f"key of {where}", key, hints)
    return {key: _convert(hints[key], value, f"{key} of {where}") for key, value in values.items()}


def _convert(kind: Any, value: Any, what: str) -> Any:
    if get_origin(kind) is types.UnionType:
        if value is None:
            return None
        kind = get_args(kind)[0]
    if kind is float:
        return number(value, what)
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
        expected = {int: "a whole number", bool: "true or false", str: "text"}[kind]
        raise InputError(f"{what} must be {expected}, got {value!r}")
    return value


_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, float("inf")),
    "cutout": (0, float("inf")),
    "batch_size": (1, float("inf")),
    "eot": (1, float("inf")),
    "warmup_epochs": (0, float("inf")),
    "lr": (1e-12, float("inf")),
    "min_lr": (0, float("inf")),
    "momentum": (0, 0.9999),
    "weight_decay": (0, float("inf")),
    "clip_norm": (0, float("inf")),
    "eps": (0, 1),
    "alpha": (0, 1),
    "steps": (1, float("inf")),
    "tet_weight": (0, 1),
    "clean_share": (0, 1),
    "trades": (0, float("inf")),
    "rho": (0, float("inf")),
    "guard": (0, float("inf")),
    "guard_margin": (1e-6, float("inf")),
    "sr": (0, float("inf")),
    "certified": (0, 1),
    "retraction": (0, 1),
    "gate_penalty": (0, float("inf")),
    "gate_opening": (0.1, 1),
    "gate_share": (0, 1),
    "ema": (0, 0.99999),
    "held_out": (0, 0.9),
    "check_every": (0, float("inf")),
    "check_eps": (0, 1),
}
_CHOICES: dict[str, Collection[str]] = {
    "optimizer": OPTIMIZERS,
    "loss": TASK_LOSSES,
    "distance": DISTANCES,
    "guard_kind": GUARDS,
    "precision": PRECISIONS,
    "perturbation_precision": PRECISIONS,
}


def _check(recipe: Recipe) -> None:
    """Refuses values that no training could use."""
    where = f"of recipe '{recipe.name}'"
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if value is None or field.name not in _RANGES:
            continue
        low, high = _RANGES[field.name]
        if not low <= value <= high:
            bounds = f"at least {low:g}" if high == float("inf") else f"in [{low:g}, {high:g}]"
            raise InputError(f"{field.name} {where} must be {bounds}, got {value:g}")
    for name, choices in _CHOICES.items():
        if getattr(recipe, name) not in choices:
            raise unknown(f"{name} {where}", getattr(recipe, name), choices)
    parse_mode(recipe.gradient)
    check_effects(vars(recipe), _DEFAULTS, recipe.epochs, where)
    if recipe.trades and (recipe.rho or recipe.clean_share):
        raise InputError(f"trades {where} has a task loss of its own: leave rho and clean_share 0")
    if recipe.alpha is not None and recipe.alpha > recipe.eps:
        raise InputError(f"alpha {where} must be at most eps {recipe.eps:g}, got {recipe.alpha:g}")
    if recipe.min_lr > recipe.lr:
        raise InputError(f"min_lr {where} must be at most lr {recipe.lr:g}, got {recipe.min_lr:g}")
    if recipe.warmup_epochs >= recipe.epochs:
        raise InputError(
            f"warmup_epochs {where} must be fewer than its {recipe.epochs} epochs, "
            f"got {recipe.warmup_epochs}"
        )
    if recipe.released and not recipe.script:
        raise InputError(f"released {where} follows no script: leave it out, or give script")
