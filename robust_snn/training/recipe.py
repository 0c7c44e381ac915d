"""Recipes: the hyper-parameters of a training, read from YAML."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from robust_snn.errors import InputError, unknown
from robust_snn.gradients import parse_mode
from robust_snn.values import number

OPTIMIZERS = ("sgd", "adamw")
PERTURBATIONS = ("none", "fgsm", "rfgsm")


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a training.

    Attributes:
        name: What cards call it.
        source: Where it comes from, and how it differs from that.
        epochs: Passes over the training images.
        batch_size: Images per step; a last, smaller batch is left out, as timm does.
        optimizer: `"sgd"` (Nesterov) or `"adamw"`, from timm.
        lr: Highest learning rate; a cosine takes it to `min_lr`.
        min_lr: Learning rate at the end.
        warmup_epochs: Epochs over which the learning rate rises.
        momentum: Momentum of SGD.
        weight_decay: Decay of weight matrices and kernels; biases, norms and gates have none.
        clip_norm: Largest norm of the gradient of all parameters; 0 does not clip.
        augment: Whether colour images are shifted and mirrored at random.
        perturbation: What the network is trained on: `"none"`, `"fgsm"` or `"rfgsm"` images.
        eps: Radius of the perturbation in Linf.
        alpha: Random step of `"rfgsm"`; half of `eps` if left out.
        gradient: Gradient mode of the perturbation.
        eot: Noise draws that the perturbation averages.
        gate_penalty: Strength of the penalty on stochastic gates; found from `gate_opening` if left
            out.
        gate_opening: Opening probability that the penalty alone would lead to. Only for SGD.
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
    gradient: str = "bptt"
    eot: int = 1
    gate_penalty: float | None = None
    gate_opening: float = 0.7

    def __post_init__(self) -> None:
        _check(self)

    def with_(self, **changes: Any) -> Recipe:
        """The recipe with other values; a None among them is left out.

        Raises:
            InputError: If a name or value is not known.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **_converted(given, f"recipe '{self.name}'"))


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
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the recipe '{name}': {error}") from None
    else:
        raise unknown("recipe", name, shipped())
    return _parse(text, f"recipe '{name}'")


def _parse(text: str, where: str) -> Recipe:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
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
    "gate_penalty": (0, float("inf")),
    "gate_opening": (0.1, 1),
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
    if recipe.optimizer not in OPTIMIZERS:
        raise unknown(f"optimizer {where}", recipe.optimizer, OPTIMIZERS)
    if recipe.perturbation not in PERTURBATIONS:
        raise unknown(f"perturbation {where}", recipe.perturbation, PERTURBATIONS)
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
