"""Two runs side by side: paired differences, McNemar's test, and what cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from robust_snn import InputError
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval import compare
from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.sample_size import needed_size
from runs import finished_run


def right(*rows: list[int]) -> np.ndarray:
    return np.array(rows, bool)


def test_by_hand(tmp_path: Path) -> None:
    """Ten images: two are lost and five gained, three stay."""
    first = right(*[[1]] * 2, *[[0]] * 5, *[[1]] * 3)
    second = right(*[[0]] * 2, *[[1]] * 5, *[[1]] * 3)
    found = compare(
        finished_run(tmp_path / "a", first), finished_run(tmp_path / "b", second) / "verdict.json"
    )
    clean, robust = found.differences
    assert (clean.what, clean.change, clean.p) == ("clean accuracy", 0.0, 1.0)
    assert (robust.what, robust.first, robust.second) == ("robust accuracy", 0.5, 0.8)
    assert robust.change == pytest.approx(0.3)
    assert robust.p == pytest.approx(0.453125)  # twice the chance of at most 2 heads in 7
    assert robust.ci[0] < 0 < 0.3 < robust.ci[1]
    assert clean.ci[0] < -0.05 and clean.ci[1] > 0.05  # no difference seen is no proof of none
    assert found.notes == ()


def test_noise_compares_means_and_votes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    answers = [rng.random((200, 20)) < chance for chance in (0.45, 0.55)]
    found = compare(*(finished_run(tmp_path / str(i), a) for i, a in enumerate(answers)))
    assert [row.what for row in found.differences] == [
        "clean accuracy",
        "clean vote",
        "robust accuracy",
        "robust vote",
    ]
    mean, vote = found.differences[2:]
    assert mean.p is None and vote.p is not None and vote.p < 0.05
    plain = ttest_rel(answers[1].mean(1), answers[0].mean(1)).confidence_interval(0.95)
    assert mean.ci[0] <= plain.low and plain.high <= mean.ci[1]
    assert mean.ci == pytest.approx((plain.low, plain.high), abs=0.015)  # for an image not seen


def test_notes(tmp_path: Path) -> None:
    failed = (Diagnostic("zero gradients", 1.0, "fail", "why"),)
    one = finished_run(tmp_path / "a", right([1], [0]))
    other = finished_run(tmp_path / "b", right([1], [0]), suite="other", diagnostics=failed)
    found = compare(one, other)
    assert found.notes == (
        "the suites differ: tiny and other",
        "diagnostics of the second run failed: zero gradients",
    )
    assert found.unlike and not compare(one, one).unlike


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"name": "x", "split": "all", "n": 2, "sha256": "d"}}, "data.sha256 is abc in"),
        ({"threat": {"norm": "L2", "eps": 0.1}}, "threat.norm is Linf in one and L2"),
        ({"threat": {"norm": "Linf", "eps": 0.2}}, "threat.eps is 0.1 in one and 0.2"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    one = finished_run(tmp_path / "a", right([1], [0]))
    with pytest.raises(InputError, match=message):
        compare(one, finished_run(tmp_path / "b", right([1], [0]), **change))


@pytest.mark.parametrize(
    ("damage", "message"),
    [(None, "has no results.npz"), (b"PK\x03\x04", "is damaged"), (b"", "is damaged")],
)
def test_answers_that_are_gone(tmp_path: Path, damage: bytes | None, message: str) -> None:
    folder = finished_run(tmp_path / "a", right([1], [0]))
    (folder / "results.npz").unlink()
    if damage is not None:
        (folder / "results.npz").write_bytes(damage)
    with pytest.raises(InputError, match=message):
        compare(folder, folder)


def test_images_for_a_precision() -> None:
    """Without a pilot: as many as an accuracy of one half needs."""
    images = needed_size(0.01).images
    assert 9600 < images < 9800
    low, high = intervals.fraction(np.arange(images) < images / 2, np.ones(images)).ci
    assert (high - low) / 2 == pytest.approx(0.01, rel=1e-2) and (high - low) / 2 <= 0.01
    for wrong in (0, -0.1, 0.5, float("nan")):
        with pytest.raises(InputError, match="between 0 and 0.5"):
            needed_size(wrong)


def test_a_pilot_saves_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chances = rng.beta(4, 12, 400)
    size = needed_size(
        0.02, finished_run(tmp_path / "noisy", rng.random((400, 20)) < chances[:, None])
    )
    assert size.draws is not None and 5 < size.draws < 60
    half = [
        np.diff(intervals.accuracy_estimate(rng.random((size.images, size.draws)) < c[:, None]).ci)
        / 2
        for c in (rng.beta(4, 12, size.images) for _ in range(10))
    ]
    assert np.quantile(half, 0.9) <= 0.02 and np.mean(half) > 0.015
    assert size.images < needed_size(0.02).images / 5
    certain = finished_run(tmp_path / "certain", np.ones((50, 1), bool))
    assert needed_size(0.02, certain).draws is None
    assert needed_size(0.02, certain).images > 80  # what nobody has seen may still happen


def test_a_pilot_of_one_image_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has one image"):
        needed_size(0.02, finished_run(tmp_path / "one", right([1])))
