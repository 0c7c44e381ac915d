"""What every attack of the table keeps to, on victims with and without noise; a row tests one."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.attacks import ATTACKS, make_attack
from robust_snn.models.readout import Readout
from robust_snn.neurons import StochasticGate
from victims import StandIn

ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("fgsm", "Linf", {}),
    ("rfgsm", "L2", {}),
    ("pgd", "Linf", {"steps": 4}),
    ("pgd", "L2", {"steps": 4, "loss": "dlr", "random_start": False}),
    ("pgd", "Linf", {"steps": 2, "targets": "random", "restarts": 2, "eot_loss": "adaptive"}),
    ("mim", "Linf", {"steps": 4}),
    ("mim", "L2", {"steps": 4, "eot_loss": 2, "random_start": True}),
    ("apgd", "Linf", {"steps": 9, "eot_loss": 2}),
    ("apgd", "L2", {"steps": 9, "loss": "dlr"}),
    ("apgd", "Linf", {"steps": 9, "loss": "tet"}),
    ("pgd", "L2", {"steps": 4, "loss": "tet", "targets": "random", "eot_loss": "adaptive"}),
    ("apgd-t", "Linf", {"steps": 3, "targets": 2}),
    ("apgd", "Linf", {"steps": 9, "loss": "pm"}),
    ("pgd", "Linf", {"steps": 8, "loss": "gama"}),
    ("sapgd", "Linf", {"steps": 8, "loss": "md", "restarts": 2}),
    ("apgd-t", "L2", {"steps": 3, "targets": 2, "target_order": "malt"}),
    ("apgd", "Linf", {"steps": 3, "mix": ["bptr"]}),
    ("sapgd", "Linf", {"steps": 9}),
    ("sapgd", "L2", {"steps": 9, "loss": "margin"}),
    ("do", "L2", {"steps": 9, "targets": "least-likely"}),
    ("fmn", "Linf", {"steps": 9}),
    ("fmn", "L2", {"steps": 9, "restarts": 2, "eot_loss": 2}),
    ("transfer", "Linf", {"steps": 5}),
    ("transfer", "L2", {"steps": 5, "source": "bptr"}),
    ("transfer", "Linf", {"steps": 3, "source": "bptr", "refine": 5}),
    ("pgd", "Linf", {"steps": 3, "start": "bptr"}),
    ("apgd", "L2", {"steps": 5, "start": "mean", "restarts": 2}),
    ("student", "Linf", {"steps": 3, "rounds": 2, "samples": 2}),
    ("square", "Linf", {"steps": 8, "restarts": 2}),
    ("square", "L2", {"steps": 8}),
]
NAMES = [f"{name}-{norm}-{'-'.join(map(str, options.values()))}" for name, norm, options in ROWS]
EPS = {"Linf": 0.1, "L2": 0.7}

every_row = pytest.mark.parametrize("row", ROWS, ids=NAMES)
both = pytest.mark.parametrize("net", ["snn_vgg5", "snn_vgg5_stog"])


def build(net: str, **settings: Any) -> Victim:
    """A narrow victim whose sums are exact in float32, so that no order of summation shows."""
    torch.manual_seed(0)
    size = {"img_size": 8, "in_chans": 1, "mean": (0.5,), "std": (0.5,), "num_classes": 5}
    victim = robust_snn.adapt(net, T=2, width=0.125, head_width=16, **size, **settings)
    for parameter in victim.net.parameters():
        parameter.data = (parameter.data * 64).round() / 64
    return victim


class Twice(StandIn):
    """The same logits in two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.readout = Readout("mean", 1.0)

    def forward(self, logits: Tensor) -> Tensor:
        mean: Tensor = self.readout(torch.stack([logits, logits]))
        return mean


class Gated(StandIn):
    """A smooth layer of 32 whose values pass by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = StochasticGate((32,), 0.7)

    def forward(self, x: Tensor) -> Tensor:
        passed: Tensor = self.gate(torch.tanh(x)[None])[0]
        return passed


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 65, (4, 1, 8, 8), generator=generator) / 64


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 3])


def run(row: tuple[str, str, dict[str, Any]], victim: Victim, *batch: Tensor, **more: Any) -> Any:
    name, norm, options = row
    return make_attack(name, options)(victim, *batch, norm=norm, **{"eps": EPS[norm], **more})


def test_every_attack_has_a_row() -> None:
    assert {name for name, _, _ in ROWS} == set(ATTACKS)


@every_row
@both
def test_stays_in_the_ball(net: str, row: Any, images: Tensor, labels: Tensor) -> None:
    result = run(row, build(net), images, labels)
    assert result.images.dtype == torch.float32 and result.images.shape == images.shape
    assert result.success.dtype == torch.bool and result.success.shape == labels.shape
    assert result.images.min() >= 0 and result.images.max() <= 1
    delta = (result.images.double() - images.double()).flatten(1)
    size = delta.abs().amax(1) if row[1] == "Linf" else delta.norm(dim=1)
    assert (size <= EPS[row[1]]).all()


@every_row
@both
def test_depends_on_the_seed_alone(net: str, row: Any, images: Tensor, labels: Tensor) -> None:
    victim = build(net)
    first = run(row, victim, images, labels, seed=3)
    torch.manual_seed(99)
    victim(images)  # the victim's count of calls moves on
    again = run(row, victim, images, labels, seed=3)
    assert torch.equal(first.images, again.images) and torch.equal(first.success, again.success)


@every_row
@pytest.mark.parametrize("noisy", [False, True])
def test_a_split_changes_nothing(noisy: bool, row: Any, images: Tensor, labels: Tensor) -> None:
    """On a smooth net: a spiking one makes much of the last bit, which batch sizes change."""
    if row[0] == "student":
        pytest.skip("a student learns from all images of a batch")
    gate = Gated() if noisy else nn.Tanh()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), gate, nn.Linear(32, 5), Twice())
    victim, ids = Victim(net, eot=1 + noisy), torch.tensor([7, 3, 9, 4])
    whole = run(row, victim, images, labels, ids=ids)
    order = torch.tensor([3, 0])
    part = run(row, victim, images[order], labels[order], ids=ids[order])
    assert torch.allclose(part.images, whole.images[order], atol=1e-5)


@every_row
@both
def test_leaves_everything_as_it_was(net: str, row: Any, images: Tensor, labels: Tensor) -> None:
    victim = build(net)
    victim.net.train()
    victim.net.fc.eval()
    modes = [module.training for module in victim.net.modules()]
    weights = [p.clone() for p in victim.net.state_dict().values()]
    before, kept = (torch.get_rng_state(), np.random.get_state()[1].copy()), images.clone()
    python = random.getstate()
    with torch.no_grad():
        run(row, victim, images, labels)
    assert torch.equal(before[0], torch.get_rng_state()) and random.getstate() == python
    assert (before[1] == np.random.get_state()[1]).all() and torch.equal(images, kept)
    assert [module.training for module in victim.net.modules()] == modes
    states = victim.net.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(weights, states, strict=True))
    assert all(p.requires_grad and p.grad is None for p in victim.net.parameters())
    assert victim.cost.forwards and not images.requires_grad


class Dead(StandIn):
    """Answers with constants that its input reaches with a gradient of zero, NaN or infinity."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.twice = factor, Twice()

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.arange(5.0).expand(len(x), 5) + _Scaled.apply(x, self.factor).sum() * 0
        mean: Tensor = self.twice(logits)
        return mean


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return torch.full_like(upstream[0], ctx.factor), None


@every_row
@pytest.mark.parametrize("factor", [0.0, float("nan"), float("inf"), 1e-44])
def test_useless_gradients_do_no_harm(
    factor: float, row: Any, images: Tensor, labels: Tensor
) -> None:
    result = run(row, Victim(Dead(factor)), images, labels)
    assert result.images.isfinite().all()
    assert result.success.tolist() == [True] * 4


@every_row
def test_no_images_and_no_radius(row: Any, images: Tensor, labels: Tensor) -> None:
    victim = build("snn_vgg5")
    assert run(row, victim, images[:0], labels[:0]).images.shape == (0, 1, 8, 8)
    assert torch.equal(run(row, victim, images, labels, eps=0.0).images, images)


@every_row
def test_raises_the_loss(row: Any, images: Tensor) -> None:
    """On a linear net, whose gradient is exact, random images must be misclassified."""
    if row[0] == "student":
        pytest.skip("a student learns little from four images; see test_student")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), Twice())
    labels = net(images).argmax(1)
    result = run(row, Victim(net), images, labels, eps={"Linf": 0.2, "L2": 2.0}[row[1]])
    assert (F.cross_entropy(net(result.images), labels, reduction="none") > 1.2).all()
    assert torch.equal(result.success, net(result.images).argmax(1) != labels)


@pytest.mark.parametrize("name", ATTACKS)
def test_wrong_options_are_refused_by_name(name: str, images: Tensor, labels: Tensor) -> None:
    victim = build("snn_vgg5")
    norm = next(norm for attack, norm, _ in ROWS if attack == name)
    for wrong, message in [
        ({"stepz": 3}, "stepz"),
        ({"norm": "L7"}, "L7"),
        ({"restarts": 0}, "restarts"),
        ({"loss": "mse"}, "mse"),
        ({"eot_loss": "adaptiv"}, "adaptive"),
        ({"target_order": "mal"}, "malt"),
        ({"targets": 2.5}, "targets"),
        ({"rho": -1.0}, "rho"),
        ({"gamma": 2.0}, "gamma"),
        ({"mix": ["hartt"]}, "hart"),
    ]:
        options = {key: value for key, value in wrong.items() if key != "norm"}
        asked = wrong.get("norm", norm)
        if set(options) - set(ATTACKS[name].option_names()):  # a search knows no loss
            message = next(iter(options))
        with pytest.raises(InputError, match=message):
            make_attack(name, options)(victim, images, labels, eps=0.1, norm=asked)
        with pytest.raises(InputError, match=message):
            make_attack(name, options).check_norm(asked)
    with pytest.raises(InputError, match="eps"):
        ATTACKS[name]()(victim, images, labels, eps=-1.0, norm=norm)
