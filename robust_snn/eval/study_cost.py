"""What a study will cost, from short trainings and timed passes of every network of its plan."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from robust_snn.data import ImageSet
from robust_snn.eval.evaluate import estimate
from robust_snn.eval.execution.preflight import CALIBRATION
from robust_snn.eval.protocol.study_plan import ACTIVATIONS, Defence, StudyPlan
from robust_snn.training import Recipe, Trained, train
from robust_snn.victim import Victim

TIMED_BATCHES, TIMED_IMAGES = 2, 8


class CellCost(NamedTuple):
    """What one cell of a defence will cost.

    Attributes:
        name: The defence.
        training: Seconds, about.
        attacks: Seconds at most: where no image is broken before the last attack.
    """

    name: str
    training: float
    attacks: float


def study_cost(plan: StudyPlan, data: ImageSet, test: ImageSet, device: str) -> list[CellCost]:
    """Trains every network on two batches, and times passes of it; nothing is kept.

    Args:
        plan: The plan.
        data: Images to train on.
        test: Images to test on.
        device: Where to run.
    """
    return [_cost(plan, row, data, test, device) for row in plan.defences]


def _cost(plan: StudyPlan, row: Defence, data: ImageSet, test: ImageSet, device: str) -> CellCost:
    few, kwargs, training, attacks = test.take(TIMED_IMAGES), plan.kwargs(row), 0.0, 0.0
    parts = [(plan.recipe(row), kwargs)]
    if (first := plan.activations(row)) is not None:
        parts.insert(0, (first, kwargs | ACTIVATIONS))
    for recipe, arguments in parts:
        some = data.take(min(len(data), TIMED_BATCHES * recipe.batch_size))
        done = _trained_shortly(row.model, recipe, arguments, some, few, device)
        training += done.history[-1].seconds / len(some) * len(data) * recipe.epochs
    victim = Victim(done.net.to(device).eval())
    others = test.images[-CALIBRATION:], test.labels[-CALIBRATION:]
    for suite in plan.suites_of(row):
        found = estimate(
            victim, few.images, few.labels, suite=suite, eps=plan.eps, calibration=others
        )
        per_attacked = sum(part.gradients for part in found.rows)
        attacks += plan.n * per_attacked * found.pass_seconds
    return CellCost(row.name, training, attacks)


def _trained_shortly(
    model: str, recipe: Recipe, kwargs: dict[str, Any], some: ImageSet, few: ImageSet, device: str
) -> Trained:
    """A training of one epoch on some images, after one that compiles."""
    short = recipe.replace(epochs=1, batch_size=min(recipe.batch_size, len(some)))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("compiles", "timed"):
            where = Path(folder) / name
            done = train(model, some, few, short, out=where, model_kwargs=kwargs, device=device)
    return done
