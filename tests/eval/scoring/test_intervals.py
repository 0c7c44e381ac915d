"""Intervals: coverage by simulation, sense at the edges, and what is counted."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from robust_snn.eval.scoring import intervals, mean_bounds
from robust_snn.eval.scoring.intervals import fraction


def covers(
    values: np.ndarray, weights: np.ndarray, truth: float, low: float = 0.0, high: float = 1.0
) -> bool:
    """Whether the interval holds `truth`: a fiftieth of the time of its limits."""
    return mean_bounds.p_value(values, weights, truth, low, high) >= 2 * mean_bounds.TAIL


Population = Callable[[np.random.Generator, int], np.ndarray]

# How likely the images of a population are classified correctly.
POPULATIONS: dict[str, Population] = {
    "certain": lambda rng, n: (rng.random(n) < 0.3).astype(float),
    "alike": lambda rng, n: np.full(n, 0.4),
    "spread": lambda rng, n: rng.beta(2, 2, n),
    "split": lambda rng, n: rng.beta(0.3, 0.6, n),
    "mostly broken": lambda rng, n: np.where(rng.random(n) < 0.7, 0, rng.random(n)),
}


@pytest.mark.parametrize("draws", [1, 20])
@pytest.mark.parametrize("population", POPULATIONS)
def test_coverage(population: str, draws: int) -> None:
    rng = np.random.default_rng(0)
    chance, images, repeats = POPULATIONS[population], 100, 300
    truth = chance(rng, 1_000_000).mean()
    inside = 0
    for _ in range(repeats):
        hits = rng.binomial(draws, chance(rng, images))
        inside += covers(hits / draws, np.ones(images), truth)
    assert inside / repeats >= 0.93


def test_coverage_of_the_success_rate() -> None:
    rng = np.random.default_rng(1)
    images, draws, repeats, inside = 100, 20, 300, 0

    def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
        before = rng.random((n, draws)) < rng.beta(4, 1, n)[:, None]
        after = before & (rng.random((n, draws)) < rng.beta(1, 1, n)[:, None])
        return before, after

    before, after = sample(200_000)
    truth = 1 - after.sum() / before.sum()
    for _ in range(repeats):
        before, after = sample(images)
        trials = before.sum(1)
        rates = (before & ~after).sum(1) / np.maximum(trials, 1)
        inside += covers(rates, trials / trials.max(), truth)
    assert inside / repeats >= 0.93


@pytest.mark.parametrize("draws", [1, 20])
@pytest.mark.parametrize("hit", [0, 1])
def test_edges_have_width(hit: int, draws: int) -> None:
    value, (low, high) = fraction(np.full(50, hit * draws), np.full(50, draws))
    assert value == hit and low <= value <= high
    assert 0.02 < high - low < 0.1


def test_draws_of_one_image_are_no_new_images() -> None:
    one, many = np.ones((40, 1), bool), np.ones((40, 20), bool)
    one[:10], many[:10] = False, False
    assert intervals.accuracy_estimate(many).ci == pytest.approx(
        intervals.accuracy_estimate(one).ci
    )


def test_one_wavering_image_buys_no_certainty() -> None:
    correct = np.ones((50, 20), bool)
    sure = intervals.accuracy_estimate(correct).ci
    correct[0, 0] = False
    low, high = intervals.accuracy_estimate(correct).ci
    assert low < sure[0] + 0.01 and high - low > 0.02


def test_a_tie_is_no_win() -> None:
    predictions = np.array([[1, 1, 2, 0], [1, 1, 2, 2], [2, 2, 2, 1], [0, 0, 0, 0]])
    assert intervals.vote(predictions, np.array([1, 1, 1, 3])).value == 0.25


def test_success_rate_counts_flips_of_correct_draws() -> None:
    before = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool)
    after = np.array([[1, 0, 1, 1], [0, 0, 0, 1]], bool)
    assert intervals.success_rate(before, after).value == pytest.approx(4 / 6)
    assert intervals.success_rate(before, before).value == 0


def test_nothing_to_count_says_nothing() -> None:
    nothing = np.zeros((3, 2), bool)
    assert intervals.success_rate(nothing, nothing) == (0.0, (0.0, 1.0))


@pytest.mark.parametrize("hits, trials", [(0, 1), (1, 1), (0, 5), (2, 5), (3, 50), (60, 200)])
def test_zeros_and_ones_lie_between_exact_and_mid_p_limits(hits: int, trials: int) -> None:
    found = fraction(np.arange(trials) < hits, np.ones(trials)).ci
    exact = binomtest(hits, trials).proportion_ci(method="exact")
    assert exact.low - 1e-6 <= found[0] and found[1] <= exact.high + 1e-6

    def below(c: float, favour_low: float) -> float:
        low = beta.cdf(c, hits, trials - hits + 1) if hits else 1.0
        high = beta.cdf(c, hits + 1, trials - hits) if hits < trials else 0.0
        return float(favour_low * low + (1 - favour_low) * high)

    if hits:
        assert below(found[0], 0.7) == pytest.approx(0.025, abs=1e-5)
    if hits < trials:
        assert below(found[1], 0.3) == pytest.approx(0.975, abs=1e-5)


def test_a_sample_of_alike_images_does_not_rule_out_a_lost_one() -> None:
    """Most images waver a little and a fiftieth are lost: by 20 images few samples show one."""
    rng, inside = np.random.default_rng(4), 0
    for _ in range(400):
        chance = np.where(rng.random(20) < 0.02, 0, rng.beta(49, 1, 20))
        inside += covers(rng.binomial(50, chance) / 50, np.ones(20), 0.98 * 0.98)
    assert inside / 400 >= 0.93


def test_whether_the_limits_hold_a_value_is_known_without_them() -> None:
    rng = np.random.default_rng(5)
    for n in (1, 7, 60):
        trials = rng.integers(1, 9, n)
        values, weights = rng.binomial(trials, 0.4) / trials, trials / 8
        low, high = mean_bounds.mean_limits(values, weights)
        for truth in (low - 1e-4, low + 1e-4, high - 1e-4, high + 1e-4):
            assert covers(values, weights, truth) == (low <= truth <= high)


def test_quantiles_are_those_of_random_weights() -> None:
    rng = np.random.default_rng(6)
    x = rng.beta(2, 2, 7)
    weights = rng.dirichlet(np.ones(8), 200_000)
    low, high = mean_bounds.mean_limits(x, np.ones(7))
    ends = (0.7, 0.3), (0.3, 0.7)
    for limit, shares, tail in zip((low, high), ends, (0.025, 0.975), strict=True):
        sums = [weights[:, :7] @ x + weights[:, 7] * end for end in (0, 1)]
        found = sum(share * (s <= limit).mean() for share, s in zip(shares, sums, strict=True))
        assert found == pytest.approx(tail, abs=2e-3)


def test_coverage_of_the_vote() -> None:
    """The vote over 5 draws is won with a chance of its own on every image."""
    rng = np.random.default_rng(2)
    images, repeats, inside = 100, 300, 0

    def sample(n: int) -> np.ndarray:
        right = rng.random((n, 5)) < rng.beta(0.8, 0.8, n)[:, None]
        return np.where(right, 1, 2 + rng.integers(2, size=(n, 5)))

    truth = intervals.elected(sample(400_000), np.ones(400_000, int)).mean()
    for _ in range(repeats):
        won = intervals.elected(sample(images), np.ones(images, int))
        inside += covers(won.astype(float), np.ones(images), truth)
    assert inside / repeats >= 0.93


@pytest.mark.parametrize("tries", [1, 3, 6])
def test_every_try_is_the_share_of_sets_without_a_wrong_draw(tries: int) -> None:
    correct = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [1, 0, 1, 1, 1, 0]], bool)
    sets = [correct[:, list(draws)].all(1) for draws in combinations(range(6), tries)]
    found = intervals.right_in_every_try(correct, tries)
    assert found.value == pytest.approx(np.mean(sets))
    if tries == 1:
        assert found.ci == pytest.approx(intervals.accuracy_estimate(correct).ci)


@pytest.mark.parametrize("tries", [5, 20])
@pytest.mark.parametrize("images", [20, 100])
def test_coverage_of_every_try(images: int, tries: int) -> None:
    """Half of the images waver, a tenth are lost; tries without bias though draws are few."""
    rng = np.random.default_rng(7)
    repeats, inside, values = 300, 0, []

    def chances(n: int) -> np.ndarray:
        return np.where(rng.random(n) < 0.1, 0, rng.beta(4, 0.3, n))

    truth = (chances(1_000_000) ** tries).mean()
    for _ in range(repeats):
        right = rng.random((images, 20)) < chances(images)[:, None]
        value, (low, high) = intervals.right_in_every_try(right, tries)
        values.append(value)
        inside += low <= truth <= high
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / repeats**0.5)
    assert inside / repeats >= 0.93


@pytest.mark.parametrize("draws", [1, 20])
@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_coverage_of_a_difference(draws: int, spread: float) -> None:
    """Two nets on the same images, whose chances are alike but for noise."""
    rng = np.random.default_rng(3)
    images, repeats, inside = 100, 300, 0

    def chances(n: int) -> tuple[np.ndarray, np.ndarray]:
        first = rng.beta(0.5, 0.5, n)
        return first, np.clip(first + 0.05 + spread * rng.normal(size=n), 0, 1)

    first, second = chances(1_000_000)
    truth = (second - first).mean()
    for _ in range(repeats):
        a, b = (rng.binomial(draws, chance) / draws for chance in chances(images))
        inside += covers(b - a, np.ones(images), truth, low=-1.0)
    assert inside / repeats >= 0.93


@pytest.mark.parametrize("gained", range(0, 12, 2))
def test_a_p_value_is_below_a_twentieth_where_the_interval_leaves_zero(gained: int) -> None:
    first, second = np.zeros(60), np.zeros(60)
    second[:gained], first[-2:] = 1, 1
    low, high = intervals.difference(first, second).ci
    assert (intervals.no_difference(first, second) < 0.05) == (not low <= 0 <= high)


def test_statements_of_one_page_hold_together() -> None:
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([]) == [] and intervals.holm([0.9, 0.8]) == [1, 1]
    rng, told = np.random.default_rng(0), 0
    for _ in range(100):
        pairs = rng.random((8, 2, 40)) < 0.5
        told += min(intervals.holm([intervals.no_difference(*pair) for pair in pairs])) <= 0.05
    assert told <= 10


def test_no_difference_seen_is_no_proof_of_none() -> None:
    value, (low, high) = intervals.difference(np.ones(100), np.ones(100))
    assert value == 0 and low < -0.01 and high > 0.01


def test_mcnemar_counts_what_changed() -> None:
    first, second = np.array([1, 1, 0, 0, 0, 0, 0], bool), np.array([0, 1, 1, 1, 1, 1, 1], bool)
    assert intervals.mcnemar(first, second) == pytest.approx(2 * (1 + 6) / 2**6)
    assert intervals.mcnemar(first, first) == 1


@pytest.mark.parametrize("runs", [1, 3, 6])
@pytest.mark.parametrize("chances", [(0.5,), (0.9, 0.2), (0.0, 1.0)])
def test_the_lowest_of_noisy_runs_is_no_lower_than_chance(
    runs: int, chances: tuple[float, ...]
) -> None:
    """All runs are equally hard here, so that whichever is lowest was lucky."""
    rng = np.random.default_rng(0)
    truth = np.resize(chances, 600)
    right = [rng.random((600, 21)) < truth[:, None] for _ in range(runs)]
    assert abs(intervals.lowest(right).mean() - truth.mean()) < 0.015
    assert intervals.lowest(right).mean() <= min(run.mean() for run in right) + 1e-9


def test_the_lowest_of_runs_that_break_other_images() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(400) < 0.5
    right = [rng.random((400, 20)) < np.where(of, 0.1, 0.8)[:, None] for of in (hard, ~hard)]
    assert abs(intervals.lowest(right).mean() - 0.1) < 0.01
    single = [run[:, :1] for run in right]  # one draw cannot be halved
    assert np.array_equal(intervals.lowest(single), np.minimum(*single)[:, 0])
