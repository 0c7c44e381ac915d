"""From finished pieces to the numbers of a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.shard_result import ShardResult, WorstCase
from robust_snn.eval.protocol.implementations import implementation, view
from robust_snn.eval.scoring import intervals as statistics
from robust_snn.eval.scoring import verdict_checks as diagnostics
from robust_snn.eval.scoring.predictions import Predictions
from robust_snn.eval.scoring.verdict import AttackResult, Clean, Robust


@dataclass(frozen=True)
class Shard:
    """The pieces of one shard, without their images: the clean one, and one per attack of the
    suite.

    An attack has no piece where nothing was left standing for it.
    """

    clean: ShardResult
    attacks: tuple[ShardResult | None, ...]


@dataclass(frozen=True)
class Summary:
    """The measured part of a verdict.

    `modes` are the gradient modes that its attacks used, `select` the accuracy of every clean image
    on the select draws.
    """

    clean: Clean
    robust: Robust
    attacks: tuple[AttackResult, ...]
    diagnostics: tuple[Diagnostic, ...]
    seconds: float
    modes: tuple[str, ...]
    results: Predictions
    select: np.ndarray


def summarise(job: Job, shards: Sequence[Shard]) -> Summary:
    """Adds up all shards of a job, in order."""
    results, course = _fold(job, shards)
    labels = results.labels
    attacks = tuple(
        _attack(job, number, [s.attacks[number] for s in shards], results.attacks[number], labels)
        for number in range(len(job.suite.attacks))
    )
    seconds = sum(shard.clean.seconds for shard in shards) + sum(a.seconds for a in attacks)
    before, after = (answers == labels[:, None] for answers in (results.clean, results.worst))
    estimate, robust = statistics.accuracy(before), statistics.accuracy(after)
    clean_vote = statistics.vote(results.clean, labels)
    rows = zip(attacks, job.suite.attacks, strict=True)
    searched = [attack for attack, row in rows if implementation(row).judge is None]
    vote = statistics.vote(results.worst, labels)
    success = statistics.success_rate(before, after)
    return Summary(
        Clean(*estimate, *clean_vote),
        Robust(*robust, vote.value, success.value, vote.ci, success.ci),
        attacks,
        (
            *diagnostics.claims(searched),
            *diagnostics.selection(robust.value, searched),
            *diagnostics.black_box(_course(results.clean, course, attacks, labels), len(labels)),
            *diagnostics.warnings(_warnings(job, shards)),
        ),
        seconds,
        tuple(dict.fromkeys(a.gradient for a in attacks if a.backwards)),
        results,
        np.concatenate([shard.clean.select for shard in shards]),
    )


def _fold(job: Job, shards: Sequence[Shard]) -> tuple[Predictions, list[np.ndarray]]:
    """Report answers on every image, and those in the worst case after each attack in turn."""
    last, alone, course = [], [], []
    for shard in shards:
        worst, answers, so_far = WorstCase(shard.clean), [], []
        for row, piece in enumerate(shard.attacks):
            answers.append(worst.predictions.copy() if piece is None else worst.update(piece, row))
            so_far.append(worst.predictions.copy())
        last.append(worst)
        alone.append(np.stack(answers))
        course.append(np.stack(so_far))
    results = Predictions(
        labels=job.labels.cpu().numpy(),
        clean=np.concatenate([shard.clean.predictions for shard in shards]),
        worst=np.concatenate([worst.predictions for worst in last]),
        by=np.concatenate([worst.by for worst in last]),
        attacks=np.concatenate(alone, axis=1),
    )
    return results, list(np.concatenate(course, axis=1))


def _course(
    clean: np.ndarray, course: list[np.ndarray], attacks: Sequence[AttackResult], labels: np.ndarray
) -> list[tuple[float, bool]]:
    """The worst case after every attack, and whether it used gradients; first the clean images."""
    left = [float((predictions == labels[:, None]).mean()) for predictions in (clean, *course)]
    return list(zip(left, [True, *(attack.backwards > 0 for attack in attacks)], strict=True))


def _attack(
    job: Job,
    number: int,
    pieces: list[ShardResult | None],
    predictions: np.ndarray,
    labels: np.ndarray,
) -> AttackResult:
    row = job.suite.attacks[number]
    done = [piece for piece in pieces if piece is not None]
    estimate = statistics.accuracy(predictions == labels[:, None])
    return AttackResult(
        name=row.name,
        implementation=implementation(row).describe(row),
        gradient=str(view(job.victim, row, seed=0).gradient),
        eot=row.eot,
        accuracy=estimate.value,
        ci=estimate.ci,
        claimed=float(sum(piece.claimed_robust.sum() for piece in done) / len(labels)),
        forwards=sum(piece.forwards for piece in done),
        backwards=sum(piece.backwards for piece in done),
        seconds=float(sum(piece.seconds for piece in done)),
    )


def _warnings(job: Job, shards: Sequence[Shard]) -> dict[str, list[str]]:
    return {
        row.name: [text for shard in shards if (p := shard.attacks[number]) for text in p.warnings]
        for number, row in enumerate(job.suite.attacks)
    }
