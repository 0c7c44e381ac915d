"""What networks are trained on stays in the ball, follows the gradient, and moves no weight."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.attacks import FGSM
from robust_snn.training import Recipe
from robust_snn.training.perturb import PERTURBATIONS, perturbed
from robust_snn.training.recipe_effects import idle_settings
from robust_snn.utils.modules import evaluating
from victims import StandIn

EPS = 8 / 255


def network(mechanism: str = "_stog") -> nn.Module:
    return timm.create_model(
        f"snn_vgg5{mechanism}", T=2, width=0.1, head_width=16, img_size=8, in_chans=1
    )


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    images = torch.rand(6, 1, 8, 8)
    images[0], images[1] = 0.0, 1.0
    return images, torch.randint(10, (6,))


def run(
    victim: Victim, batch: tuple[Tensor, Tensor], kind: str, eps: float, **changes: Any
) -> Tensor:
    base = Recipe("test", "test")
    if eps and kind != "none":
        base = Recipe("test", "test", eps=eps, perturbation=kind)
    idle = idle_settings(vars(base))
    recipe = base.replace(**{name: x for name, x in changes.items() if name not in idle})
    noise = torch.randn(batch[0].shape, generator=torch.Generator().manual_seed(2))
    return perturbed(victim, *batch, recipe, kind, noise)


class Linear(StandIn):
    """Two classes that differ by `sum(w * x)`: the gradient's sign is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[[2.0, -3.0, 0.0, 1.0]]]))

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)


SIGN = torch.tensor([[1.0, -1, 0, 1], [-1, 1, 0, -1]]).view(2, 1, 1, 4)


@pytest.mark.parametrize("changes", [{}, {"alpha": 0.03}])
def test_closed_forms(changes: dict[str, float]) -> None:
    x, labels = torch.full((2, 1, 1, 4), 0.5), torch.tensor([0, 1])
    n = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    alpha = changes.get("alpha", 0.05)
    expected = {
        "none": x,
        "gaussian": x + 0.1 * n,
        "gaussian_released": x + 0.1 * n,
        "fgsm": x + 0.1 * SIGN,
        "rfgsm": x + alpha * n.sign() + (0.1 - alpha) * SIGN,
        "rfgsm_released": x + alpha * n + 0.1 * SIGN,
    }
    victim = Victim(Linear())
    for kind, images in expected.items():
        torch.testing.assert_close(run(victim, (x, labels), kind, 0.1, **changes), images)
    far = run(victim, (x, labels), "pgd", 0.1)
    moved = (far - x)[SIGN != 0]
    torch.testing.assert_close(moved, 0.1 * SIGN[SIGN != 0])  # linear: to the corner of the ball


def test_a_universal_perturbation_is_one_for_all_images() -> None:
    """Of three images, two have label 0, so that their gradient wins."""
    x, labels = torch.full((3, 1, 1, 4), 0.5), torch.tensor([0, 1, 0])
    shifts = run(Victim(Linear()), (x, labels), "universal", 0.1, steps=4) - x
    assert torch.equal(shifts, shifts[:1].expand_as(shifts))
    torch.testing.assert_close(shifts[0, 0, 0, [0, 1, 3]], torch.tensor([0.1, -0.1, 0.1]))
    images = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(-1, 1, 1, 4).contiguous()
    moved = run(Victim(Linear()), (images, torch.zeros(3).long()), "universal", 0.1, steps=4)
    assert moved.min() == 0 and moved.max() == 1


@pytest.mark.parametrize("eps", [0.0, EPS, 0.7, 1.0])
@pytest.mark.parametrize(
    "kind", [k for k in PERTURBATIONS if k != "gaussian" and not k.endswith("_released")]
)
def test_stays_in_the_ball_and_in_range(
    batch: tuple[Tensor, Tensor], kind: str, eps: float
) -> None:
    images = batch[0]
    out = run(Victim(network()), batch, kind, eps, steps=3)
    assert float((out - images).abs().max()) <= eps + 1e-6
    assert float(out.min()) >= 0 and float(out.max()) <= 1
    assert not out.requires_grad


def test_the_single_step_is_that_of_the_suites(batch: tuple[Tensor, Tensor]) -> None:
    """Where a network is deterministic, and the step succeeded at all."""
    victim = Victim(network("").eval())
    attack = FGSM(keep=1, select=1)(victim, *batch, eps=0.3)
    out = run(victim, batch, "fgsm", 0.3)
    same = (out - attack.images).flatten(1).abs().amax(1) < 1e-6
    with torch.no_grad():
        raised = nn.functional.cross_entropy(victim(out), batch[1], reduction="none") - (
            nn.functional.cross_entropy(victim(batch[0]), batch[1], reduction="none")
        )
    assert same[raised > 0].all()


@pytest.mark.parametrize("kind", PERTURBATIONS)
@pytest.mark.parametrize("trades", [0.0, 6.0])
def test_leaves_the_network_as_it_was(
    batch: tuple[Tensor, Tensor], kind: str, trades: float
) -> None:
    net = network().train()
    net.stages[0].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flags = [module.training for module in net.modules()]
    run(Victim(net), batch, kind, EPS, steps=2, **({} if kind == "none" else {"trades": trades}))
    assert [module.training for module in net.modules()] == flags
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not batch[0].requires_grad


def test_mode_is_restored_after_an_error() -> None:
    net = network().train()
    with pytest.raises(RuntimeError, match="boom"), evaluating(net):
        assert not any(module.training for module in net.modules())
        raise RuntimeError("boom")
    assert all(module.training for module in net.modules())


def test_what_an_image_becomes_does_not_depend_on_the_batch(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    victim = Victim(network(), noise="frozen")
    whole = run(victim, batch, "fgsm", EPS)
    parts = [run(victim, (images[i : i + 2], labels[i : i + 2]), "fgsm", EPS) for i in (0, 2, 4)]
    assert float(((whole - torch.cat(parts)).abs() > 1e-6).float().mean()) < 0.05
    assert (whole != images).any()
