"""What suites ask of attacks."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from robust_snn import InputError
from robust_snn.attacks import ATTACKS, EVENT_ATTACKS, PGD, make_attack


def test_a_suite_can_ask_for_options_and_classes() -> None:
    options = ATTACKS["pgd"].option_names()
    assert {"steps", "alpha", "restarts", "eot_loss"} <= set(options)
    assert not {"eps", "norm", "seed", "victim", "name"} & set(options)
    asked = [("pgd", {}), ("apgd", {"loss": "dlr"}), ("apgd-t", {}), ("apgd-t", {"loss": "ce"})]
    assert [make_attack(*each).least_classes for each in asked] == [2, 3, 4, 2]
    with pytest.raises(InputError, match="apgd"):
        make_attack("apgt", {})
    assert all(cls.option_names() for cls in ATTACKS.values())


def test_text_names_an_attack_and_its_settings() -> None:
    for attack, text in [
        (PGD(steps=7, restarts=2), "pgd(steps=7,random_start=true,restarts=2)"),
        (make_attack("apgd-t", {}), "apgd-t(steps=100,rho=0.75,loss=dlr,targets=9)"),
        (make_attack("fgsm", {"keep": 4}), "fgsm"),
        (
            PGD(alpha=0.1, targets=torch.tensor([1])),
            "pgd(steps=20,alpha=0.1,random_start=true,targets=given)",
        ),
        (make_attack("sda", {}, EVENT_ATTACKS), "sda(steps=50,only=all,k_init=10)"),
    ]:
        assert str(attack) == text
    assert "steps=7" in repr(PGD(steps=7))


def test_an_attack_is_its_options() -> None:
    assert PGD(steps=3) == make_attack("pgd", {"steps": 3}) != PGD(steps=4)
    with pytest.raises(FrozenInstanceError):
        PGD().steps = 4  # type: ignore[misc]
    for name, options, message in [
        ("pdg", {}, "did you mean 'pgd'"),
        ("pgd", {"step": 3}, "did you mean 'steps'"),
        ("pgd", {"ids": 3}, "option of pgd"),
        ("apgd", {"steps": 0}, "steps"),
    ]:
        with pytest.raises(InputError, match=message):
            make_attack(name, options)
