"""The result of an evaluation: `verdict.json`, schema 1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.scoring.energy_use import EnergyUse, read_energy
from robust_snn.eval.scoring.larger_budget import LargerBudget
from robust_snn.eval.scoring.verdict_form import check_verdict, known_fields
from robust_snn.gradients import parse_mode
from robust_snn.utils.checked_files import check_record, write_record
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.places import place

SCHEMA = 1
Interval = tuple[float, float]


@dataclass(frozen=True)
class Clean:
    """Accuracy without an attack: mean over draws and by vote over draws, with 95 % intervals.

    A verdict that was not made here may lack the interval of the vote.
    """

    accuracy: float
    ci: Interval
    vote: float
    vote_ci: Interval | None = None


@dataclass(frozen=True)
class Tries:
    """What holds if an attacker may ask `tries` times: no answer is wrong, with a 95 % interval."""

    tries: int
    accuracy: float
    ci: Interval


@dataclass(frozen=True)
class Robust:
    """Accuracy on the worst version of every image.

    Attributes:
        accuracy: Mean over report draws.
        ci: Its 95 % interval.
        vote: Share of images whose label wins the vote over report draws.
        asr: Share of the originally correct answers that turned wrong under the same noise.
        vote_ci: 95 % interval of the vote; a verdict that was not made here may lack it.
        asr_ci: 95 % interval of the attack success rate, likewise.
        in_every_try: For numbers of tries up to the report draws, the share of images that are
            right in all of them; empty for deterministic networks and in older verdicts.
        known_noise: What is left if the attacker knows each draw and picks, of the images that the
            attacks made, one that it misclassifies: no more than that, since none was made for its
            draw. None for deterministic networks and in older verdicts.
        known_noise_ci: Its 95 % interval.
    """

    accuracy: float
    ci: Interval
    vote: float
    asr: float
    vote_ci: Interval | None = None
    asr_ci: Interval | None = None
    in_every_try: tuple[Tries, ...] = ()
    known_noise: float | None = None
    known_noise_ci: Interval | None = None


@dataclass(frozen=True)
class AttackResult:
    """One attack of a suite.

    Attributes:
        name: Its name in the suite.
        implementation: Library, version, attack and settings.
        gradient: Gradient mode of the attack; `own` where it reaches no neuron of the network.
        eot: Draws whose logits the victim averaged for it.
        accuracy: Accuracy under this attack; images that an earlier attack broke
            count with their worst version so far.
        ci: Its 95 % interval.
        claimed: The robust accuracy that the attack itself claims, of the images that it met; the
            others count as in `accuracy`, where most draws decide.
        forwards: Images passed forwards.
        backwards: Images passed backwards.
        seconds: Time, scoring included.
        images: Images that it met, those which no attack before it had broken; None in verdicts of
            earlier versions, as the rest.
        after: Accuracy in the worst case over this attack and those before it.
        after_ci: Its 95 % interval.
    """

    name: str
    implementation: str
    gradient: str
    eot: int
    accuracy: float
    ci: Interval
    claimed: float
    forwards: int
    backwards: int
    seconds: float
    images: int | None = None
    after: float | None = None
    after_ci: Interval | None = None

    @property
    def mode(self) -> str:
        """Its gradient mode in short; nothing where it took no gradient of what it met."""
        return parse_mode(self.gradient).brief if self.backwards or not self.images else ""

    @property
    def worst_so_far(self) -> tuple[float, Interval]:
        """Accuracy after it and those before it, with its interval; in old verdicts its own."""
        if self.after is None or self.after_ci is None:
            return self.accuracy, self.ci
        return self.after, self.after_ci


@dataclass(frozen=True)
class ProbeCost:
    """What the choice of an adaptive suite's attacks has cost; nothing of it is in theirs.

    Attributes:
        images: Unscored images on which gradient modes were tried.
        forwards: Images passed forwards.
        backwards: Images passed backwards.
        seconds: Time.
    """

    images: int
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Certified:
    """Accuracy that no attack can take, from certificates: the lower end of the bracket.

    Attributes:
        accuracy: Share of all images that are certified.
        ci: Its 95 % interval.
        decided: Share that is certified or broken: there, more attacks can change nothing.
        images: Images of which there is a certificate; the others count as not certified.
        eps: Radius of the certificates, at least that of the threat.
    """

    accuracy: float
    ci: Interval
    decided: float
    images: int
    eps: float


@dataclass(frozen=True)
class Verdict:
    """How robust a model is, and the checks of it; `to_dict` gives what `verdict.json` holds.

    `seconds` counts attacks, scoring and the probe of an adaptive suite.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    threat: dict[str, Any]
    suite: str
    draws: dict[str, int]
    stochastic: bool
    clean: Clean
    robust: Robust
    attacks: tuple[AttackResult, ...]
    diagnostics: tuple[Diagnostic, ...]
    environment: dict[str, Any]
    seed: int
    seconds: float
    probe: ProbeCost | None = None
    certified: Certified | None = None
    larger_budget: LargerBudget | None = None
    energy: EnergyUse | None = None

    def is_alone(self, attack: AttackResult) -> bool:
        """Whether an attack met all images, so that its accuracy is its own."""
        return attack.images == self.data["n"]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: lists instead of tuples."""
        tree: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        for name in ("probe", "certified", "larger_budget", "energy"):
            if tree[name] is None:
                del tree[name]
        return {"schema": SCHEMA, **tree}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Verdict:
        """Reads what `to_dict` gives.

        Raises:
            InputError: If it is not a verdict of this schema, or a value in it cannot be.
        """
        schema = tree.get("schema") if isinstance(tree, Mapping) else None
        if schema != SCHEMA or isinstance(schema, bool):
            raise InputError(f"not a verdict of schema {SCHEMA}: its schema is {schema!r:.20}")
        check_verdict(tree)
        values = known_fields(tree, [f.name for f in fields(cls)])
        values["clean"] = _read(Clean, values["clean"])
        tried = values["robust"].get("in_every_try", ())
        values["robust"] = replace(
            _read(Robust, values["robust"]), in_every_try=tuple(_read(Tries, row) for row in tried)
        )
        if values.get("probe") is not None:
            values["probe"] = _read(ProbeCost, values["probe"])
        if values.get("certified") is not None:
            values["certified"] = _read(Certified, values["certified"])
        if values.get("larger_budget") is not None:
            values["larger_budget"] = _read(LargerBudget, values["larger_budget"])
        if values.get("energy") is not None:
            values["energy"] = read_energy(values["energy"])
        values["attacks"] = tuple(_read(AttackResult, row) for row in values["attacks"])
        values["diagnostics"] = tuple(_read(Diagnostic, row) for row in values["diagnostics"])
        return cls(**values)

    def save(self, path: Path) -> None:
        """Writes the verdict, whole or not at all."""
        write_record(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Verdict:
        """Reads a `verdict.json`.

        Raises:
            InputError: If there is no such file, it is not a verdict of this schema, or is damaged.
        """
        tree = read_json(path := place(path), "the verdict")
        try:
            verdict = cls.from_dict(tree)
        except InputError as error:
            raise InputError(f"'{path}' is {error}") from None
        check_record(tree, path)
        return verdict


T = TypeVar("T", Clean, Robust, Tries, AttackResult, ProbeCost, Certified, LargerBudget, Diagnostic)


def _read(cls: type[T], row: Mapping[str, Any]) -> T:
    values = known_fields(row, [f.name for f in fields(cls)])
    for name in (f.name for f in fields(cls) if f.name.endswith("ci")):
        if values.get(name) is not None:
            low, high = values[name]
            values[name] = (low, high)
    return cls(**values)
