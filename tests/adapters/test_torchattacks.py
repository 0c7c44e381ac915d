"""Every attack of torchattacks through the adapter."""

from __future__ import annotations

import sys

import pytest
import torch

from robust_snn import InputError, Victim
from victims import tiny_victim, told_by

pytest.importorskip("torchattacks")
from robust_snn.adapters.torchattacks import ATTACKS, attack, parameters  # noqa: E402

# Arguments that make an attack short, or possible at all on 8x8 images with 4 classes.
ARGUMENTS: dict[str, dict[str, object]] = {
    "CW": {"steps": 2},
    "EADEN": {"max_iterations": 10, "binary_search_steps": 1},
    "EADL1": {"max_iterations": 10, "binary_search_steps": 1},
    "OnePixel": {"steps": 1, "popsize": 2, "inf_batch": 4},
    "PGDRS": {"steps": 2, "noise_batch_size": 2},
    "PGDRSL2": {"steps": 2, "noise_batch_size": 2},
    "Pixle": {"restarts": 1, "max_iterations": 1},
    "SPSA": {"nb_iter": 1, "nb_sample": 2},
    "Square": {"n_queries": 4},
}
SLOW_OR_TARGETED = {"JSMA", "AutoAttack"}  # JSMA's untargeted mode needs 10 classes
BOUNDED = {"PGDL2": 2, "PGDRSL2": 2}


@pytest.fixture(scope="module", params=[False, True], ids=["deterministic", "noisy"])
def victim(request: pytest.FixtureRequest) -> Victim:
    return tiny_victim(request.param)


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - SLOW_OR_TARGETED))
def test_every_attack(victim: Victim, name: str) -> None:
    images, labels = told_by(victim, 2)
    arguments = dict(ARGUMENTS.get(name, {}))
    accepted = parameters(name)
    if "steps" in accepted and "steps" not in arguments:
        arguments["steps"] = 3
    if "eps" in accepted:
        arguments["eps"] = 0.1
    modes = [module.training for module in victim.modules()]
    state, trace = torch.get_rng_state(), sys.gettrace()

    adversarial = attack(victim, name, **arguments)(images, labels)

    assert torch.equal(torch.get_rng_state(), state) and sys.gettrace() is trace
    assert modes == [module.training for module in victim.modules()]
    assert all(p.grad is None for p in victim.parameters())
    assert adversarial.shape == images.shape and not adversarial.requires_grad
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    if "eps" in accepted:
        order = BOUNDED.get(name, torch.inf)
        assert (adversarial - images).flatten(1).norm(p=order, dim=1).max() <= 0.1 + 1e-6


def test_training_mode_comes_back_module_by_module() -> None:
    victim = tiny_victim(False)
    victim.train()
    next(m for m in victim.modules() if isinstance(m, torch.nn.BatchNorm2d)).eval()
    modes = [module.training for module in victim.modules()]
    attack(victim, "FGSM")(*told_by(victim, 2))
    assert modes == [module.training for module in victim.modules()]


def test_calls_differ_and_seeds_repeat() -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 2)
    craft = attack(victim, "PGD", steps=1, alpha=0.0, seed=3)
    first, second = craft(images, labels), craft(images, labels)
    assert not torch.equal(first, second)
    assert torch.equal(attack(victim, "PGD", steps=1, alpha=0.0, seed=3)(images, labels), first)


def test_number_of_classes_is_filled_in() -> None:
    victim = tiny_victim(False, classes=4)
    images, labels = told_by(victim, 2)
    attack(victim, "APGDT", steps=2)(images, labels)  # with its default of 10 it fails
    attack(victim, "AutoAttack", version="rand")(images[:1], labels[:1])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("PDG", {}, "did you mean 'PGD'"),
        ("MultiAttack", {}, "unknown torchattacks attack"),
        ("PGD", {"step": 3}, "did you mean 'steps'"),
    ],
)
def test_wrong_names(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attack(tiny_victim(False), name, **arguments)
