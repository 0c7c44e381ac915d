"""The fixture that gives tests their device."""

from __future__ import annotations

import pytest
import timm
import torch

import robust_snn  # noqa: F401  registers the models
from devices import GPU, TorchOn, on_device


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no CUDA device here: every test ran on the CPU alone")
def test_there_is_a_gpu():
    assert torch.ones(2, device="cuda").sum().item() == 2


def test_what_a_test_makes_is_on_its_device(device):
    drawn = torch.rand(3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert drawn.device.type == torch.get_default_device().type == device.type
    assert drawn.is_leaf
    assert drawn[0].item() == pytest.approx(0.4962566, abs=1e-6)  # the same on every device


def test_a_device_that_is_named_is_kept():
    elsewhere = TorchOn("meta")
    assert elsewhere.zeros(2).device.type == elsewhere.tensor([1]).device.type == "meta"
    assert elsewhere.zeros(2, device="cpu").device.type == "cpu"


def test_networks_are_made_on_the_device():
    elsewhere = TorchOn("meta")
    linear = elsewhere.nn.Linear(2, 3)
    assert type(linear) is torch.nn.Linear and isinstance(linear, elsewhere.nn.Linear)
    assert linear.weight.device.type == "meta"

    class Mine(elsewhere.nn.Linear):
        pass

    assert Mine(2, 3).weight.device.type == "meta"
    assert isinstance(Mine(2, 3), Mine) and not isinstance(linear, Mine)
    assert elsewhere.nn.Module is torch.nn.Module
    built = on_device("meta", "timm", timm).create_model("snn_vgg5", T=2, width=0.125, img_size=8)
    assert next(built.parameters()).device.type == "meta"
