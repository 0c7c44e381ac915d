"""The threat model holds for every image, or the run stops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robust_snn import InputError
from robust_snn.eval import ConstraintViolation
from robust_snn.eval.protocol.threat_model import Threat

IMAGES = torch.full((3, 1, 2, 2), 0.5)


def moved(by: float, pixels: int = 1) -> Tensor:
    images = IMAGES.clone()
    images[1].view(-1)[:pixels] += by
    return images


@pytest.mark.parametrize(
    ("norm", "adversarial"),
    [
        ("Linf", moved(0.1, 4)),
        ("L2", moved(0.05, 4)),
        ("Linf", moved(0.1 + 5e-7)),
        ("L2", IMAGES),
        ("L1", moved(0.02, 4)),
    ],
)
def test_allowed(norm: str, adversarial: Tensor) -> None:
    Threat(norm, 0.1).check(adversarial, IMAGES, "a")


@pytest.mark.parametrize(
    ("norm", "adversarial", "message"),
    [
        ("Linf", moved(0.1 + 3e-6), "a perturbed an image by 0.10000"),
        ("L2", moved(0.06, 4), "in L2, more than eps"),
        ("L1", moved(0.03, 4), "in L1, more than eps"),
        ("Linf", moved(-0.6), "left"),
        ("Linf", moved(float("nan")), "not finite"),
        ("Linf", moved(float("inf")), "not finite"),
        ("Linf", IMAGES[:2], "returned shape"),
    ],
)
def test_violations(norm: str, adversarial: Tensor, message: str) -> None:
    with pytest.raises(ConstraintViolation, match=message):
        Threat(norm, 0.1).check(adversarial, IMAGES, "a")


@pytest.mark.parametrize(
    ("norm", "eps", "message"),
    [
        ("Linf", -0.1, "at least 0"),
        ("Linf", float("nan"), "at least 0"),
        ("Linf", "8/255", "at least 0"),
        ("L2", 8 / 255, "a radius in Linf"),
        ("L0", 0.5, "number of entries"),
        ("Linf", 8, "did you mean 8/255"),
        ("L1", 8 / 255, "a radius in Linf"),
        ("L3", 0.1, "did you mean 'L"),
    ],
)
def test_impossible_threats(norm: str, eps: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Threat(norm, eps)
