"""Weights in the forms that other projects write: each is read, or refused for its true reason."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from robust_snn import InputError
from robust_snn.training import load_checkpoint


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Linear(2, 3)))


NET = network()
STATE = NET.state_dict()
OTHER = {name: value + 1 for name, value in STATE.items()}


def prefixed(prefix: str, table: Any = STATE) -> dict[str, Any]:
    return {prefix + name: value for name, value in table.items()}


def same(net: nn.Module, table: Any) -> bool:
    state = net.state_dict()
    return all(torch.equal(state[name], value) for name, value in table.items())


READ: list[tuple[str, Any]] = [
    ("w.pth", STATE),
    ("model_best.pth.tar", {"state_dict": STATE, "epoch": 3, "best_acc1": np.float32(91)}),
    ("w.pt", {"net": STATE, "acc": 91.0, "args": argparse.Namespace(T=4, out=Path("runs"))}),
    (
        "w.pth",
        {"model_state_dict": STATE, "optimizer": torch.optim.Adam(NET.parameters()).state_dict()},
    ),
    ("w.pth", nn.DataParallel(NET).state_dict()),
    ("w.pth", {"model": prefixed("module._orig_mod.")}),
    ("w.ckpt", {"state_dict": {**prefixed("net."), "loss.weight": torch.ones(3)}, "epoch": 1}),
    ("w.bin", {"model": STATE, "model_ema": STATE}),  # equal, so that either is meant
    ("w.pth", AveragedModel(NET).state_dict()),
    ("w.pth", {"weights": prefixed("any_name."), "epoch": 3}),
    ("w.safetensors", prefixed("module.")),
]


@pytest.mark.parametrize(("name", "content"), READ)
def test_forms_that_are_read(tmp_path: Path, name: str, content: Any) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    net = network(1)
    load_checkpoint(net, path)
    assert same(net, STATE)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_network_takes_plain_weights(
    tmp_path: Path, wrap: Callable[[nn.Module], Any]
) -> None:
    torch.save(STATE, tmp_path / "w.pth")
    net = network(1)
    load_checkpoint(wrap(net), tmp_path / "w.pth")
    assert same(net, STATE)


def test_several_tables_that_fit_ask_which(tmp_path: Path) -> None:
    path = tmp_path / "ema.pth"
    torch.save({"state_dict": STATE, "state_dict_ema": prefixed("module.", OTHER)}, path)
    net = network(1)
    with pytest.raises(InputError, match=r"say which are meant, such as .*ema.pth:state_dict_ema"):
        load_checkpoint(net, path)
    assert same(net, network(1).state_dict())
    for place, table in (("state_dict", STATE), ("state_dict_ema", OTHER)):
        load_checkpoint(net, f"{path}:{place}")
        assert same(net, table)
    with pytest.raises(InputError, match="did you mean 'state_dict"):
        load_checkpoint(net, f"{path}:state_dicts")


@pytest.mark.parametrize(
    "averaged",
    [
        {"ema": {"decay": 0.99, "shadow_params": list(STATE.values())}},
        {"ema_weights": list(STATE.values())},
        prefixed("ema_model.", {"0.weight": STATE["0.weight"]}),
    ],
)
def test_averaged_weights_are_not_left_aside_in_silence(tmp_path: Path, averaged: Any) -> None:
    path = tmp_path / "w.pth"
    torch.save({"model": STATE, **averaged}, path)
    with pytest.raises(InputError, match="also holds averaged weights, at ema"):
        load_checkpoint(network(1), path)
    net = network(1)
    load_checkpoint(net, f"{path}:model")
    assert same(net, STATE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NET, r"building .*torch.nn.modules.conv.Conv2d.* would run its code; save the state_dict"),
        ({"state_dict": STATE, "config": slice(3)}, "building builtins.slice would run its code"),
        ({"state_dict": {"0.weight": STATE["0.weight"]}}, "lacks '0.bias' and 7 more; build"),
        ({"model": {**STATE, "3.weight": torch.ones(1)}}, "has unexpected '3.weight'; build"),
        ({"epoch": 3}, "does not hold a plain table"),
        ([STATE], "does not hold a plain table"),
    ],
)
def test_forms_that_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(network(1), path)
    assert "\n" not in str(error.value)


def with_value(name: str, value: Tensor) -> dict[str, Tensor]:
    return {**STATE, name: value}


WEIGHT, VARIANCE = STATE["0.weight"], STATE["1.running_var"]
UNUSABLE = {
    "int8": (with_value("0.weight", WEIGHT.to(torch.int8)), "'0.weight' .* holds torch.int8"),
    "bool": (with_value("0.weight", WEIGHT > 0), "holds torch.bool"),
    "complex": (with_value("0.weight", WEIGHT.to(torch.complex64)), "holds torch.complex64"),
    "float8": (with_value("0.weight", WEIGHT.to(torch.float8_e4m3fn)), "holds torch.float8"),
    "sparse": (with_value("0.bias", STATE["0.bias"].to_sparse()), "'0.bias' .* torch.sparse_coo"),
    "meta": (with_value("0.weight", WEIGHT.to("meta")), "is a meta tensor"),
    "nested": (  # which PyTorch from 2.15 on does not read as a tensor
        with_value("0.weight", torch.nested.nested_tensor([WEIGHT])),
        "is a nested tensor|_rebuild_nested_tensor",
    ),
    "count as float": (with_value("1.num_batches_tracked", torch.tensor(1.0)), "needs torch.int64"),
    "NaN": (with_value("2.0.bias", torch.full((3,), torch.nan)), "'2.0.bias' .* not finite"),
    "infinite mean": (with_value("1.running_mean", VARIANCE / 0), "running_mean' .* not finite"),
    "NaN variance": (with_value("1.running_var", VARIANCE * torch.nan), "not finite"),
    "negative variance": (with_value("1.running_var", -VARIANCE), "variances below 0"),
    "too large": (with_value("0.weight", WEIGHT.double() + 1e300), "as torch.float32"),
    "averaged, NaN": ({"model_ema": with_value("0.bias", VARIANCE * torch.nan)}, "not finite"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_tensors_that_no_network_can_take(tmp_path: Path, case: str) -> None:
    content, message = UNUSABLE[case]
    torch.save(content, tmp_path / "w.pth")
    net = network(1)
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(net, tmp_path / "w.pth")
    assert "build the model" not in str(error.value)  # which would blame the wrong thing
    assert same(net, network(1).state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_another_precision_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save(network().to(dtype).state_dict(), tmp_path / "w.pth")
    net = network(1)
    load_checkpoint(net, tmp_path / "w.pth")
    assert same(
        net,
        {
            name: value.to(dtype).to(value.dtype)
            for name, value in STATE.items()
            if value.is_floating_point()
        },
    )


@pytest.mark.filterwarnings("ignore")
def test_a_program_is_no_table(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "w.pt")
    with pytest.raises(InputError, match="program of TorchScript"):
        load_checkpoint(nn.Linear(2, 2), tmp_path / "w.pt")


WRITERS: list[Callable[[Path], object]] = [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"\x80\x02]q\x00."),
    lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
]


@pytest.mark.parametrize("write", WRITERS)
def test_damaged_files(tmp_path: Path, write: Callable[[Path], object]) -> None:
    write(tmp_path / "w.pth")
    with pytest.raises(InputError, match="w.pth"):
        load_checkpoint(network(), tmp_path / "w.pth")
