"""A student breaks what hides its gradient."""

from __future__ import annotations

from typing import Any

import torch

import robust_snn
from masks import MASKS
from robust_snn.attacks import APGD, Student

EPS = 0.2


def test_it_breaks_a_decoy_that_its_gradient_leaves(digits: Any) -> None:
    victim = robust_snn.adapt(MASKS["one-hot with decoy"](digits.victim.net))
    x, labels = digits.images[:32], digits.labels[:32]
    left = {}
    for attack in (APGD(steps=20), Student(rounds=6, steps=10)):
        made = attack(victim, x, labels, eps=EPS)
        with torch.no_grad():
            answers = victim(made.images).argmax(1)
        assert torch.equal(made.success, answers != labels)
        left[attack.name] = float((answers == labels).double().mean())
    assert left["student"] < left["apgd"] - 0.2, left
