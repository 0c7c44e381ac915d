"""foolbox's tests on victims of ours in place of its PyTorch models."""

from __future__ import annotations

import sys
from typing import Any

import eagerpy
import pytest
import timm

import robust_snn
from robust_snn.adapters.foolbox import to_foolbox

MODELS = {
    "pytorch_simple_model_default": "snn_vgg5.digits",
    "pytorch_mnist": "snn_vgg5_stog.digits",
}
IMAGES = 8


def configure(config: pytest.Config) -> None:
    config.option.backend, config.option.skipslow = "pytorch", True
    theirs = sys.modules["conftest"]
    for name, described in theirs.models.items():
        if name in MODELS:
            made = described._replace(model_fn=model_and_data(MODELS[name]), real=True)
            theirs.models[name] = made._replace(low_dimensional_input=True)


def keeps(item: pytest.Item) -> bool:
    """Whether a test is of a model of ours, or of none of foolbox's own."""
    values = getattr(getattr(item, "callspec", None), "params", {}).values()
    theirs = sys.modules["conftest"].models.keys() - MODELS
    return not any(isinstance(value, str) and value in theirs for value in values)


def model_and_data(name: str) -> Any:
    """What foolbox's fixtures give of a model: it, images and labels that it knows."""

    def make(request: Any) -> tuple[Any, Any, Any]:
        net = timm.create_model(name, pretrained=True).eval()
        model = to_foolbox(robust_snn.Victim(net, noise="frozen"))
        images = eagerpy.astensor(robust_snn.data.load_dataset("digits", n=IMAGES).images)
        return model, images, model(images).argmax(axis=-1)

    return make
