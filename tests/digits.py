"""A small network that has learned something."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

import robust_snn
from robust_snn import Victim


class Digits(NamedTuple):
    victim: Victim
    images: Tensor
    labels: Tensor


@pytest.fixture
def digits(trained_digits: Digits, device: torch.device) -> Digits:
    """A spiking net trained on digits for seconds, and test images that it classifies correctly."""
    if device.type == "cpu":
        return trained_digits
    victim, images, labels = trained_digits
    return Digits(copy.deepcopy(victim).to(device), images.to(device), labels.to(device))


@pytest.fixture(scope="session")
def trained_digits() -> Digits:
    """The same on the CPU."""
    torch.manual_seed(0)
    data = load_digits()
    images = torch.tensor(data.images / 16).float()[:, None]
    labels = torch.tensor(data.target)
    order = torch.randperm(len(images))
    images, labels = images[order], labels[order]
    victim = robust_snn.adapt(
        "snn_vgg5", T=3, width=0.125, head_width=32, img_size=8, in_chans=1, num_classes=10
    )
    net = victim.net
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    net.train()
    for _ in range(4):
        for batch in torch.randperm(1500).split(50):
            optimizer.zero_grad()
            noisy = (images[batch] + 0.3 * torch.randn(len(batch), 1, 8, 8)).clamp(0, 1)
            F.cross_entropy(net(noisy), labels[batch]).backward()
            optimizer.step()
    net.eval()
    images, labels = images[1500:], labels[1500:]
    right = victim.sample(images, torch.arange(len(images))).argmax(1) == labels
    return Digits(victim, images[right][:100], labels[right][:100])
