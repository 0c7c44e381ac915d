"""Suites: what is attacked, how, and how often it is scored, read from YAML.

    name: mine
    source: where the protocol comes from, and how this differs from it
    norm: Linf
    eps: 8/255
    draws: {select: 100, report: 20}
    attacks:
      - {name: apgd-ce, implementation: autoattack, attack: apgd-ce, eot: 20, steps: 100}

The fields of an attack are those of `Attack`. `budget: small` instead of attacks, or before them,
lets a probe of the victim choose. Unknown keys are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml

from robust_snn.attacks import BUDGETS
from robust_snn.eval.protocol.sweep_axes import Axes, parse_axes
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import number

NORMS = ("Linf", "L2", "L0")
SOURCE = "checkpoint"  # stands in an attack's options for the network of --source-checkpoint
ALIASES = {"adaptive": "adaptive-medium"}


@dataclass(frozen=True)
class Attack:
    """One row of a suite.

    Attributes:
        name: How the verdict calls it; unique in the suite.
        implementation: Who runs it, a row of `robust_snn.eval.protocol.backends.IMPLEMENTATIONS`.
        attack: Its name there.
        gradient: Gradient mode of the attacked view; the victim's own if left out.
        eot: Draws whose logits the view averages; 1 on a deterministic victim.
        noise: Noise policy of the view: `fresh`, `frozen` or `mean`.
        steps: Steps, or queries for a search without gradients; the library's own number if left
            out.
        restarts: Restarts; the library's own number if left out.
        options: More arguments of the implementation.
    """

    name: str
    implementation: str
    attack: str
    gradient: str | None = None
    eot: int = 1
    noise: str = "fresh"
    steps: int | None = None
    restarts: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def needs_source(self) -> bool:
        """Whether it attacks from another network, which the caller brings."""
        return self.options.get("source") == SOURCE


@dataclass(frozen=True)
class Draws:
    """Noise draws per image: `select` choose the worst attack, `report` give the number.

    Select draws are cheap beside an attack. With few of them, luck chooses instead of strength.
    """

    select: int = 40
    report: int = 20


@dataclass(frozen=True)
class Suite:
    """A protocol: threat model, draws and attacks in order.

    Attributes:
        name: How the verdict calls it.
        attacks: Attacks, in order.
        source: Where the protocol comes from.
        norm: Norm of the threat model.
        eps: Radius where the caller names none.
        draws: Noise draws.
        independent: Whether every attack meets every image, as the columns of a paper's table do,
            and not only those that the attacks before left standing.
        sweep: Values by axis, around the point that the rest describes.
        budget: A row of `robust_snn.attacks.BUDGETS`: a probe of the victim chooses attacks, which
            come before those of the suite.
    """

    name: str
    attacks: tuple[Attack, ...]
    source: str = ""
    norm: str = "Linf"
    eps: float = 8 / 255
    draws: Draws = Draws()
    independent: bool = False
    sweep: Axes = field(default_factory=dict)
    budget: str | None = None

    def adapted(
        self,
        *,
        norm: str | None = None,
        draws: int | None = None,
        steps: int | None = None,
        eot: int | None = None,
    ) -> Suite:
        """The suite with the caller's numbers, which its name then shows: `quick(steps=5)`.

        Args:
            norm: Another norm.
            draws: Report draws.
            steps: Steps (for Square: queries) of every attack.
            eot: Draws that every attack's view averages.
        """
        given = {"norm": norm, "draws": draws, "steps": steps, "eot": eot}
        changes = {key: value for key, value in given.items() if value is not None}
        if not changes:
            return self
        if self.budget is not None and (steps is not None or eot is not None):
            raise InputError(f"suite '{self.name}' has a budget, which decides on steps and eot")
        suite = replace(
            self,
            name=f"{self.name}({','.join(f'{key}={value}' for key, value in changes.items())})",
            norm=norm or self.norm,
            draws=replace(self.draws, report=draws if draws is not None else self.draws.report),
            attacks=tuple(_adapted(attack, steps, eot) for attack in self.attacks),
        )
        _check(suite)
        return suite

    def with_transfer(self) -> Suite:
        """The suite with an attack from a source; as it is if it has one."""
        if any(attack.needs_source for attack in self.attacks):
            return self
        options = {"source": SOURCE}
        row = Attack("transfer-source", "robust_snn", "transfer", options=options)
        return replace(self, attacks=(*self.attacks, row))

    def deterministic(self) -> Suite:
        """The suite for a victim without noise, where every draw is the same one."""
        rows = tuple(replace(attack, eot=1, noise="fresh") for attack in self.attacks)
        return replace(self, draws=Draws(1, 1), attacks=rows)


def shipped() -> tuple[str, ...]:
    """Names of the suites in the package."""
    entries = (files(__package__) / "suites").iterdir()
    return tuple(sorted(Path(e.name).stem for e in entries if e.name.endswith(".yaml")))


def load_suite(suite: str | Path | Suite) -> Suite:
    """Reads a suite of the package by name, or a user's own by path.

    Raises:
        InputError: If there is none, or it does not follow the schema.
    """
    if isinstance(suite, Suite):
        _check(suite)
        return suite
    suite = ALIASES.get(str(suite), suite)
    if str(suite) in shipped():
        text = (files(__package__) / "suites" / f"{suite}.yaml").read_text(encoding="utf-8")
    elif Path(suite).suffix in (".yaml", ".yml"):
        try:
            text = Path(suite).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the suite '{suite}': {error}") from None
    else:
        raise unknown("suite", str(suite), shipped())
    return parse_suite(text, str(suite))


def parse_suite(text: str, where: str) -> Suite:
    """Reads a suite from YAML.

    Args:
        text: The YAML.
        where: What messages call it.

    Raises:
        InputError: If it does not follow the schema.
    """
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"suite '{where}' is not YAML: {' '.join(str(error).split())}") from None
    tree = _mapping(tree, f"suite '{where}'")
    rows = tree.get("attacks", [] if "budget" in tree else None)
    if not isinstance(rows, list):
        raise InputError(f"suite '{where}' needs 'attacks', a list")
    tree["attacks"] = tuple(
        _build(Attack, row, f"attack {number} of suite '{where}'")
        for number, row in enumerate(rows, 1)
    )
    tree["draws"] = _build(Draws, tree.get("draws", {}), f"'draws' of suite '{where}'")
    tree["sweep"] = parse_axes(tree.get("sweep", {}), f"'sweep' of suite '{where}'")
    if "eps" in tree:
        tree["eps"] = number(tree["eps"], f"eps of suite '{where}'")
    suite = _build(Suite, tree, f"suite '{where}'")
    _check(suite)
    return suite


def _adapted(attack: Attack, steps: int | None, eot: int | None) -> Attack:
    """A row with other numbers; where its attack averages losses itself, those are the draws."""
    attack = replace(attack, steps=attack.steps if steps is None else steps)
    if eot is None:
        return attack
    for inner in ("eot_loss", "eot_iter"):
        if inner in attack.options:
            return replace(attack, options={**attack.options, inner: eot})
    return replace(attack, eot=eot)


T = TypeVar("T")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{where} must be a mapping from names to values, got {value!r:.60}")
    return dict(value)


def _build(cls: type[T], value: Any, where: str) -> T:
    """A dataclass from a mapping whose keys are its fields."""
    value = _mapping(value, where)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in value:
        if key not in known:
            raise unknown(f"key of {where}", key, known)
    for key, f in known.items():
        if key not in value and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(f"{where} needs '{key}'")
    return cls(**value)


def _check(suite: Suite) -> None:
    """Refuses values that no run could use."""
    where = f"suite '{suite.name}'"
    if suite.norm not in NORMS:
        raise unknown(f"norm of {where}", str(suite.norm), NORMS)
    if not isinstance(suite.independent, bool):
        raise InputError(f"independent of {where} must be true or false, got {suite.independent!r}")
    _positive(suite.draws.select, f"draws.select of {where}")
    _positive(suite.draws.report, f"draws.report of {where}")
    if suite.budget is not None and suite.budget not in BUDGETS:
        raise unknown(f"budget of {where}", str(suite.budget), BUDGETS)
    if not suite.attacks and suite.budget is None:
        raise InputError(f"{where} has no attacks")
    for attack in suite.attacks:
        which = f"'{attack.name}' of {where}"
        for key in ("name", "implementation", "attack", "noise"):
            if not isinstance(value := getattr(attack, key), str) or not value:
                raise InputError(f"{key} of {which} must be a word, got {value!r}")
        if not isinstance(attack.gradient, str | None):
            raise InputError(f"gradient of {which} must be text, got {attack.gradient!r}")
        _mapping(attack.options, f"options of {which}")
        _positive(attack.eot, f"eot of {which}")
        for key in ("steps", "restarts"):
            if (value := getattr(attack, key)) is not None:
                _positive(value, f"{key} of {which}")
    names = [attack.name for attack in suite.attacks]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{where} has two attacks called '{name}'")


def _positive(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{where} must be a whole number of at least 1, got {value!r}")
