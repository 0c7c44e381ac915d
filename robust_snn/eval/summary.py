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
    """The measured part of a verdict."""

    clean: Clean
    robust: Robust
    attacks: tuple[AttackResult, ...]
    diagnostics: tuple[Diagnostic, ...]
    seconds: float


def summarise(job: Job, shards: Sequence[Shard]) -> Summary:
    """Adds up all shards of a job, in order."""
    labels = job.labels.cpu().numpy()
    clean = np.concatenate([shard.clean.predictions for shard in shards])
    worst, alone = _fold(shards, len(job.suite.attacks))
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
            *diagnostics.zero_gradients(_zero_gradients(job, shards)),
            diagnostics.claims(attacks),
            diagnostics.selection(robust.value, attacks),
            *diagnostics.warnings(_warnings(job, shards)),
        ),
        seconds,
    )


def _fold(shards: Sequence[Shard], attacks: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Report answers on the worst versions, and under each attack alone, over all images."""
    last, alone = [], [list[np.ndarray]() for _ in range(attacks)]
    for shard in shards:
        worst = Worst(shard.clean)
        for answers, piece in zip(alone, shard.attacks, strict=True):
            answers.append(worst.predictions.copy() if piece is None else worst.meet(piece))
        last.append(worst.predictions)
    return np.concatenate(last), [np.concatenate(answers) for answers in alone]


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


def _zero_gradients(job: Job, shards: Sequence[Shard]) -> dict[str, np.ndarray]:
    """Flags of the attacked images by gradient mode; an image counts once per mode."""
    flags: dict[str, dict[int, bool]] = {}
    for number, row in enumerate(job.suite.attacks):
        seen = flags.setdefault(str(view(job.victim, row, seed=0).gradient), {})
        for index, shard in enumerate(shards):
            if (piece := shard.attacks[number]) is not None:
                ids = job.ids(index)[piece.positions]
                seen |= dict(zip(ids.tolist(), piece.zero_gradient.tolist(), strict=True)) | seen
    return {mode: np.array(list(seen.values()), bool) for mode, seen in flags.items()}


def _warnings(job: Job, shards: Sequence[Shard]) -> dict[str, list[str]]:
    return {
        row.name: [text for shard in shards if (p := shard.attacks[number]) for text in p.warnings]
        for number, row in enumerate(job.suite.attacks)
    }
