"""Certified training raises the bound that certifies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robust_snn import InputError
from robust_snn.certificates import certify
from robust_snn.certificates.bounded_network import BoundedNetwork
from robust_snn.certificates.interval import box_around
from robust_snn.data import load_dataset
from robust_snn.neurons import LIF
from robust_snn.training import load_recipe, train
from robust_snn.training.certified_loss import certified_loss, worst_logits
from zoo import awake, narrow

EPS = 0.02


class Small(nn.Module):
    """One hidden spiking layer."""

    def __init__(self, reset: str = "hard") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Linear(64, 24), nn.BatchNorm1d(24)
        self.neuron, self.last = LIF(decay=0.8, reset=reset), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        current = self.norm(self.first(x.flatten(1))) * 2
        logits: Tensor = self.last(self.neuron(current.unsqueeze(0), 3).mean(0))
        return logits


def digits(count: int) -> tuple[Tensor, Tensor]:
    """Images of three digits, 8x8."""
    data = load_dataset("digits", split="train", size=8)
    rows = (data.labels < 3).nonzero()[:count, 0]
    return data.images[rows], data.labels[rows]


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_training_raises_the_certified_bound(reset: str) -> None:
    net, (images, labels) = Small(reset), digits(60)
    before = certify(net.eval(), images, labels, EPS, nodes=0).certified.double().mean()
    optimiser, losses = torch.optim.Adam(net.train().parameters(), 0.02), []
    for _ in range(40):
        net(images)  # its batch norm learns running statistics
        loss = certified_loss(net, images, labels, EPS)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert net.training and all("fire" not in vars(module) for module in net.modules())
    assert losses[-1] < losses[0]
    after = certify(net.eval(), images, labels, EPS, nodes=0).certified.double().mean()
    assert before < 0.2 and after > 0.8


def test_the_trained_bound_is_the_one_that_certifies() -> None:
    net = awake(narrow("snn_vgg5", "fresh", T=2, img_size=8), torch.rand(4, 3, 8, 8)).eval()
    x, labels = torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2])
    worst = worst_logits(net, x, labels, 1e-3)
    logits, _ = BoundedNetwork(net, tolerance=1e-9).bounds(box_around(x.double(), 1e-3))
    assert torch.allclose(-worst.double(), logits.differences(labels), atol=1e-4)
    assert (worst.gather(1, labels[:, None]) == 0).all()


def test_the_recipe_certifies_and_knows_its_networks(tmp_path: Path) -> None:
    recipe = load_recipe("certified")
    assert [recipe.certified_eps(epoch) for epoch in (1, 30, 60)] == pytest.approx(
        [recipe.eps / 30, recipe.eps, recipe.eps]
    )
    data = load_dataset("digits", split="train", size=8, n=32)
    kwargs = {"T": 2, "width": 0.125, "head_width": 8, "img_size": 8, "in_chans": 1}
    short = recipe.replace(epochs=1, batch_size=16)
    train("snn_vgg5", data, data, short, out=tmp_path / "a", model_kwargs=kwargs)
    assert (tmp_path / "a/model.safetensors").exists()
    with pytest.raises(InputError, match="random numbers"):
        train("snn_vgg5_stog", data, data, short, out=tmp_path / "b", model_kwargs=kwargs)
