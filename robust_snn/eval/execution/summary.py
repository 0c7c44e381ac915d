"""From the results of all shards to the numbers of a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from robust_snn.diagnostics import Diagnostic
from robust_snn.diagnostics.tied_answers import Answers, tied_answers
from robust_snn.eval.execution.dropped_rows import dropped_by_name
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.run_record import other_rounding
from robust_snn.eval.execution.shard_result import FinishedShard, ShardResult, WorstCase
from robust_snn.eval.protocol.given_images import is_given
from robust_snn.eval.protocol.implementations import attacked_victim, implementation
from robust_snn.eval.scoring import intervals, verdict_checks
from robust_snn.eval.scoring.predictions import Predictions
from robust_snn.eval.scoring.verdict import AttackResult, Clean, Robust, Tries


@dataclass(frozen=True)
class Summary:
    """The measured part of a verdict.

    Attributes:
        clean: Accuracy without an attack.
        robust: Accuracy in the worst case over attacks.
        attacks: Every attack, in order.
        diagnostics: Checks of these numbers against each other.
        seconds: Time of all shards, scoring included.
        modes: Gradient modes that the attacks used.
        predictions: Predictions on the report draws, image by image.
        clean_select: Accuracy of every clean image on the select draws, `[N]`.
        worst_select: The same of its worst version.
    """

    clean: Clean
    robust: Robust
    attacks: tuple[AttackResult, ...]
    diagnostics: tuple[Diagnostic, ...]
    seconds: float
    modes: tuple[str, ...]
    predictions: Predictions
    clean_select: np.ndarray
    worst_select: np.ndarray


def summarise(job: Job, shards: Sequence[FinishedShard]) -> Summary:
    """Adds up all shards of a job, in order."""
    joined = _joined(job, shards)
    predictions, so_far = joined.predictions, joined.so_far
    labels = predictions.labels
    claims = [_claim(job, row, shards) for row in range(len(job.suite.attacks))]
    attacks = tuple(
        _attack(job, row, [s.attacks[row] for s in shards], predictions, so_far[row + 1], claim)
        for row, claim in enumerate(claims)
    )
    before, after = predictions.clean == labels[:, None], predictions.worst == labels[:, None]
    robust, vote = intervals.accuracy_estimate(after), intervals.vote(predictions.worst, labels)
    success = intervals.success_rate(before, after)
    return Summary(
        clean=Clean(
            *intervals.accuracy_estimate(before), *intervals.vote(predictions.clean, labels)
        ),
        robust=Robust(
            *robust,
            vote=vote.value,
            asr=success.value,
            vote_ci=vote.ci,
            asr_ci=success.ci,
            in_every_try=_in_every_try(job, after),
            **_under_known_noise(job, predictions),
        ),
        attacks=attacks,
        diagnostics=(
            *tied_answers(Answers(before, joined.clean_tied), Answers(after, joined.worst_tied)),
            *_checks(job, shards, attacks, claims, predictions, [each.value for each in so_far]),
        ),
        seconds=sum(shard.clean.seconds for shard in shards) + sum(a.seconds for a in attacks),
        modes=tuple(dict.fromkeys(a.gradient for a in attacks if a.backwards)),
        predictions=predictions,
        clean_select=np.concatenate([shard.clean.select for shard in shards]),
        worst_select=np.concatenate(joined.worst_select),
    )


def _under_known_noise(job: Job, predictions: Predictions) -> dict[str, Any]:
    """What an attacker leaves who knows each draw, where there are draws to know."""
    if not job.victim.stochastic:
        return {}
    known = intervals.under_known_noise(predictions)
    return {"known_noise": known.value, "known_noise_ci": known.ci}


def _in_every_try(job: Job, right: np.ndarray) -> tuple[Tries, ...]:
    """What holds however often an attacker asks, as far as the report draws reach."""
    if not job.victim.stochastic:
        return ()
    counts = (count for count in intervals.TRIES if count <= right.shape[1])
    return tuple(Tries(count, *intervals.right_in_every_try(right, count)) for count in counts)


class _Joined(NamedTuple):
    """Predictions on all images.

    `so_far` holds the accuracy without an attack, then in the worst case after each attack in turn;
    `worst_select` that of every image's worst version on the select draws, by shard. `clean_tied`
    and `worst_tied` are the answers that a tie decides, bool `[N, report]`.
    """

    predictions: Predictions
    so_far: list[intervals.Estimate]
    worst_select: list[np.ndarray]
    clean_tied: np.ndarray
    worst_tied: np.ndarray


def _joined(job: Job, shards: Sequence[FinishedShard]) -> _Joined:
    last, alone, worst_so_far = [], [], []
    for shard in shards:
        worst, under_attack, course = WorstCase(shard.clean), [], []
        for row, result in enumerate(shard.attacks):
            kept = worst.predictions.copy() if result is None else worst.update(result, row)
            under_attack.append(kept)
            course.append(worst.predictions.copy())
        last.append(worst)
        alone.append(np.stack(under_attack))
        worst_so_far.append(np.stack(course))
    predictions = Predictions(
        labels=job.labels.cpu().numpy(),
        clean=np.concatenate([shard.clean.predictions for shard in shards]),
        worst=np.concatenate([worst.predictions for worst in last]),
        by=np.concatenate([worst.by for worst in last]),
        attacks=np.concatenate(alone, axis=1),
    )
    labels = predictions.labels[:, None]
    after = (predictions.clean, *np.concatenate(worst_so_far, axis=1))
    so_far = [intervals.accuracy_estimate(given == labels) for given in after]
    return _Joined(
        predictions,
        so_far,
        [worst.select for worst in last],
        np.concatenate([shard.clean.tied for shard in shards]),
        np.concatenate([worst.tied for worst in last]),
    )


class _Claim(NamedTuple):
    """What an attack claims: the images that it met, and which of them it says are robust."""

    met: np.ndarray
    robust: np.ndarray


def _claim(job: Job, row: int, shards: Sequence[FinishedShard]) -> _Claim:
    found = [(n, result) for n, s in enumerate(shards) if (result := s.attacks[row]) is not None]
    met = [job.ids(shard)[result.positions] for shard, result in found]
    robust = [result.claimed_robust for _, result in found]
    none = np.array([], int)
    return _Claim(np.concatenate([none, *met]), np.concatenate([none.astype(bool), *robust]))


def _attack(
    job: Job,
    row: int,
    results: Sequence[ShardResult | None],
    predictions: Predictions,
    after: intervals.Estimate,
    claim: _Claim,
) -> AttackResult:
    """One attack over all shards; `after` is the worst case over it and those before it."""
    spec, labels = job.suite.attacks[row], predictions.labels
    done = [result for result in results if result is not None]
    right = predictions.attacks[row] == labels[:, None]
    estimate = intervals.accuracy_estimate(right)
    claimed = right.mean(1) >= 0.5  # of an image that it did not meet it says nothing
    claimed[claim.met] = claim.robust
    return AttackResult(
        name=spec.name,
        implementation=implementation(spec).describe(spec),
        gradient=str(attacked_victim(job.attacked, spec, seed=0).gradient_in_force),
        eot=spec.eot,
        accuracy=estimate.value,
        ci=estimate.ci,
        claimed=float(claimed.mean()),
        forwards=sum(result.forwards for result in done),
        backwards=sum(result.backwards for result in done),
        seconds=float(sum(result.seconds for result in done)),
        images=sum(len(result.positions) for result in done),
        after=after.value,
        after_ci=after.ci,
    )


def _checks(
    job: Job,
    shards: Sequence[FinishedShard],
    attacks: Sequence[AttackResult],
    claims: Sequence[_Claim],
    predictions: Predictions,
    course: list[float],
) -> tuple[Diagnostic, ...]:
    """The measured numbers against each other, and the warnings of the attacks' libraries."""
    right = predictions.attacks == predictions.labels[:, None]
    rows = [n for n, row in enumerate(job.suite.attacks) if implementation(row).judge is None]
    worst = predictions.worst == predictions.labels[:, None]
    claimed = {n: (claims[n].robust, right[n][claims[n].met]) for n in rows}
    # our own attacks choose their points by the draws of their claims
    protocol, specs = job.suite.budget is None, job.suite.attacks
    noisy = job.victim.stochastic
    fresh = [n for n in rows if not noisy or (protocol and specs[n].noise == "fresh")]
    others = [n for n in rows if n not in fresh]
    made_elsewhere = [is_given(row) for row in job.suite.attacks]  # perhaps by gradients
    used = [attack.backwards > 0 for attack in attacks]
    continued = any(spec.needs_worst for spec in specs)
    used_gradients = [True, *np.logical_or(used, made_elsewhere).tolist()]
    warnings = {
        row.name: [text for s in shards if (result := s.attacks[n]) for text in result.warnings]
        for n, row in enumerate(job.suite.attacks)
    }
    met = sum(len(result.positions) for s in shards for result in s.attacks if result is not None)
    return (
        *verdict_checks.attacked(met),
        *verdict_checks.dropped(dropped_by_name(job, shards)),
        *verdict_checks.claims({attacks[n].name: claimed[n] for n in fresh}, _exact(job)),
        *verdict_checks.claims_under_other_noise({attacks[n].name: claimed[n] for n in others}),
        *verdict_checks.selection(worst, {attacks[n].name: right[n] for n in rows}),
        *verdict_checks.black_box(
            list(zip(course, used_gradients, strict=True)),
            len(job.labels),
            continued,
            [attacks[n].accuracy for n in rows if used[n] and job.suite.independent],
        ),
        *verdict_checks.devices(_devices(shards)),
        *verdict_checks.warnings(warnings),
    )


def _exact(job: Job) -> bool:
    """Whether attacks meet the numbers of scoring: without noise, and rounded alike."""
    return not (job.attacked.stochastic or other_rounding(job.attacked))


def _devices(shards: Sequence[FinishedShard]) -> Counter[str]:
    """How many results were computed on which kind of device, as far as that is known."""
    results = (result for shard in shards for result in (shard.clean, *shard.attacks))
    return Counter(result.device for result in results if result is not None and result.device)
