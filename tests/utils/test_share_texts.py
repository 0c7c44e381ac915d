"""Shares and differences as people read them."""

from __future__ import annotations

import pytest

from robust_snn.utils.share_texts import percent, points, points_span, span, tenths, wider


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0.0, "0.0%"),
        (0.0004, "<0.1%"),
        (0.001, "0.1%"),
        (0.9996, ">99.9%"),
        (1.0, "100.0%"),
        (1 - 1e-12, "100.0%"),
    ],
)
def test_only_none_is_told_as_none_and_only_all_as_all(share: float, told: str) -> None:
    assert percent(share) == told


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        ((0.0, 0.0004), "0.0-0.1%"),
        ((0.9996, 1.0), "99.9-100.0%"),
        ((0.301, 0.408), "30.1-40.8%"),
        ((0.3019, 0.4081), "30.1-40.9%"),
    ],
)
def test_an_interval_is_told_no_narrower_than_it_is(
    interval: tuple[float, float], told: str
) -> None:
    assert span(interval) == told
    assert "--".join(tenths(interval)) + "%" == told.replace("-", "--")


@pytest.mark.parametrize(
    ("change", "told"), [(0.0, "+0.0"), (0.0003, "+0.03"), (-0.0003, "-0.03"), (0.024, "+2.4")]
)
def test_only_no_difference_is_told_as_none(change: float, told: str) -> None:
    assert points(change) == told


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        ((0.0004, 0.03), "+0.0 to +3.0"),
        ((-0.0004, 0.0301), "-0.1 to +3.1"),
        ((-0.03, -0.0004), "-3.0 to +0.0"),
        ((-0.1049, 0.1041), "-10.5 to +10.5"),
    ],
)
def test_an_interval_of_differences_is_told_no_narrower(
    interval: tuple[float, float], told: str
) -> None:
    assert points_span(interval) == told


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        ((1.2349, 1.2341), ("1.23", "1.24")),
        ((0.0, 9.996e-9), ("0", "1e-08")),
        ((2.0, 2.0), ("2",) * 2),
    ],
)
def test_limits_of_any_numbers_move_apart(
    interval: tuple[float, float], told: tuple[str, str]
) -> None:
    assert wider(interval) == told
