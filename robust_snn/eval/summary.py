"""From finished pieces to the numbers of a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robust_snn.eval import diagnostics, statistics
from robust_snn.eval.attacks import implementation, view
from robust_snn.eval.job import Job
from robust_snn.eval.pieces import Piece, Worst
from robust_snn.eval.verdict import AttackResult, Clean, Diagnostic, Robust


@dataclass(frozen=True)
class Shard:
    """The pieces of one shard, without their images: the clean one, and one per attack of the
    suite.

    An attack has no piece where nothing was left standing for it.
    """

    clean: Piece
    attacks: tuple[Piece | None, ...]


@dataclass(frozen=True)
class Summary:
    """The measured part of a verdict; `modes` are the gradient modes that its attacks used."""

    clean: Clean
    robust: Robust
    attacks: tuple[AttackResult, ...]
    diagnostics: tuple[Diagnostic, ...]
    seconds: float
    modes: tuple[str, ...]


def summarise(job: Job, shards: Sequence[Shard]) -> Summary:
    """Adds up all shards of a job, in order."""
    labels = job.labels.cpu().numpy()
    clean = np.concatenate([shard.clean.predictions for shard in shards])
    alone, course = _fold(shards, len(job.suite.attacks))
    worst = course[-1]
    attacks = tuple(
        _attack(job, number, [shard.attacks[number] for shard in shards], alone[number], labels)
        for number in range(len(job.suite.attacks))
    )
    seconds = sum(shard.clean.seconds for shard in shards) + sum(a.seconds for a in attacks)
    before, after = (predictions == labels[:, None] for predictions in (clean, worst))
    estimate, robust = statistics.accuracy(before), statistics.accuracy(after)
    return Summary(
        Clean(*estimate, statistics.vote(clean, labels).value),
        Robust(
            *robust,
            statistics.vote(worst, labels).value,
            statistics.success_rate(before, after).value,
        ),
        attacks,
        (
            diagnostics.claims(attacks),
            diagnostics.selection(robust.value, attacks),
            *diagnostics.black_box(_course(clean, course, attacks, labels), len(labels)),
            *diagnostics.warnings(_warnings(job, shards)),
        ),
        seconds,
        tuple(dict.fromkeys(a.gradient for a in attacks if a.backwards)),
    )


def _fold(shards: Sequence[Shard], attacks: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Report answers over all images: under each attack alone, and in the worst case after it."""
    alone, course = ([list[np.ndarray]() for _ in range(attacks)] for _ in range(2))
    for shard in shards:
        worst = Worst(shard.clean)
        for piece, answers, so_far in zip(shard.attacks, alone, course, strict=True):
            answers.append(worst.predictions.copy() if piece is None else worst.meet(piece))
            so_far.append(worst.predictions.copy())
    return [np.concatenate(answers) for answers in alone], [np.concatenate(a) for a in course]


def _course(
    clean: np.ndarray, course: list[np.ndarray], attacks: Sequence[AttackResult], labels: np.ndarray
) -> list[tuple[float, bool]]:
    """The worst case after every attack, and whether it used gradients; first the clean images."""
    left = [float((predictions == labels[:, None]).mean()) for predictions in (clean, *course)]
    return list(zip(left, [True, *(attack.backwards > 0 for attack in attacks)], strict=True))


def _attack(
    job: Job, number: int, pieces: list[Piece | None], predictions: np.ndarray, labels: np.ndarray
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
        claimed=float(sum(piece.survived.sum() for piece in done) / len(labels)),
        forwards=sum(piece.forwards for piece in done),
        backwards=sum(piece.backwards for piece in done),
        seconds=float(sum(piece.seconds for piece in done)),
    )


def _warnings(job: Job, shards: Sequence[Shard]) -> dict[str, list[str]]:
    return {
        row.name: [text for shard in shards if (p := shard.attacks[number]) for text in p.warnings]
        for number, row in enumerate(job.suite.attacks)
    }
