"""What noise does to gradients and attacks is measured."""

from __future__ import annotations

from typing import Any

import torch

import robust_snn
from robust_snn.diagnostics.attack_sanity import ShortAttacks
from robust_snn.diagnostics.mode_agreement import mode_agreement
from robust_snn.diagnostics.stochasticity import eot_convergence, known_noise


def test_noise_is_measured(digits: Any) -> None:
    torch.manual_seed(0)
    size = {"img_size": 8, "in_chans": 1, "num_classes": 10}
    noisy = robust_snn.adapt("snn_vgg5_stog", T=2, width=0.125, head_width=16, **size)
    images, labels = digits.images[:6], digits.labels[:6]
    result = eot_convergence(noisy, images, labels, draws=7)
    assert 0 < result.value <= 1 and " at 7" in result.why and " at 50" in result.why
    gap = known_noise(ShortAttacks(noisy, images, labels, eps=0.1, steps=3))
    assert -1 <= gap.value <= 1
    assert eot_convergence(digits.victim, images, labels).status == "pass"
    assert "bptr" in mode_agreement(noisy, images, labels, draws=2).why
