"""Recipes: the hyper-parameters of a training, read from YAML."""

from __future__ import annotations

import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from robust_snn.gradients import parse_mode
from robust_snn.training.perturb import PERTURBATIONS
from robust_snn.training.training_losses import DISTANCES, TASK_LOSSES
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.file_texts import parse_yaml, read_text
from robust_snn.utils.values import number

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
        augment: Whether colour images are shifted and mirrored at random.
        perturbation: What the network is trained on: `"none"`, `"gaussian"`, `"fgsm"`, `"rfgsm"`,
            `"rfgsm_released"` or `"pgd"`; see `perturb`. A list changes it at an epoch:
            `"none,fgsm@5,pgd@15"` is FGSM from epoch 5 and PGD from epoch 15 on.
        eps: Radius of the perturbation in Linf; of Gaussian noise its standard deviation.
        alpha: Random step of RFGSM, half of `eps` if left out; or step of PGD, `2.5 eps / steps`.
        steps: Steps of PGD.
        gradient: Gradient mode of the perturbation, with its surrogate.
        eot: Noise draws that the perturbation averages.
        loss: `"ce"`, the cross entropy of the mean logits (STBP), or `"tet"`, that of every step.
        tet_weight: How much of `"tet"` draws the logits to 1.
        clean_share: Share `chi` of the clean images in the task loss.
        trades: Weight of TRADES' divergence, whose task loss is on clean images; 0 is no TRADES.
        rho: Weight of the distance between the last layer's activity on clean and perturbed images.
        distance: `"ms_mppd"` (the paper's sum), `"ms_mppd_mean"` (its code's mean), `"tasad"` or
            `"std"`.
        sr: Weight of the sparse gradient penalty.
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
        released: Whether to follow the scripts released with StoG and stable SNN where they differ
            from their papers, or from what is usual here: cutout of one square of 16 pixels, SGD
            without Nesterov, weight decay on biases, norms and DLIF factors too, a cosine in epochs
            instead of steps, a last, smaller batch, and clean images before perturbed ones.
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
    sr: float = 0.0
    retraction: float = 0.0
    gate_penalty: float | None = None
    gate_opening: float = 0.7
    gate_share: float = 1.0
    ema: float = 0.0
    precision: str = "float32"
    perturbation_precision: str = "float32"
    channels_last: bool = False
    checkpointing: bool = False
    released: bool = False
    mechanism: str = ""
    held_out: float = 0.0
    check_every: int = 0
    check_eps: float = 8 / 255

    def __post_init__(self) -> None:
        _check(self)

    def replace(self, **changes: Any) -> Recipe:
        """The recipe with other values; a None among them is left out.

        Raises:
            InputError: If a name or value is not known.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **_converted(given, f"recipe '{self.name}'"))

    def perturbation_in(self, epoch: int) -> str:
        """The perturbation of an epoch, from 1."""
        return [kind for kind, first in phases(self.perturbation) if first <= epoch][-1]

    def steps_per_epoch(self, images: int) -> int:
        """Optimiser steps per epoch."""
        if self.released:
            return -(-images // self.batch_size)
        return max(1, images // self.batch_size)  # a smaller batch is the only one, or left out

    @property
    def gate_epochs(self) -> int:
        """Number of epochs in which the gates learn."""
        return round(self.gate_share * self.epochs)


def phases(perturbation: str) -> list[tuple[str, int]]:
    """Perturbations with the epochs that they begin in, such as `[("none", 1), ("fgsm", 5)]`.

    Raises:
        InputError: If it is no such list, or the epochs do not rise from 1.
    """
    found: list[tuple[str, int]] = []
    for word in perturbation.split(","):
        kind, at, first = word.strip().partition("@")
        if kind not in PERTURBATIONS:
            raise unknown("perturbation", kind, PERTURBATIONS)
        if bool(at) != bool(found) or (at and not first.isdecimal()):
            raise InputError(f"expected a form such as 'none,fgsm@5', got '{perturbation}'")
        found.append((kind, int(first) if at else 1))
    if any(later <= sooner for (_, sooner), (_, later) in zip(found, found[1:], strict=False)):
        raise InputError(f"the epochs of '{perturbation}' must rise, from 2 on")
    return found


def shipped() -> tuple[str, ...]:
    """Names of the recipes in the package."""
    entries = (files(__package__) / "recipes").iterdir()
    return tuple(sorted(Path(e.name).stem for e in entries if e.name.endswith(".yaml")))


def load_recipe(recipe: str | Path | Recipe) -> Recipe:
    """Reads a recipe of the package by name, or a user's own by the path of a YAML file.

    Raises:
        InputError: If there is none, or a key or value is not known.
    """
    if isinstance(recipe, Recipe):
        return recipe
    name = str(recipe)
    if name in shipped():
        text = (files(__package__) / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).suffix in (".yaml", ".yml"):
        text = read_text(Path(name), "the recipe")
    else:
        raise unknown("recipe", name, shipped())
    return _parse(text, f"recipe '{name}'")


def _parse(text: str, where: str) -> Recipe:
    tree = parse_yaml(text, where)
    if not isinstance(tree, Mapping) or not all(isinstance(key, str) for key in tree):
        raise InputError(f"{where} must be a mapping from names to values")
    values = _converted(tree, where)
    for key in ("name", "source"):
        if key not in values:
            raise InputError(f"{where} needs '{key}'")
    return Recipe(**values)


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
    "sr": (0, float("inf")),
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
    parse_mode(recipe.gradient)
    _check_effects(recipe, where)


def _check_effects(recipe: Recipe, where: str) -> None:
    """Refuses settings that would change nothing: a card must not say what was not done."""
    kinds = phases(recipe.perturbation)
    perturbed = [kind for kind, _ in kinds if kind != "none"]
    if perturbed and not recipe.eps:
        raise InputError(
            f"perturbation {where} is {perturbed[0]}, but eps is 0, which is no perturbation; give "
            "eps, such as 8/255, or perturbation=none"
        )
    idle = [name for name in ("eps", "rho", "trades", "clean_share") if getattr(recipe, name)]
    if not perturbed and idle:
        raise InputError(
            f"{idle[0]} {where} does nothing without a perturbation: give one, such as "
            f"perturbation=fgsm, or {idle[0]}=0"
        )
    kind, first = kinds[-1]
    if first > recipe.epochs:
        raise InputError(
            f"{kind}@{first} {where} never begins in {recipe.epochs} epochs; leave it out, or give "
            "more epochs"
        )
