"""What the finished cells of a study come to: numbers by defence, and differences to baselines.

Accuracies are means over images and seeds. A difference is paired: the same images, and the same
seeds, under both; its interval is over images of the mean over seeds, so that it says how sure the
difference between these networks is, and the seeds beside it how much networks differ. Whether
there is a difference at all is said of all rows together, since one of twenty that make none would
leave zero by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from robust_snn.eval.protocol.study_plan import QUANTITIES, Defence, StudyPlan
from robust_snn.eval.protocol.suite_files import load_suite
from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.finished_run import load_run
from robust_snn.eval.scoring.intervals import Estimate
from robust_snn.eval.scoring.predictions import Predictions
from robust_snn.eval.scoring.verdict import AttackResult, Verdict
from robust_snn.gradients import parse_mode
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.values import number

CLEAN, OWN, BEST = QUANTITIES
LEVEL = 0.05


@dataclass(frozen=True)
class Measured:
    """One quantity of a defence.

    Attributes:
        what: `clean`, an attack of its protocol, `own protocol` for the worst of these, a suite, or
            `best known`, the lowest of each image over all suites; its change over those that both
            went through, since a baseline meets the protocols of all that are compared with it.
        estimate: Mean over images and seeds, and its 95 % interval over images.
        each: Mean over images, by seed.
        change: The defence minus its baseline, and the 95 % interval; None without a baseline.
        p: The p-value of no change, corrected for the changes of all rows of the study under `own
            protocol` and `best known` (Holm); of no other quantity.
    """

    what: str
    estimate: Estimate
    each: tuple[float, ...]
    change: Estimate | None
    p: float | None = None

    @property
    def told(self) -> int:
        """1 for a gain that is told apart from none, -1 for a loss, else 0."""
        if self.change is None or self.p is None or self.p > LEVEL:
            return 0
        return 1 if self.change.value > 0 else -1


@dataclass(frozen=True)
class DefenceFindings:
    """What is known of one defence.

    Attributes:
        row: Its row of the plan.
        seeds: Those whose cells are finished.
        measured: Its quantities, in the order of `Measured.what`.
        broke: Share of the images broken under the plan's suites, by the attack that made the
            worst version and its gradient mode, the largest first.
        failed: Checks that failed, and in how many verdicts.
        warned: Checks that warn, likewise.
        joules: Of a clean inference, the mean over seeds.
    """

    row: Defence
    seeds: tuple[int, ...]
    measured: tuple[Measured, ...]
    broke: tuple[tuple[str, float], ...]
    failed: tuple[tuple[str, int], ...]
    warned: tuple[tuple[str, int], ...]
    joules: float | None

    def of(self, what: str) -> Measured | None:
        """A quantity by its name; None where it was not measured."""
        return next((each for each in self.measured if each.what == what), None)

    @property
    def gain_left(self) -> float | None:
        """Share of the gain under its own protocol that the best known attack leaves.

        None without such a gain: where it is not told apart, there is nothing to be left of.
        """
        own, best = self.of(OWN), self.of(BEST)
        if own is None or best is None or own.change is None or best.change is None:
            return None
        return best.change.value / own.change.value if own.told > 0 else None


@dataclass(frozen=True)
class StudyFindings:
    """What a study found.

    Attributes:
        plan: What was asked.
        defences: In the order of the plan, those without a finished cell too.
        missing: Cells without an end: name of the defence and seed.
    """

    plan: StudyPlan
    defences: tuple[DefenceFindings, ...]
    missing: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Cell:
    """The finished runs of one cell, by name of their suite."""

    verdicts: dict[str, Verdict]
    predictions: dict[str, Predictions]
    joules: float | None


def cell_folder(out: Path, row: Defence, seed: int) -> Path:
    """Where a cell lies."""
    return out / row.folder / f"seed-{seed}"


def findings(plan: StudyPlan, out: Path) -> StudyFindings:
    """Reads what is finished.

    Args:
        plan: The plan.
        out: Folder of the study.

    Raises:
        InputError: If a run is damaged, or its verdict is not that of its predictions.
    """
    read: dict[str, dict[int, _Cell]] = {
        row.name: {
            seed: cell
            for seed in plan.seeds
            if (cell := _read(plan, row, cell_folder(out, row, seed))) is not None
        }
        for row in plan.defences
    }
    missing = [(name, seed) for name, at in read.items() for seed in plan.seeds if seed not in at]
    found = corrected([_findings(plan, row, read) for row in plan.defences])
    return StudyFindings(plan, tuple(found), tuple(missing))


def corrected(found: Sequence[DefenceFindings]) -> list[DefenceFindings]:
    """Findings of one page, whose p-values hold together."""
    every = [each.p for defence in found for each in defence.measured if each.p is not None]
    p = iter(intervals.holm(every))

    def together(each: Measured) -> Measured:
        return each if each.p is None else replace(each, p=next(p))

    return [replace(each, measured=tuple(map(together, each.measured))) for each in found]


def _read(plan: StudyPlan, row: Defence, folder: Path) -> _Cell | None:
    """A cell; None unless it is finished."""
    names = [load_suite(suite).name for suite in plan.suites_of(row)]
    if not all((folder / name / "verdict.json").exists() for name in names):
        return None
    runs = {name: load_run(folder / name) for name in names}
    return _Cell(
        {name: run[0] for name, run in runs.items()},
        {name: run[1] for name, run in runs.items()},
        _joules(folder / "energy.json"),
    )


def _joules(file: Path) -> float | None:
    if not file.exists():
        return None
    energy = read_json(file, "the energy")
    if not isinstance(energy, dict) or "joules" not in energy:
        raise InputError(f"'{file}' holds no energy; delete it, and it is measured again")
    return number(energy["joules"], f"joules in '{file}'")


def _findings(plan: StudyPlan, row: Defence, read: dict[str, dict[int, _Cell]]) -> DefenceFindings:
    own, base = read[row.name], read.get(row.baseline or "", {})
    cells = list(own.values())
    protocol, suites = load_suite(row.protocol).name, [load_suite(s).name for s in plan.suites]
    measured = []
    if cells:
        shares = [_shares(cell, protocol, suites) for cell in cells]
        both = [seed for seed in own if seed in base]
        pairs = [(base[seed], own[seed]) for seed in both]
        met = [set(first.predictions) & set(second.predictions) for first, second in pairs]
        before, after = (
            [_shares(pair[n], protocol, suites, of) for pair, of in zip(pairs, met, strict=True)]
            for n in (0, 1)
        )
        for what in shares[0]:
            change, p = None, None
            if both:
                pair = _mean(before, what), _mean(after, what)
                change = intervals.difference(*pair)
                p = intervals.no_difference(*pair) if what in (OWN, BEST) else None
            measured.append(_measured(what, [each[what] for each in shares], change, p))
    return DefenceFindings(
        row=row,
        seeds=tuple(own),
        measured=tuple(measured),
        broke=_broke(cells, suites),
        failed=_checks(cells, "fail"),
        warned=_checks(cells, "warn"),
        joules=_mean_joules(cells),
    )


def _shares(
    cell: _Cell, protocol: str, suites: Sequence[str], met: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """Share of the draws on which each image is right, `[N]`, by quantity.

    Args:
        cell: The cell.
        protocol: Name of the suite of its row.
        suites: Those of the plan.
        met: Over which of its runs `best known` is; all if left out.
    """
    own, labels = cell.predictions[protocol], cell.predictions[protocol].labels[:, None]
    found = {CLEAN: _right(own.clean, labels)}
    for row, answers in zip(cell.verdicts[protocol].attacks, own.attacks, strict=True):
        found[row.name] = _right(answers, labels)
    found[OWN] = _right(own.worst, labels)
    found |= {suite: _right(cell.predictions[suite].worst, labels) for suite in suites}
    runs = cell.predictions.items()
    every = [run.worst == labels for name, run in runs if met is None or name in met]
    return {**found, BEST: intervals.lowest(every)}


def _right(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    right: np.ndarray = (answers == labels).mean(1)
    return right


def _mean(shares: Sequence[dict[str, np.ndarray]], what: str) -> np.ndarray:
    mean: np.ndarray = np.mean([each[what] for each in shares], axis=0)
    return mean


def _measured(
    what: str, shares: Sequence[np.ndarray], change: Estimate | None, p: float | None
) -> Measured:
    mean = np.mean(shares, axis=0)
    estimate = intervals.fraction(mean, np.ones(len(mean)))
    return Measured(what, estimate, tuple(float(each.mean()) for each in shares), change, p)


def _broke(cells: Sequence[_Cell], suites: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Which attacks made the worst version of the images that were broken."""
    count: Counter[str] = Counter()
    for cell in cells:
        for suite in suites:
            run, rows = cell.predictions[suite], cell.verdicts[suite].attacks
            labels = run.labels[:, None]
            broken = (_right(run.clean, labels) > 0.5) & (_right(run.worst, labels) < 0.5)
            count.update(_with_mode(rows[by]) for by in run.by[broken & (run.by >= 0)])
    total = sum(count.values())
    return tuple((name, each / total) for name, each in count.most_common())


def _with_mode(row: AttackResult) -> str:
    """An attack, and the gradient mode that it followed."""
    if not row.backwards or row.gradient == "own":
        return row.name
    return f"{row.name} by {parse_mode(row.gradient).brief}"


def _checks(cells: Sequence[_Cell], status: str) -> tuple[tuple[str, int], ...]:
    """Names of the checks with a status, and in how many verdicts they have it."""
    count: Counter[str] = Counter()
    for cell in cells:
        for verdict in cell.verdicts.values():
            count.update(note.name for note in verdict.diagnostics if note.status == status)
    return tuple(count.most_common())


def _mean_joules(cells: Sequence[_Cell]) -> float | None:
    known = [cell.joules for cell in cells if cell.joules is not None]
    return float(np.mean(known)) if known else None
