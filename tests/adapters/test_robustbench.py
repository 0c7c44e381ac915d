"""RobustBench's `benchmark` without RobustBench: the same pair, the card, honest for noise."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path

import pytest
import torch

from robust_snn import InputError, Victim
from robust_snn.adapters.autoattack import AutoAttack, autoattack, shim
from robust_snn.adapters.robustbench import benchmark
from robust_snn.data import load_dataset
from victims import untouched
from zoo import awake, narrow

SHORT = {"n_iter": 2, "n_queries": 2}


def victim_of_digits(noisy: bool) -> Victim:
    name = "snn_vgg5_stog" if noisy else "snn_vgg5"
    net = narrow(name, "fresh", T=2, img_size=16, in_chans=1, num_classes=10)
    return Victim(awake(net, load_dataset("digits", n=8).images))


class Threat(Enum):
    Linf = "Linf"


def test_the_pair_is_that_of_autoattack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    victim, data = victim_of_digits(False), load_dataset("digits", n=12)
    with untouched(victim):
        clean, adversarial = benchmark(
            victim, 12, "digits", Threat.Linf, True, "tiny", eps=0.05, **SHORT
        )
    answers = victim(data.images).argmax(1)
    assert clean == pytest.approx(float((answers == data.labels).float().mean()))
    result = autoattack(victim, data.images, data.labels, 0.05, batch_size=32, **SHORT)
    assert adversarial == pytest.approx(result.claimed)
    card = (tmp_path / "model_info" / "digits" / "Linf" / "tiny.md").read_text()
    assert f"**Robust accuracy**: {adversarial:.2%}" in card and "## tiny" in card


def test_null_attack_gives_the_clean_accuracy() -> None:
    clean, adversarial = benchmark(victim_of_digits(True), 12, "digits", eps=1e-6, **SHORT)
    assert abs(clean - adversarial) < 0.1


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
    monkeypatch.delitem(sys.modules, "autoattack", raising=False)
    shim()
    try:
        import autoattack as found

        assert found.AutoAttack is AutoAttack
    except AttributeError:  # fra31's own package is installed
        assert found.__file__
    finally:
        sys.modules.pop("autoattack", None)


def test_a_net_is_wrapped() -> None:
    net = victim_of_digits(False).net
    assert torch.is_tensor(AutoAttack(net, eps=0.1, verbose=False).victim(torch.rand(1, 1, 16, 16)))
