"""A plan of a study as a YAML file: which defences, how each is trained, how all are attacked.

    name: mine
    source: what the study is about
    eps: 4/255
    seeds: [0, 1, 2]
    training: {epochs: 10}
    suites: [adaptive-small]
    defences:
      - {name: AT, model: snn_vgg5, recipe: at}
      - {name: AT + TGO, model: snn_vgg5_nlif, recipe: tgo-at, baseline: AT}

The keys are the fields of `StudyPlan`, those of a defence the fields of `Defence`. A new defence is
a recipe, where none is there, and one row. Unknown keys are refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import timm

from robust_snn.attacks.threat_radius import checked_radius
from robust_snn.eval.protocol.suite_files import built, load_suite, mapping
from robust_snn.training import Recipe, load_recipe
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.file_texts import parse_yaml
from robust_snn.utils.shipped_files import yaml_text
from robust_snn.utils.values import file_name, number, whole

OWN_PROTOCOL = "own-surrogate"
PAGES = ("study.html", "study.md", "study.json")
# in the folder of a cell, beside its runs
KEPT = ("training", "activations", "converted.safetensors", "converted.json", "lock", "energy.json")
QUANTITIES = ("clean", "own protocol", "best known")  # that a study tells of every defence
ACTIVATIONS = {"T": 1, "gradient": "activation(relu)"}  # of a network of activations


@dataclass(frozen=True)
class PublishedGain:
    """What a paper reports of a defence and of its baseline, in percent.

    Attributes:
        what: The attack, network and data.
        baseline: Accuracy of the baseline under it.
        defence: Accuracy of the defence.
        source: The paper.
    """

    what: str
    baseline: float
    defence: float
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        for key in ("baseline", "defence"):
            percent = number(getattr(self, key), f"{key} of what '{self.source}' published")
            object.__setattr__(self, key, percent)


@dataclass(frozen=True)
class Defence:
    """One row of a study.

    Attributes:
        name: What the page calls it; unique in the plan.
        model: Registered name of the network.
        recipe: Name of a shipped recipe, or path of a YAML file.
        converted: Recipe of a network of activations with the same layers, trained first with the
            plan's `training`, from whose weights `recipe` goes on; see `training.convert`.
        baseline: Name of the defence that it is compared with, if any.
        protocol: Suite that attacks it, and its baseline beside it, as its paper does.
        model_kwargs: Arguments of the network, beside those of the plan.
        training: Values of the recipe, beside those of the plan.
        published: What papers report.
    """

    name: str
    model: str
    recipe: str = "natural"
    converted: str | None = None
    baseline: str | None = None
    protocol: str = OWN_PROTOCOL
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    published: tuple[PublishedGain, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        for key in ("model_kwargs", "training"):
            mapping(getattr(self, key), f"{key} of '{self.name}'")
        file_name(self.folder, "name of a defence")
        if self.folder in PAGES:
            raise InputError(f"a page of the study is called '{self.folder}'; rename the defence")
        if not timm.is_model(self.model.partition(".")[0]):
            raise unknown(f"model of '{self.name}'", self.model, timm.list_models("snn_*"))

    @property
    def folder(self) -> str:
        """Name of the folder of its cells."""
        return re.sub(r"[^A-Za-z0-9.=-]+", "_", self.name)


@dataclass(frozen=True)
class StudyPlan:
    """A matrix of defences, seeds and suites.

    Attributes:
        name: Its name.
        defences: The rows, each after its baseline.
        source: What it is about.
        eps: Radius of the attacks, and of the perturbations of those recipes that have one.
        seeds: Of weights, order and noise of the trainings.
        suites: Suites beside each row's protocol.
        size: Side to which images are resized; as they are if left out.
        n: Images attacked, the first of the test images.
        trained_on: Images to train on; all if left out.
        model_kwargs: Arguments of every network.
        training: Values of every recipe.
    """

    name: str
    defences: tuple[Defence, ...]
    source: str = ""
    eps: float = 8 / 255
    seeds: tuple[int, ...] = (0, 1, 2)
    suites: tuple[str, ...] = ("adaptive-small",)
    size: int | None = None
    n: int = 500
    trained_on: int | None = None
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        for key in ("n", "size", "trained_on"):
            if (value := getattr(self, key)) is not None:
                whole(value, f"{key} of a study", 1)
        if not self.seeds or not self.suites or not self.defences:
            raise InputError("a study needs seeds, suites and defences: at least one of each")
        for key in ("model_kwargs", "training"):
            mapping(getattr(self, key), f"{key} of a study")
        for seed in self.seeds:
            whole(seed, "a seed of a study")
        _check_once(self.seeds, "a seed of the study")
        known: list[str] = []
        for row in self.defences:
            if row.name in known:
                raise InputError(f"two defences of the study are called '{row.name}'")
            if row.baseline is not None and row.baseline not in known:
                raise unknown(f"baseline of '{row.name}', a row above it,", row.baseline, known)
            known.append(row.name)
            self.recipe(row)
            if self.activations(row) is not None and "T" not in self.kwargs(row):
                raise InputError(f"'{row.name}' is converted, to T steps: give T in model_kwargs")
        # not all file systems tell large letters from small ones
        _check_once([row.folder.lower() for row in self.defences], "the folder of a defence")
        for row in self.defences:
            self._check_suites(row)

    def _check_suites(self, row: Defence) -> None:
        names = []
        for given in self.suites_of(row):
            suite = load_suite(given)
            checked_radius(self.eps, suite.norm, f"eps of a study, under suite '{suite.name}',")
            names.append(file_name(suite.name, "name of a suite of a study"))
        _check_once([*names, *KEPT], f"in the folder of '{row.name}', what a suite is called")
        attacks = [attack.name for attack in load_suite(row.protocol).attacks]
        beside = [load_suite(suite).name for suite in self.suites]
        told = [*QUANTITIES, *dict.fromkeys(beside), *attacks]
        _check_once(told, f"in the table of '{row.name}', what a suite or an attack is called")

    @cached_property
    def rows(self) -> dict[str, Defence]:
        """The defences by name."""
        return {row.name: row for row in self.defences}

    def recipe(self, row: Defence) -> Recipe:
        """How a defence is trained."""
        return self._changed(load_recipe(row.recipe), {**self.training, **row.training})

    def activations(self, row: Defence) -> Recipe | None:
        """How the network of activations of a defence is trained, if it is converted from one."""
        if row.converted is None:
            return None
        return self._changed(load_recipe(row.converted), self.training)

    def _changed(self, recipe: Recipe, changes: dict[str, Any]) -> Recipe:
        perturbed = changes.get("perturbation", recipe.perturbation) != "none"
        return recipe.replace(**({"eps": self.eps} if perturbed else {}), **changes)

    def kwargs(self, row: Defence) -> dict[str, Any]:
        """Arguments of the network of a defence."""
        return {**self.model_kwargs, **row.model_kwargs}

    def suites_of(self, row: Defence) -> tuple[str, ...]:
        """What a defence goes through: its protocol, that of rows beside it, and the rest."""
        for suite in (row.protocol, *self.suites):
            if not isinstance(suite, str):
                raise InputError(f"a suite of a study must be a name, got {suite!r:.60}")
        beside = (other.protocol for other in self.defences if other.baseline == row.name)
        return tuple(dict.fromkeys((row.protocol, *beside, *self.suites)))

    def only(self, names: list[str], seeds: list[int], n: int | None) -> StudyPlan:
        """A part of the study: some defences with their baselines, some seeds, other images.

        An empty list, and None, leave what is planned.

        Raises:
            InputError: If there is no such defence.
        """
        kept = set(names or self.rows)
        if wrong := kept - set(self.rows):
            raise unknown("defence", sorted(wrong)[0], self.rows)
        for row in reversed(self.defences):
            if row.name in kept and row.baseline is not None:
                kept.add(row.baseline)
        rows = tuple(row for row in self.defences if row.name in kept)
        return replace(
            self, defences=rows, seeds=tuple(seeds) or self.seeds, n=self.n if n is None else n
        )


def load_plan(plan: str | Path | StudyPlan) -> StudyPlan:
    """Reads a plan of the package by name, or a user's own by the path of a YAML file.

    Raises:
        InputError: If there is none, or it does not follow the schema.
    """
    if isinstance(plan, StudyPlan):
        return plan
    text = yaml_text(str(plan), "plan of a study", __package__, "studies")
    where = f"plan '{plan}'"
    tree = mapping(parse_yaml(text, where), where)
    if not isinstance(rows := tree.get("defences"), list):
        raise InputError(f"{where} needs 'defences', a list")
    tree["defences"] = tuple(
        _defence(row, f"defence {count} of {where}") for count, row in enumerate(rows, 1)
    )
    if "eps" in tree:
        tree["eps"] = number(tree["eps"], f"eps of {where}")
    for key in ("seeds", "suites"):
        if key in tree:
            if not isinstance(tree[key], list):
                raise InputError(f"{key} of {where} must be a list, got {tree[key]!r:.60}")
            tree[key] = tuple(tree[key])
    return built(StudyPlan, tree, where)


def _defence(value: Any, where: str) -> Defence:
    row = mapping(value, where)
    published = row.get("published", [])
    if not isinstance(published, list):
        raise InputError(f"published of {where} must be a list, got {published!r:.60}")
    where_published = f"published of {where}"
    row["published"] = tuple(built(PublishedGain, each, where_published) for each in published)
    return built(Defence, row, where)


def _check_once(values: Sequence[Any], what: str) -> None:
    """Refuses a value that comes twice."""
    value, times = Counter(values).most_common(1)[0]
    if times > 1:
        raise InputError(f"{what} comes twice: '{value}'; rename one or leave it out")
