"""Other roundings of an attacked network: what they find is worth as much on the scored one."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from robust_snn import Victim
from robust_snn.attacks import PGD
from robust_snn.cli.inputs import load_subject

IMAGES = 250


@pytest.fixture
def trained(device):
    """Victim, images and labels of the packaged network for digits."""
    net, _, data = load_subject("snn_vgg5.digits", None, None, "digits", None, IMAGES)
    return Victim(net.eval().to(device)), data.images.to(device), data.labels.to(device)


def _robust(view, victim, images, labels):
    found = PGD(steps=10)(view, images, labels, eps=0.1).images
    return float(
        (victim.sample(found, torch.arange(len(found))).argmax(1) == labels).float().mean()
    )


def test_gradients_in_half_precision_attack_as_well(trained):
    victim, images, labels = trained
    exact = _robust(victim, victim, images, labels)
    interval = 1.96 * sqrt(exact * (1 - exact) / IMAGES)
    for view in (
        victim.replace(bf16=True, channels_last=True),
        victim.replace(gradient="bptt(save=compact)"),
    ):
        assert abs(_robust(view, victim, images, labels) - exact) < interval
