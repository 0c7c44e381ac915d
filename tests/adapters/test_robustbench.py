"""RobustBench's `benchmark` without RobustBench: the same pair, the card, honest for noise."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from robust_snn import InputError, Victim
from robust_snn.adapters._autoattack_state import original_package
from robust_snn.adapters.autoattack import AutoAttack, EvaluationState, autoattack, shim
from robust_snn.adapters.robustbench import benchmark
from robust_snn.data import load_dataset
from victims import untouched
from zoo import awake, narrow

SHORT = {"n_iter": 2, "n_queries": 2}


def victim_of_digits(noisy: bool) -> Victim:
    name = "snn_vgg5_stog" if noisy else "snn_vgg5"
    net = narrow(name, "fresh", T=2, img_size=16, in_chans=1, num_classes=10)
    return Victim(awake(net, load_dataset("digits", n=8).images.to(torch.get_default_device())))


class Threat(Enum):
    Linf = "Linf"


def test_the_pair_is_that_of_autoattack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    victim, data = victim_of_digits(False), load_dataset("digits", n=12)
    with untouched(victim):
        clean, adversarial = benchmark(
            victim, 12, "digits", Threat.Linf, True, "tiny", eps=0.05, **SHORT
        )
    images, labels = (part.to(torch.get_default_device()) for part in (data.images, data.labels))
    answers = victim(images).argmax(1)
    assert clean == pytest.approx(float((answers == labels).float().mean()))
    result = autoattack(victim, images, labels, 0.05, batch_size=32, **SHORT)
    assert adversarial == pytest.approx(result.claimed)
    card = (tmp_path / "model_info" / "digits" / "Linf" / "tiny.md").read_text()
    assert f"**Robust accuracy**: {adversarial:.2%}" in card and "## tiny" in card


def test_null_attack_gives_the_clean_accuracy_at_every_call() -> None:
    victim = victim_of_digits(True)
    clean, adversarial = benchmark(victim, 12, "digits", eps=1e-6, **SHORT)
    assert abs(clean - adversarial) < 0.1
    assert benchmark(victim, 12, "digits", eps=1e-6, **SHORT) == (clean, adversarial)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": 0.1, "threat_model": "linf"}, "did you mean 'Linf'"),
        ({}, "eps is needed"),
        ({"eps": 0.1, "to_disk": True}, "needs model_name"),
        ({"eps": 0.1, "preprocessing": "Res256Crop224"}, "preprocessing is not supported"),
        ({"eps": 0.1, "dataset": "digit"}, "did you mean 'digits'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    arguments = {"dataset": "digits", **arguments}
    with pytest.raises(InputError, match=message):
        benchmark(victim_of_digits(False), 4, **arguments)  # type: ignore[arg-type]


def test_shim_is_opt_in_and_spares_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "autoattack"]:
        monkeypatch.delitem(sys.modules, name)
    installed = find_spec("autoattack") is not None
    shim()
    try:
        found = import_module("autoattack")
        assert installed or found.AutoAttack is AutoAttack
        from_disk = import_module("autoattack.state").EvaluationState.from_disk
        assert installed or from_disk == EvaluationState.from_disk
        for name, member in (("autopgd_base", "APGDAttack"), ("square", "SquareAttack")):
            assert hasattr(import_module(f"autoattack.{name}"), member)
        assert import_module("autoattack.autoattack").AutoAttack is found.AutoAttack
        with nullcontext() if installed else pytest.raises(ImportError, match="not installed"):
            original_package()
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "autoattack"]:
            sys.modules.pop(name)


def test_a_net_is_wrapped() -> None:
    net = victim_of_digits(False).net
    assert torch.is_tensor(AutoAttack(net, eps=0.1, verbose=False).victim(torch.rand(1, 1, 16, 16)))
