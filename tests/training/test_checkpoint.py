"""Checkpoints: what was saved comes back, and nothing else is let in."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from robust_snn import InputError
from robust_snn.training import load_checkpoint, load_model, save_checkpoint

KWARGS = {"T": 2, "width": 0.1, "head_width": 8, "img_size": 8, "in_chans": 1}
CARD = {"model": {"name": "snn_vgg5_stog", "kwargs": KWARGS}}


def network(**changes: Any) -> nn.Module:
    return timm.create_model("snn_vgg5_stog", **{**KWARGS, **changes})


@pytest.fixture
def saved(tmp_path: Path) -> tuple[nn.Module, Path]:
    net = network()
    save_checkpoint(net, tmp_path / "model.safetensors", CARD)
    return net, tmp_path / "model.safetensors"


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


def test_round_trip(saved: tuple[nn.Module, Path]) -> None:
    net, path = saved
    fresh = network()
    assert not same(fresh, net)
    load_checkpoint(fresh, path)
    assert same(fresh, net)
    loaded, card = load_model(path)
    assert same(loaded, net)
    assert not loaded.training
    assert card["model"] == CARD["model"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.json", "model.safetensors"]


def test_other_time_steps_than_those_of_the_card_are_said(
    saved: tuple[nn.Module, Path], caplog: pytest.LogCaptureFixture
) -> None:
    load_checkpoint(network(), saved[1])
    assert not caplog.records
    load_checkpoint(network(T=4), saved[1])
    assert "was trained with T=2, the network has T=4" in caplog.text


class Bomb:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_malicious_pickle_does_not_execute(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    torch.save({"state_dict": Bomb(trace)}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb(trace)))
    (tmp_path / "named.safetensors").write_bytes(pickle.dumps(Bomb(trace)))
    for path in ("zip.pth", "plain.pth", "named.safetensors"):
        with pytest.raises(InputError) as error:
            load_checkpoint(network(), tmp_path / path)
        assert "\n" not in str(error.value)
        assert "weights_only=False" not in str(error.value)
    assert not trace.exists()


def test_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "w.pth")
    with pytest.raises(InputError, match="holds more than tensors"):
        load_checkpoint(network(), tmp_path / "w.pth")


def _without(table: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: _without(t, "fc.bias"), "lacks 'fc.bias'; build the model"),
        (lambda t: {"other": torch.zeros(1)}, "lacks 'stages.*' and .* more"),
        (lambda t: {**t, "extra": torch.zeros(1)}, "has unexpected 'extra';"),
        (
            lambda t: {**t, "fc.bias": torch.zeros(3)},
            r"has 'fc.bias' of shape \(3,\), the model needs \(10,\)",
        ),
        (lambda t: {**t, "fc.bias": torch.full((10,), torch.nan)}, "is not finite"),
    ],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    table = change({name: value + 1 for name, value in before.items()})
    safetensors.torch.save_file(table, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=message):
        load_checkpoint(net, tmp_path / "w.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_damaged_and_missing_files(saved: tuple[nn.Module, Path]) -> None:
    net, path = saved
    data = path.read_bytes()
    for wrong in (b"", data[: len(data) // 2], b"\xff" * 100, b"{}"):
        path.write_bytes(wrong)
        with pytest.raises(InputError, match="not an intact safetensors file"):
            load_checkpoint(net, path)
    torch.save([1, 2], path.with_name("list.pth"))
    with pytest.raises(InputError, match="plain table of tensors"):
        load_checkpoint(net, path.with_name("list.pth"))
    path.with_name("half.pth").write_bytes(path.with_name("list.pth").read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(net, path.with_name("half.pth"))
    with pytest.raises(InputError, match="no checkpoint at"):
        load_checkpoint(net, path.with_name("none.safetensors"))
    with pytest.raises(InputError, match=r"expected a \.safetensors"):
        load_checkpoint(net, path.with_name("model.json"))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("{", "cannot read the card"),
        ("[]", "is not a model card"),
        ("{}", "is not a model card"),
        (json.dumps({"robust_snn_card": 2, **CARD}), "is not a model card of format 1"),
        (
            json.dumps({"robust_snn_card": 1, "model": {"name": "hf-hub:a/b", "kwargs": {}}}),
            "refusing model 'hf-hub:a/b'",
        ),
        (
            json.dumps(
                {
                    "robust_snn_card": 1,
                    "model": {"name": "snn_vgg5", "kwargs": {"checkpoint_path": "x.pth"}},
                }
            ),
            "refusing 'checkpoint_path'",
        ),
        (
            json.dumps({"robust_snn_card": 1, "model": {"name": "snn_vgg5", "kwargs": {"t": 1}}}),
            "unknown argument of .*'t'",
        ),
    ],
)
def test_bad_cards(saved: tuple[nn.Module, Path], card: str, message: str) -> None:
    saved[1].with_suffix(".json").write_text(card)
    with pytest.raises(InputError, match=message):
        load_model(saved[1])


def test_without_a_card(saved: tuple[nn.Module, Path]) -> None:
    saved[1].with_suffix(".json").unlink()
    with pytest.raises(InputError, match="no card .* name the model"):
        load_model(saved[1])
    with pytest.raises(InputError, match="no checkpoint at"):
        load_model(saved[1].with_name("none.safetensors"))


def test_reading_a_checkpoint_loads_no_trainer() -> None:
    code = (
        "import sys, robust_snn.cli.inputs\n"
        "from robust_snn.training.checkpoint import load_model\n"
        "loaded = {'accelerate', 'robust_snn.training.trainer'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
