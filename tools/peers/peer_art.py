"""ART's tests on our estimator in place of its PyTorch classifiers, with digits for MNIST."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.preprocessing import MinMaxScaler

import robust_snn
from robust_snn.adapters.art import to_art

SHAPE = (1, 28, 28)
ABSENT = ("tensorflow", "tensorflow.keras", "tensorflow.keras.callbacks", "keras", "keras.backend")
OTHERS = ("tensorflow", "keras", "scikit", "iris", "tabular", "feature_vectors")
TABLES = {"iris": load_iris, "diabetes": load_diabetes}

# ART's tests import them, whatever is tested
for _name in ABSENT:
    _absent = ModuleType(_name)
    _absent.__spec__ = ModuleSpec(_name, None)
    vars(_absent).update(__version__="2.0", __path__=[])
    sys.modules[_name] = _absent
vars(sys.modules["keras"])["backend"] = sys.modules["keras.backend"]
vars(sys.modules["tensorflow.keras.callbacks"])["LearningRateScheduler"] = object
vars(sys.modules["tensorflow"])["random"] = SimpleNamespace(set_seed=lambda seed: None)


def configure(config: pytest.Config) -> None:
    changes = {
        "get_image_classifier_pt": image_classifier,
        "get_image_classifier_pt_functional": image_classifier,
        "load_dataset": load_dataset,
        "get_default_framework": lambda: "pytorch",
    }
    for name in ("tests.utils", "conftest"):
        module = vars(sys.modules[name])
        module.update({key: value for key, value in changes.items() if key in module})


def keeps(item: pytest.Item) -> bool:
    """Whether a test is of a classifier of images under PyTorch."""
    return not any(word in item.name for word in OTHERS)


def image_classifier(from_logits: bool = False, **kwargs: Any) -> Any:
    """Our estimator of a trained network, for images as large as MNIST's."""
    net = timm.create_model("snn_vgg5.digits", pretrained=True).eval()
    estimator = to_art(robust_snn.adapt(net, resize=16), input_shape=SHAPE)
    return estimator if from_logits else estimator.as_probabilities()


def load_dataset(name: str) -> tuple[Any, Any, float, float]:
    """Digits as ART's `load_dataset("mnist")` gives MNIST, and tables that its tests load."""
    if name in TABLES:
        table = TABLES[name]()
        rows = MinMaxScaler().fit_transform(table.data).astype(np.float32)
        answers = np.eye(3, dtype=np.float32)[table.target] if name == "iris" else table.target
        return (rows, answers), (rows, answers), 0.0, 1.0
    if name != "mnist":
        pytest.skip(f"{name} is no data set that is at hand")
    parts = []
    for split in ("train", "test"):
        data = robust_snn.data.load_dataset("digits", split=split, size=28)
        images = data.images.permute(0, 2, 3, 1).numpy()
        parts.append((images, np.eye(10, dtype=np.float32)[data.labels]))
    return parts[0], parts[1], 0.0, 1.0


torch.manual_seed(0)
