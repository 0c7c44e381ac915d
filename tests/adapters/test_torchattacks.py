"""Every attack of torchattacks through the adapter."""

from __future__ import annotations

from functools import partial
from importlib import import_module

import pytest
import torch

from robust_snn import InputError, Victim
from robust_snn.victim.scoring import accuracy
from victims import tiny_victim, told_by, untouched

torchattacks = pytest.importorskip("torchattacks")
from robust_snn.adapters.torchattacks import ATTACKS, SEARCHES, attack, parameters  # noqa: E402

# Arguments that make an attack short, or possible at all on 8x8 images with 4 classes.
ARGUMENTS: dict[str, dict[str, object]] = {
    "AutoAttack": {"version": "rand"},
    "CW": {"steps": 2},
    "EADEN": {"max_iterations": 10, "binary_search_steps": 1},
    "EADL1": {"max_iterations": 10, "binary_search_steps": 1},
    "JSMA": {"gamma": 0.02},
    "OnePixel": {"steps": 1, "popsize": 2, "inf_batch": 4},
    "PGDRS": {"steps": 2, "noise_batch_size": 2},
    "PGDRSL2": {"steps": 2, "noise_batch_size": 2},
    "Pixle": {"restarts": 1, "max_iterations": 1},
    "SPSA": {"nb_iter": 1, "nb_sample": 2},
    "Square": {"n_queries": 4},
}
BOUNDED = {"PGDL2": 2, "PGDRSL2": 2}


@pytest.fixture(params=[False, True], ids=["deterministic", "noisy"])
def victim(request: pytest.FixtureRequest, device: torch.device) -> Victim:
    return tiny_victim(request.param)


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_attack(victim: Victim, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = told_by(victim, 2)
    arguments = dict(ARGUMENTS.get(name, {}))
    accepted = parameters(name)
    if "steps" in accepted and "steps" not in arguments:
        arguments["steps"] = 3
    if "eps" in accepted:
        arguments["eps"] = 0.1
    if name == "AutoAttack":  # its APGD takes 100 steps and 20 draws whatever one says
        images, labels = images[:1], labels[:1]
        module = import_module("torchattacks.attacks.autoattack")
        monkeypatch.setattr(module, "APGD", partial(torchattacks.APGD, steps=2))
    with untouched(victim):
        adversarial = attack(victim, name, **arguments)(images, labels)
    assert adversarial.shape == images.shape and not adversarial.requires_grad
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    if "eps" in accepted:
        order = BOUNDED.get(name, torch.inf)
        assert (adversarial - images).flatten(1).norm(p=order, dim=1).max() <= 0.1 + 1e-6


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_see_frozen_noise(name: str) -> None:
    victim = tiny_victim(True)
    seen: list[str] = []
    forward = Victim.forward

    def spy(view: Victim, x: torch.Tensor) -> torch.Tensor:
        seen.append(view.noise)
        return forward(view, x)

    arguments = {"steps": 1} if "steps" in parameters(name) else {}
    arguments |= ARGUMENTS.get(name, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Victim, "forward", spy)
        images, labels = told_by(victim, 1)
        attack(victim, name, **arguments)(images, labels)
        assert set(seen) == {"frozen"}
        seen.clear()
        attack(victim, name, noise="fresh", **arguments)(images, labels)
        assert set(seen) == {"fresh"}


def test_draws_multiply_knowingly(caplog: pytest.LogCaptureFixture) -> None:
    victim = tiny_victim(True).replace(eot=3)
    images, labels = told_by(victim, 2)
    with caplog.at_level("INFO", "robust_snn"):
        craft = attack(victim, "EOTPGD", steps=1, eot_iter=4)
    assert "averages 12 draws" in caplog.text
    calls: list[int] = []
    forward = Victim.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Victim, "forward", lambda v, x: calls.append(v.eot) or forward(v, x))
        craft(images, labels)
    assert calls == [3, 3, 3, 3]  # counting the classes is no call of the victim


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


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("PDG", {}, "did you mean 'PGD'"),
        ("MultiAttack", {}, "unknown torchattacks attack"),
        ("PGD", {"step": 3}, "did you mean 'steps'"),
        ("PGD", {"steps": 0}, "steps of PGD must be at least 1, got 0"),
        ("EADL1", {"max_iterations": 9}, "max_iterations of EADL1 must be at least 10"),
        ("PGD", {"noise": "frosen"}, "did you mean 'frozen'"),
    ],
)
def test_wrong_names(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attack(tiny_victim(False), name, **arguments)


@pytest.mark.parametrize("name", ["APGDT", "AutoAttack"])
def test_too_few_classes(name: str) -> None:
    victim = tiny_victim(False, classes=3)
    with pytest.raises(InputError, match="needs at least 4 classes, the victim has 3"):
        attack(victim, name)(*told_by(victim, 1))


def test_null_attack_is_exposed() -> None:
    """At eps = 1e-6 an attack's own flag lies; the accuracy on fresh noise is the clean one."""
    victim = tiny_victim(True)
    images, labels = told_by(victim, 32)
    adversarial = attack(victim, "PGD", eps=1e-6, alpha=1e-6, steps=3)(images, labels)
    clean = accuracy(victim, images, labels, draws=40)
    assert abs(accuracy(victim, adversarial, labels, draws=40) - clean) < 0.05
