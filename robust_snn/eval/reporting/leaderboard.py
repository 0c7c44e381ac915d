"""Leaderboards: networks under one threat model, ranked by what is best known of each; a verdict
that is no result has no rank."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robust_snn.eval.reporting.best_known import BestKnown, best_known, network
from robust_snn.eval.scoring.finished_run import load_verdict
from robust_snn.eval.scoring.gradient_checks import weakens_attacks
from robust_snn.eval.scoring.predictions import NAME, Predictions
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.eval.scoring.verdict_checks import is_first_look
from robust_snn.eval.submission.submission_folder import is_submission
from robust_snn.eval.submission.verification import is_verified
from robust_snn.utils.errors import InputError


@dataclass(frozen=True)
class LeaderboardEntry:
    """A line of a leaderboard.

    Attributes:
        rank: Place of the network by `best`, the same for all its runs; None where the number is no
            more than an upper bound: a diagnostic failed, or something is `missing`.
        model: Name of the model.
        run: Folder of the run.
        weights: Start of the weights' digest.
        clean: Clean accuracy.
        robust: Robust accuracy.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Number of images.
        suite: Suite of attacks.
        passes: Passes per image of all attacks.
        failed: Names of the diagnostics that failed.
        warned: Names of those that warn.
        missing: What was not done without which a number means little: `attacked`, `attacked beyond
            a first look`, `diagnosed`, and `verified` of a submission.
        counted: Whether predictions beside the verdict confirm it.
        certified: Accuracy that no attack can take, where certificates were given to a run.
        verified: Whether `robust-snn verify` accepted the submission; None where it is a run's own
            folder.
        best: What all accepted runs of the network know together; None where this one is not
            accepted: it has no predictions, or is not verified.
    """

    rank: int | None
    model: str
    run: str
    weights: str
    clean: float
    robust: float
    low: float
    high: float
    n: int
    suite: str
    passes: float
    failed: tuple[str, ...]
    warned: tuple[str, ...]
    missing: tuple[str, ...]
    counted: bool
    certified: float | None = None
    verified: bool | None = None
    best: BestKnown | None = None

    @property
    def best_accuracy(self) -> float:
        """Best known robust accuracy, or this run's own."""
        return self.robust if self.best is None else self.best.accuracy


@dataclass(frozen=True)
class Leaderboard:
    """Entries that may be compared: one norm, one radius, the same images."""

    threat: dict[str, Any]
    data: dict[str, Any]
    entries: tuple[LeaderboardEntry, ...]

    @property
    def known_noise(self) -> str:
        """What is to be said behind the radius, if the attacker knows the noise."""
        return ", known noise" if "noise" in self.threat else ""


def rank_runs(runs: Sequence[str | Path]) -> Leaderboard:
    """Reads verdicts and ranks the networks of those that were attacked and diagnosed in full.

    A network's place is that of the lowest accuracy which its runs know together, so that a weak
    suite wins nothing. Accuracies are counted again from the predictions, where those lie beside a
    verdict.

    Args:
        runs: Folders of runs, or `verdict.json` files.

    Raises:
        InputError: If there is none, one cannot be read, one comes twice, also as a copy or as the
            submission of a run, or they differ in threat model or images.
    """
    if not runs:
        raise InputError("a leaderboard needs at least one run")
    paths = [Path(run) / "verdict.json" if Path(run).is_dir() else Path(run) for run in runs]
    verdicts: dict[Path, Verdict] = {}
    counted: dict[Path, bool] = {}
    evidence: dict[str, Path] = {}
    for path in paths:
        if path.resolve() in [other.resolve() for other in verdicts]:
            raise InputError(f"'{path}' is given twice")
        verdict, counted[path] = load_verdict(path)
        verdicts[path] = verdict
        same = evidence.setdefault(_evidence(path, verdict), path)
        if same != path:
            raise InputError(
                f"'{path.parent}' and '{same.parent}' are one run: the same attacks of one network "
                "with one seed and the same answers; leave one out"
            )
    _check_same(verdicts)
    by_run = {str(path.parent): verdict for path, verdict in verdicts.items()}
    entries = [_entry(path, verdict, counted[path]) for path, verdict in verdicts.items()]
    accepted = [entry.run for entry in entries if _accepted(entry)]
    best = best_known(by_run, accepted)
    entries = [replace(entry, best=best.get(entry.run)) for entry in entries]
    networks = {run: network(verdict) for run, verdict in by_run.items()}
    places = _places(entries, networks)
    entries.sort(key=lambda entry: _order(entry, networks[entry.run], places))
    first = next(iter(verdicts.values()))
    return Leaderboard(first.threat, first.data, tuple(_ranked(entries, networks, places)))


def _check_same(verdicts: dict[Path, Verdict]) -> None:
    (first, reference), *others = verdicts.items()
    for path, verdict in others:
        for what in ("norm", "eps", "noise"):
            ours, theirs = reference.threat.get(what), verdict.threat.get(what)
            if ours != theirs:
                raise InputError(
                    f"'{first}' and '{path}' have different threat models ({what} {ours} and "
                    f"{theirs}) and cannot be ranked together; make one leaderboard for each"
                )
        if reference.data["sha256"] != verdict.data["sha256"]:
            raise InputError(
                f"'{first}' and '{path}' attack different images ({reference.data['n']} of "
                f"{reference.data['name']} and {verdict.data['n']} of {verdict.data['name']}) and "
                "cannot be ranked together"
            )


def _failed(verdict: Verdict) -> tuple[str, ...]:
    """Names of the failed diagnostics that concern an attack."""
    failed = (note for note in verdict.diagnostics if note.status == "fail")
    return tuple(note.name for note in failed if weakens_attacks(note))


def _warned(verdict: Verdict) -> tuple[str, ...]:
    """Names of the other diagnostics that did not pass."""
    failed = _failed(verdict)
    notes = (note for note in verdict.diagnostics if note.status != "pass")
    return tuple(note.name for note in notes if note.name not in failed)


def _evidence(path: Path, verdict: Verdict) -> str:
    """What a run found, as a text, without what differs when the same is done again."""
    tree = verdict.to_dict()
    tree["attacks"] = [{**row, "seconds": 0} for row in tree["attacks"]]
    told = json.dumps({**tree, "seconds": 0, "environment": {}}, sort_keys=True)
    if not (path.parent / NAME).exists():
        return told
    predictions = Predictions.load(path.parent)
    answers = b"".join(array.tobytes() for array in (predictions.worst, predictions.attacks))
    return told + hashlib.sha256(answers).hexdigest()


def _missing(verdict: Verdict, verified: bool | None) -> tuple[str, ...]:
    """What was not done of that without which a number means little."""
    attacked = any(row.images is None or row.images > 0 for row in verdict.attacks)
    broken = verdict.clean.accuracy == 0  # nothing was left to attack
    done = {
        "attacked": attacked or broken,
        "attacked beyond a first look": not attacked or not is_first_look(verdict.suite),
        "diagnosed": bool(verdict.diagnostics),
        "verified": verified is not False,
    }
    return tuple(word for word, was in done.items() if not was)


def _accepted(entry: LeaderboardEntry) -> bool:
    """Whether its images count in what is best known."""
    return entry.verified is not False and entry.counted and (Path(entry.run) / NAME).exists()


Networks = dict[str, tuple[Any, ...]]  # by run
Places = dict[tuple[Any, ...], float]  # by network


def _places(entries: Sequence[LeaderboardEntry], networks: Networks) -> Places:
    """The lowest accuracy that is known of every network, by which it is ranked.

    A run without predictions, whose images nobody can count, tells its accuracy all the same; of
    what is not verified nothing is believed.
    """
    places: Places = {}
    for entry in (entry for entry in entries if entry.verified is not False):
        of = networks[entry.run]
        places[of] = min(places.get(of, 1.0), entry.best_accuracy, entry.robust)
    return places


def _order(entry: LeaderboardEntry, of: tuple[Any, ...], places: Places) -> tuple[Any, ...]:
    """Those that nothing is missing of first, then those that failed nowhere, then by accuracy,
    with the runs of a network together and its strongest attack first."""
    flaws = len(entry.missing), bool(entry.failed)
    place = places.get(of, entry.robust)
    return (*flaws, -place, -entry.clean, of, entry.robust)


def _ranked(
    entries: Sequence[LeaderboardEntry], networks: Networks, places: Places
) -> Iterator[LeaderboardEntry]:
    """Entries in their order with the ranks of their networks; those that are equal share one."""
    ranks: dict[tuple[Any, ...], int] = {}
    before, rank = None, 0
    for entry in entries:
        if entry.failed or entry.missing:
            yield entry
            continue
        of = networks[entry.run]
        if of not in ranks:
            equal = places[of], entry.clean
            rank = rank if equal == before else len(ranks) + 1
            before, ranks[of] = equal, rank
        yield replace(entry, rank=ranks[of])


def _entry(path: Path, verdict: Verdict, counted: bool) -> LeaderboardEntry:
    verified = is_verified(path.parent) if is_submission(path.parent) else None
    passes = sum(row.forwards + row.backwards for row in verdict.attacks) / verdict.data["n"]
    return LeaderboardEntry(
        rank=None,
        model=str(verdict.model["name"]),
        run=str(path.parent),
        weights=str(verdict.model["weights_sha256"])[:12],
        clean=verdict.clean.accuracy,
        robust=verdict.robust.accuracy,
        low=verdict.robust.ci[0],
        high=verdict.robust.ci[1],
        n=int(verdict.data["n"]),
        suite=verdict.suite,
        passes=passes,
        failed=_failed(verdict),
        warned=_warned(verdict),
        missing=_missing(verdict, verified),
        counted=counted,
        # a submission holds no proof that anybody could check
        certified=verdict.certified.accuracy if verdict.certified and verified is None else None,
        verified=verified,
    )
