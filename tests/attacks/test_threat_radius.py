"""Radii of threats: what each norm takes, and what was meant for another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from robust_snn.attacks.threat_radius import check_reach, checked_radius, own_radius
from robust_snn.utils.errors import InputError

TAKEN: list[tuple[Any, str, float]] = [
    (0, "Linf", 0.0),
    (0.03, "Linf", 0.03),
    (8 / 255, "Linf", 8 / 255),
    (1, "Linf", 1.0),
    (np.float32(0.5), "L2", 0.5),
    (np.float64(0.25), "L2", 0.25),
    (np.int64(1), "L2", 1.0),
    (np.array(0.5), "L2", 0.5),
    (torch.tensor(0.5), "L2", 0.5),
    (128 / 255, "L2", 128 / 255),
    (36 / 255, "L2", 36 / 255),
    (0.03, "L2", 0.03),
    (0.05, "L2", 0.05),
    (12, "L1", 12.0),
    (0, "L2", 0.0),
    (200, "L0", 200.0),
    (np.int64(1), "L0", 1.0),
]
REFUSED: list[tuple[Any, str, str]] = [
    (8, "Linf", "did you mean 8/255"),
    (1.01, "Linf", "leaves nothing"),
    (np.float32(16), "Linf", "did you mean 16/255"),
    (8 / 255, "L2", "8/255, a radius in Linf, and in L2 hardly a change; usual is 0.5"),
    (0.0314, "L2", "8/255"),
    (np.float32(4 / 255), "L2", "4/255"),
    (torch.tensor(2 / 255), "L2", "2/255"),
    (16 / 255, "L2", "16/255"),
    (8 / 255, "L1", "usual is 12 in L1"),
    (8 / 255, "L0", "number of entries"),
    (0.5, "L0", "number of entries"),
    (-1, "L0", "number of at least 0"),
    (-0.1, "Linf", "number of at least 0, got -0.1"),
    (float("nan"), "L2", "number of at least 0"),
    (float("inf"), "Linf", "number of at least 0"),
    (np.float32("nan"), "Linf", "number of at least 0"),
    ("8/255", "Linf", "number of at least 0, got '8/255'"),
    (None, "Linf", "number of at least 0"),
    (True, "Linf", "number of at least 0"),
    (np.True_, "Linf", "number of at least 0"),
    ([0.1], "Linf", "number of at least 0"),
    (1j, "Linf", "number of at least 0"),
    (torch.tensor([0.1, 0.2]), "Linf", "number of at least 0"),
    (np.array([0.1]), "Linf", "number of at least 0"),
    (torch.tensor(1j), "Linf", "number of at least 0"),
    (0.1, "linf", "did you mean 'Linf'"),
    (0.1, 2, "unknown norm '2'"),
]


@pytest.mark.parametrize(("eps", "norm", "radius"), TAKEN)
def test_radii(eps: Any, norm: str, radius: float) -> None:
    found = checked_radius(eps, norm)
    assert (type(found), found) == (float, radius)


@pytest.mark.parametrize(("eps", "norm", "message"), REFUSED)
def test_what_is_no_radius_in_a_norm(eps: Any, norm: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        checked_radius(eps, norm)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("eps", "norm", "passes"),
    [
        (1.0, "Linf", True),
        (13.8, "L2", True),
        (13.9, "L2", False),
        (128.0, "L2", False),
        (192.0, "L1", True),
        (193.0, "L1", False),
        (192.0, "L0", True),
        (2000.0, "L0", False),
    ],
)
def test_radii_that_allow_any_image(eps: float, norm: str, passes: bool) -> None:
    images = torch.zeros(2, 3, 8, 8)
    check_reach(eps, norm, images[:0])
    if passes:
        check_reach(eps, norm, images)
        return
    with pytest.raises(InputError, match="allows any image"):
        check_reach(eps, norm, images)


@pytest.mark.parametrize(
    ("eps", "norm", "expected"),
    [
        (None, None, 0.03),
        (None, "Linf", 0.03),
        (0.5, "L2", 0.5),
        (0, "L2", 0),
        (None, "L2", "norm L2 needs an eps of its own, such as 0.5 or 1 in L2"),
        (None, "L0", "norm L0 needs an eps of its own, such as 200 entries"),
        (None, "L7", "unknown norm 'L7'"),
    ],
)
def test_a_norm_needs_a_radius_of_its_own(eps: Any, norm: str | None, expected: Any) -> None:
    if not isinstance(expected, str):
        assert own_radius(eps, norm, 0.03, "Linf") == expected
        return
    with pytest.raises(InputError, match=expected):
        own_radius(eps, norm, 0.03, "Linf")
