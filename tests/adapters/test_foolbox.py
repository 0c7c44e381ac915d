"""Every attack of foolbox through the adapter, for a fixed and for the least radius."""

from __future__ import annotations

from inspect import signature

import pytest
import torch

from robust_snn import InputError, Victim
from robust_snn.victim.scoring import accuracy
from victims import SHAPE, tiny_victim, told_by, untouched

foolbox = pytest.importorskip("foolbox")
from robust_snn.adapters.foolbox import ATTACKS, EXCLUDED, UNBOUNDED, attack, to_foolbox  # noqa: E402

EPS = 0.1
# Numbers that make an attack short, wherever it takes them.
SHORT = {
    "binary_search_steps": 2,
    "directions": 2,
    "initial_gradient_eval_steps": 2,
    "max_gradient_eval_steps": 4,
    "num_rotations": 2,
    "num_translations": 2,
    "population": 4,
    "repeats": 2,
    "steps": 2,
}
SLOW = {n for n in ATTACKS if "BrendelBethge" in n} | {"PointwiseAttack"}


def short(name: str) -> dict[str, int]:
    accepted = signature(getattr(foolbox.attacks, name).__init__).parameters
    return {key: value for key, value in SHORT.items() if key in accepted}


@pytest.fixture(params=[False, True], ids=["deterministic", "noisy"])
def victim(request: pytest.FixtureRequest, device: torch.device) -> Victim:
    return tiny_victim(request.param)


def check(victim: Victim, name: str) -> None:
    images, labels = told_by(victim, 5)
    eps = None if name.startswith(UNBOUNDED) else EPS
    with untouched(victim):
        adversarial = attack(victim, name, eps, **short(name))(images, labels)
    assert adversarial.shape == images.shape and not adversarial.requires_grad
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    order = torch.inf if "Linf" in name or "LInf" in name or name in ("PGD", "FGSM") else 2
    if name.startswith(("L1", "SparseL1", "EAD")):
        order = 1
    if name in ("AdamPGD", "MIFGSM", "GenAttack"):
        order = torch.inf
    if eps is not None and name != "SpatialAttack":
        assert (adversarial - images).flatten(1).norm(p=order, dim=1).max() <= EPS + 1e-6


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - SLOW))
def test_every_attack(victim: Victim, name: str) -> None:
    check(victim, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SLOW))
def test_every_slow_attack(victim: Victim, name: str) -> None:
    check(victim, name)


@pytest.mark.parametrize("name", ["LinfDeepFoolAttack", "DDNAttack", "L2FMNAttack"])
def test_least_radius(name: str) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 3)
    adversarial = attack(victim, name, steps=20)(images, labels)
    assert (victim(adversarial).argmax(1) != labels).all()


def test_to_foolbox_is_the_victim() -> None:
    victim = tiny_victim(True).replace(eot=3)
    images, labels = told_by(victim, 2)
    model = to_foolbox(victim.replace(noise="frozen"))
    assert model.bounds == (0, 1)
    assert torch.equal(model(images), victim.replace(noise="frozen")(images))
    _, clipped, _ = foolbox.attacks.LinfPGD(steps=2)(model, images, labels, epsilons=[0.0, EPS])
    assert torch.equal(clipped[0], images) and not torch.equal(clipped[1], images)
    assert model(images.double()).dtype == torch.float32
    assert model(torch.zeros(2, *SHAPE)).shape == (2, 4)


def test_null_attack_is_exposed() -> None:
    """foolbox believes one call; the accuracy on fresh noise is the clean one."""
    victim = tiny_victim(True)
    images, labels = told_by(victim, 32)
    _, clipped, success = foolbox.attacks.LinfPGD(steps=2)(
        to_foolbox(victim), images, labels, epsilons=1e-6
    )
    clean = accuracy(victim, images, labels, draws=40)
    assert abs(accuracy(victim, clipped, labels, draws=40) - clean) < 0.05
    assert float(success.float().mean()) > 0.1  # what it claims to have broken


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("LinfPDG", {"eps": EPS}, "did you mean 'LinfPGD'"),
        ("LinfPGD", {"eps": EPS, "step": 2}, "did you mean 'steps'"),
        ("LinfPGD", {}, "LinfPGD needs eps"),
        ("L0FMNAttack", {"eps": EPS}, "cannot hold L0FMNAttack to a radius"),
        (next(iter(EXCLUDED)), {"eps": EPS}, "cannot run alone"),
    ],
)
def test_wrong_use(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attack(tiny_victim(False), name, **arguments)  # type: ignore[arg-type]
