"""The table of attacks over random results: what it says of a row is what the row's images show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from robust_snn.eval import AttackSpec, Draws, Suite
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.run_record import other_rounding
from robust_snn.eval.execution.shard_result import FinishedShard, ShardResult, WorstCase
from robust_snn.eval.execution.summary import summarise
from robust_snn.eval.protocol.threat_model import Threat
from victims import tiny_victim

VICTIMS = {noisy: tiny_victim(noisy) for noisy in (False, True)}


def result(rng: np.random.Generator, positions: np.ndarray, draws: int) -> ShardResult:
    """What an attack might have done to images of class 1: answers are 1 or 0."""
    count = len(positions)
    chances = rng.choice([0.0, 0.5, 1.0], (count, 1))
    if draws == 1:
        chances = chances.round()
    select = (rng.random((count, draws)) < chances).mean(1)
    report = (rng.random((count, draws)) < chances).astype(np.int16)
    if draws == 1:  # a deterministic network gives the same answer again
        report = select.astype(np.int16)[:, None]
    return ShardResult(
        positions,
        np.zeros((count, 3, 8, 8), np.float32),
        select,
        rng.normal(size=count),
        report,
        rng.random(report.shape) < 0.5,
        report.mean(1) > 0.5,
        forwards=count,
    )


def some_job(rng: np.random.Generator, noisy: bool) -> tuple[Job, list[FinishedShard]]:
    """A job of a few attacks and shards, and random results that follow each other."""
    draws, rows, shards = (6 if noisy else 1), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    names = [f"row {number}" for number in range(rows)]
    suite = Suite(
        "random",
        tuple(AttackSpec(name, "robust_snn", "pgd") for name in names),
        draws=Draws(draws, draws),
    )
    count = 4 * shards
    job = Job(
        VICTIMS[noisy],
        torch.zeros(count, 3, 8, 8),
        torch.ones(count, dtype=torch.long),
        suite,
        Threat("Linf", 0.1),
        seed=0,
        batch_size=4,
    )
    done = []
    for _ in range(shards):
        clean = result(rng, np.arange(4), draws)
        worst, results = WorstCase(clean), list[ShardResult | None]()
        for row in range(rows):
            left = worst.unbroken(0.0)
            results.append(result(rng, left, draws) if len(left) else None)
            if (latest := results[-1]) is not None:
                worst.update(latest, row)
        done.append(FinishedShard(clean, tuple(results)))
    return job, done


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_rows_say_what_their_images_show(seed: int, noisy: bool) -> None:
    job, shards = some_job(np.random.default_rng(seed), noisy)
    found, count = summarise(job, shards), len(job.labels)
    before = found.clean.accuracy
    for number, row in enumerate(found.attacks):
        results = [s.attacks[number] for s in shards]
        met = [r for r in results if r is not None]
        assert row.images == sum(len(r.positions) for r in met)
        claimed = (found.predictions.attacks[number] == 1).mean(1) >= 0.5  # of those not met
        for shard, r in enumerate(results):
            if r is not None:
                claimed[4 * shard + r.positions] = r.claimed_robust
        assert row.claimed == pytest.approx(claimed.mean())
        if row.images == count:  # alone: the answers are all its own
            assert row.accuracy == pytest.approx(
                np.concatenate([r.predictions for r in met]).mean()
            )
        if not noisy:
            assert row.after is not None and row.after <= min(before, row.accuracy) + 1e-12
        before = row.worst_so_far[0]
    assert found.robust.accuracy == found.attacks[-1].after
    lowest = min(row.accuracy for row in found.attacks)
    (luck,) = [note for note in found.diagnostics if note.name == "selection"]
    assert luck.value == pytest.approx(found.robust.accuracy - lowest)
    assert luck.value <= 1e-12 if not noisy else luck.value <= 0 or "luck" in luck.why


@pytest.mark.parametrize("noisy", [False, True])
def test_a_dropped_row_claims_nothing_of_images_that_it_never_met(noisy: bool) -> None:
    """An attack that breaks nothing, and says so, of the first of two shards."""
    job, shards = some_job(np.random.default_rng(3), noisy)
    right = np.ones((4, job.suite.draws.report), np.int16)
    margin, robust = np.zeros(4), np.ones(4, bool)
    images = np.zeros((4, 3, 8, 8), np.float32)
    tied = np.zeros(right.shape, bool)
    held = ShardResult(np.arange(4), images, np.ones(4), margin, right, tied, robust, forwards=4)
    suite = replace(job.suite, attacks=job.suite.attacks[:1])
    job = replace(
        job, suite=suite, images=job.images.new_zeros(8, 3, 8, 8), labels=torch.ones(8).long()
    )
    found = summarise(job, [FinishedShard(held, (held,)), FinishedShard(held, (None,))])
    (row,) = found.attacks
    assert (row.claimed, row.accuracy, row.images) == (1.0, 1.0, 4)
    (note,) = [n for n in found.diagnostics if n.name.startswith("claimed")]
    assert (note.status, note.value) == ("pass", 0.0) and "4 images that it met" in note.why


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({}, "fail"),
        ({"channels_last": True}, "warn"),
        ({"bf16": True}, "warn"),
        ({"tf32": True}, "warn"),
        ({"sparse": "auto"}, "warn"),
    ],
)
def test_claims_are_held_against_a_network_that_attacks_round_alike(
    settings: dict[str, Any], status: str
) -> None:
    """Every setting that rounds otherwise, which the verdict also names."""
    victim, count = tiny_victim(False).replace(**settings), 20
    row = AttackSpec("a", "robust_snn", "pgd")
    suite, labels = Suite("s", (row,), draws=Draws(1, 1)), torch.ones(count, dtype=torch.long)
    job = Job(victim, torch.zeros(count, 3, 8, 8), labels, suite, Threat("Linf", 0.1), 0, count)
    clean = result(np.random.default_rng(0), np.arange(count), 1)
    right, wrong = (np.full((count, 1), answer, np.int16) for answer in (1, 0))
    untied = np.zeros((count, 1), bool)
    clean = replace(clean, select=np.ones(count), predictions=right, tied=untied)
    attacked = replace(clean, predictions=wrong, claimed_robust=np.ones(count, bool))
    notes = summarise(job, [FinishedShard(clean, (attacked,))]).diagnostics
    assert [n.status for n in notes if n.name == "claimed against measured"] == [status]
    assert bool(other_rounding(victim)) == bool(settings)
