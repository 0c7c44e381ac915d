"""A suite: what is attacked, how, and how often it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from robust_snn.attacks import BUDGETS
from robust_snn.attacks.gradient_attack import SOURCE, WORST
from robust_snn.attacks.threat_radius import NORMS
from robust_snn.eval.protocol.sweep_axes import Axes
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.user_function import is_reference
from robust_snn.utils.values import is_plain, whole

MOST = 10**9  # draws, steps or restarts


@dataclass(frozen=True)
class AttackSpec:
    """One row of a suite.

    Attributes:
        name: How the verdict calls it; unique in the suite.
        implementation: Who runs it, a row of `IMPLEMENTATIONS` in `implementations.py`, or a user's
            function `file.py:attack`, whose code then runs.
        attack: Its name there; that of a user's function if left out.
        gradient: Gradient mode of the attack; the victim's own if left out.
        eot: Draws whose logits the victim averages for the attack; 1 on a deterministic victim.
        noise: Noise policy during the attack: `fresh`, `frozen` or `mean`.
        steps: Steps, or queries for a search without gradients; the library's own number if left
            out.
        restarts: Restarts; the library's own number if left out.
        options: More arguments of the implementation.
    """

    name: str
    implementation: str
    attack: str = ""
    gradient: str | None = None
    eot: int = 1
    noise: str = "fresh"
    steps: int | None = None
    restarts: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.attack and is_reference(str(self.implementation)):
            object.__setattr__(self, "attack", self.implementation.rpartition(":")[2])

    def override(self, steps: int | None, eot: int | None) -> AttackSpec:
        """The row with other numbers; where its attack averages losses itself, `eot` counts those.

        Args:
            steps: Steps, or queries; None leaves them.
            eot: Draws that are averaged; None leaves them.
        """
        row = replace(self, steps=self.steps if steps is None else steps)
        if eot is None:
            return row
        for inner in ("eot_loss", "eot_iter"):
            if inner in row.options:
                return replace(row, options={**row.options, inner: eot})
        return replace(row, eot=eot)

    def check(self, where: str) -> None:
        """Raises `InputError` for values that no attack could use; `where` names the suite."""
        which = f"'{self.name}' of {where}"
        if self.attack == "":
            raise InputError(f"{which} needs 'attack'")
        for key in ("name", "implementation", "attack", "noise"):
            if not isinstance(value := getattr(self, key), str) or not value:
                raise InputError(f"{key} of {which} must be a word, got {value!r}")
        if not isinstance(self.gradient, str | None) or self.gradient == "":
            raise InputError(f"gradient of {which} must be text, got {self.gradient!r}")
        if not isinstance(self.options, Mapping) or not all(
            isinstance(key, str) for key in self.options
        ):
            raise InputError(
                f"options of {which} must be a mapping from names to values, "
                f"got {self.options!r:.60}"
            )
        for key, value in self.options.items():
            if not is_plain(value):
                raise InputError(
                    f"option '{key}' of {which} must be text, a finite number, true or false, or a "
                    f"list or mapping of these, got {type(value).__name__} {value!r:.60}"
                )
        _positive(self.eot, f"eot of {which}")
        for key in ("steps", "restarts"):
            if (value := getattr(self, key)) is not None:
                _positive(value, f"{key} of {which}")

    @property
    def needs_source(self) -> bool:
        """Whether it attacks from another network, which the caller brings."""
        return SOURCE in self.sources

    @property
    def needs_worst(self) -> bool:
        """Whether it starts from what the rows before it made."""
        return self.options.get("start") == WORST

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the networks or variants that its images or its first start come from."""
        names = (self.options.get(key) for key in ("source", "start"))
        return tuple(name for name in names if isinstance(name, str) and name != WORST)


@dataclass(frozen=True)
class Draws:
    """Noise draws per image: `select` choose the worst attack, `report` give the number.

    Select draws are cheap compared to an attack; with too few of them, chance chooses.
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
        independent: Whether every attack gets every image, as in the columns of a paper's table,
            and not only those on which all attacks before it failed.
        sweep: Values by axis, around the point that the rest describes.
        budget: A row of `robust_snn.attacks.BUDGETS`: a probe of the victim chooses attacks, which
            come before those of the suite.
        known_noise: Whether attackers know the random numbers of a noisy network: it then repeats
            a draw of every image, in attacks and in scores.
    """

    name: str
    attacks: tuple[AttackSpec, ...]
    source: str = ""
    norm: str = "Linf"
    eps: float = 8 / 255
    draws: Draws = Draws()
    independent: bool = False
    sweep: Axes = field(default_factory=dict)
    budget: str | None = None
    known_noise: bool = False

    def __post_init__(self) -> None:
        where = f"suite '{self.name}'"
        for key in ("name", "source"):
            if not isinstance(value := getattr(self, key), str) or (key == "name" and not value):
                raise InputError(f"{key} of {where} must be text, in quotes, got {value!r:.60}")
        if self.norm not in NORMS:
            raise unknown(f"norm of {where}", str(self.norm), NORMS)
        for key in ("independent", "known_noise"):
            if not isinstance(value := getattr(self, key), bool):
                raise InputError(f"{key} of {where} must be true or false, got {value!r}")
        _positive(self.draws.select, f"draws.select of {where}")
        _positive(self.draws.report, f"draws.report of {where}")
        if self.budget is not None and str(self.budget) not in BUDGETS:
            raise unknown(f"budget of {where}", str(self.budget), BUDGETS)
        if not self.attacks and self.budget is None:
            raise InputError(f"{where} has no attacks")
        for attack in self.attacks:
            attack.check(where)
            if self.independent and attack.needs_worst:
                raise InputError(
                    f"'{attack.name}' of {where} starts from what rows before it made, but these "
                    "rows are independent; leave out 'start'"
                )
        names = [attack.name for attack in self.attacks]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{where} has two attacks called '{name}'")

    def override(
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
            eot: Draws that every attack averages.
        """
        given = {"draws": draws, "steps": steps, "eot": eot}
        names = {"draws": "draws.report"}
        changes: dict[str, Any] = {} if norm is None else {"norm": norm}
        changes |= {
            key: _positive(value, f"{names.get(key, key)} of suite '{self.name}'")
            for key, value in given.items()
            if value is not None
        }
        if not changes:
            return self
        if self.budget is not None and (steps is not None or eot is not None):
            raise InputError(
                f"suite '{self.name}' has a budget, which decides on steps and eot: leave them out"
            )
        return replace(
            self,
            name=f"{self.name}({','.join(f'{key}={value}' for key, value in changes.items())})",
            norm=changes.get("norm", self.norm),
            draws=replace(self.draws, report=changes.get("draws", self.draws.report)),
            attacks=tuple(
                attack.override(changes.get("steps"), changes.get("eot")) for attack in self.attacks
            ),
        )

    def with_transfer(self) -> Suite:
        """The suite with an attack from a source; as it is if it has one."""
        if any(attack.needs_source for attack in self.attacks):
            return self
        options = {"source": SOURCE}
        row = AttackSpec("transfer-source", "robust_snn", "transfer", options=options)
        return replace(self, attacks=(*self.attacks, row))

    def deterministic(self) -> Suite:
        """The suite for a victim without noise, where every draw is the same one."""
        rows = tuple(replace(attack, eot=1, noise="fresh") for attack in self.attacks)
        return replace(self, draws=Draws(1, 1), attacks=rows)


def _positive(value: Any, where: str) -> int:
    try:
        count = whole(value, where, 1)
    except InputError:
        if type(value) is not int or value < 1:
            message = f"{where} must be a whole number of at least 1, got {value!r:.60}"
            raise InputError(message) from None
        count = value
    if count > MOST:
        raise InputError(f"{where} must be at most {MOST}, got {count!r:.40}")
    return count
