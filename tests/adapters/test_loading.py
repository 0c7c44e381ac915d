"""Adapters load late, and leave the caller's process as they found it."""

from __future__ import annotations

import pickle
import random
import re
import subprocess
import sys
from importlib.metadata import requires

import numpy as np
import pytest
import torch
from torch import nn

from robust_snn.adapters import LIBRARIES
from robust_snn.utils.modules import undisturbed
from victims import tiny_victim, told_by


def test_import_loads_no_library() -> None:
    code = (
        "import sys, robust_snn; robust_snn.adapters\n"
        "loaded = {'art', 'torchattacks', 'pyautoattack'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.cpu_only
def test_every_library_is_a_dependency_or_an_extra_of_its_name() -> None:
    required = requires("robust-snn") or []
    for module, distribution in LIBRARIES.items():
        lines = [line for line in required if re.match(rf"{distribution}\b", line)]
        extra = re.compile(rf"extra == ['\"]{module}['\"]")
        assert any("extra ==" not in line or extra.search(line) for line in lines), module


def test_unknown_adapter_is_an_attribute_error() -> None:
    import robust_snn

    with pytest.raises(AttributeError, match="no attribute 'artt'"):
        _ = robust_snn.adapters.artt


@pytest.mark.parametrize(
    ("library", "extra"), [("art", "robust-snn[art]"), ("torchattacks", "robust-snn[torchattacks]")]
)
def test_absent_library_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, library: str, extra: str
) -> None:
    import robust_snn

    assert library in LIBRARIES
    for name in list(sys.modules):
        if name == library or name.startswith((f"{library}.", f"robust_snn.adapters.{library}")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(vars(robust_snn.adapters), library, raising=False)
    with pytest.raises(ImportError, match="pip install") as caught:
        getattr(robust_snn.adapters, library)
    assert extra in str(caught.value)


def test_undisturbed_gives_everything_back() -> None:
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()

    def trace(*_: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(KeyError), undisturbed(net):
            random.random()
            np.random.rand()
            torch.rand(1)
            net.eval()
            sys.settrace(None)
            raise KeyError
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    assert net[0].training and not net[1].training


NAMES = {"art": "FastGradientMethod", "foolbox": "LinfFastGradientAttack", "torchattacks": "FGSM"}


@pytest.mark.parametrize("library", NAMES)
def test_attacks_are_sent_to_other_processes(library: str) -> None:
    """A pickled attack goes on where it was: its next call has the same random numbers."""
    adapter = pytest.importorskip(f"robust_snn.adapters.{library}")
    victim = tiny_victim(True)
    images, labels = told_by(victim, 2)
    attack = adapter.attack(victim, NAMES[library], eps=0.1)
    first = attack(images, labels)
    sent = pickle.loads(pickle.dumps(attack))  # noqa: S301  our own
    made = sent(images, labels)
    assert torch.equal(made, attack(images, labels)) and not torch.equal(made, images)
    assert made.shape == first.shape
