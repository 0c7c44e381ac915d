"""FGSM stays in the ball, follows the gradient, and leaves the network as it was."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from robust_snn import InputError, Victim
from robust_snn.attacks.fgsm import evaluating, fgsm, loss_gradient, rfgsm

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


class Linear(nn.Module):
    """Two classes that differ by `sum(w * x)`: the gradient's sign is known."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)


def test_closed_form() -> None:
    weight = torch.tensor([[[2.0, -3.0, 0.0, 1.0]]])
    images = torch.full((2, 1, 1, 4), 0.5)
    out = fgsm(Victim(Linear(weight)), images, torch.tensor([0, 1]), 0.1)
    expected = torch.tensor([[0.6, 0.4, 0.5, 0.6], [0.4, 0.6, 0.5, 0.4]]).view(2, 1, 1, 4)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("eps", [0.0, EPS, 0.7, 1.0])
def test_stays_in_the_ball_and_in_range(batch: tuple[Tensor, Tensor], eps: float) -> None:
    images, labels = batch
    victim = Victim(network())
    for out in (fgsm(victim, images, labels, eps), rfgsm(victim, images, labels, eps)):
        assert float((out - images).abs().max()) <= eps + 1e-6
        assert float(out.min()) >= 0 and float(out.max()) <= 1
        assert not out.requires_grad


def test_random_step(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    victim = Victim(network(""))
    start = torch.Generator().manual_seed(1)
    first = rfgsm(victim, images, labels, EPS, generator=start)
    again = rfgsm(victim, images, labels, EPS, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, rfgsm(victim, images, labels, EPS, generator=start))
    assert torch.equal(
        rfgsm(victim, images, labels, EPS, alpha=0.0), fgsm(victim, images, labels, EPS)
    )
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2)).sign()
    alone = rfgsm(victim, images, labels, EPS, EPS, torch.Generator().manual_seed(2))
    torch.testing.assert_close(alone, (images + EPS * noise).clamp(0, 1))


def test_leaves_the_network_as_it_was(batch: tuple[Tensor, Tensor]) -> None:
    net = network().train()
    net.stages[0].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flags = [module.training for module in net.modules()]
    rfgsm(Victim(net), *batch, EPS)
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


def test_gradient_of_an_image_does_not_depend_on_the_batch(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    victim = Victim(network(), noise="frozen")
    whole = loss_gradient(victim, images, labels)
    parts = [loss_gradient(victim, images[i : i + 2], labels[i : i + 2]) for i in (0, 2, 4)]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-3, atol=1e-5)
    assert whole.abs().sum() > 0


@pytest.mark.parametrize("eps", [-0.1, 1.5, float("nan")])
def test_bad_radius(batch: tuple[Tensor, Tensor], eps: float) -> None:
    victim = Victim(network())
    with pytest.raises(InputError, match="eps must be in"):
        fgsm(victim, *batch, eps)
    with pytest.raises(InputError, match="alpha must be in"):
        rfgsm(victim, *batch, 0.1, alpha=0.2)
