"""Networks outside of Python: recorded, compiled, converted."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from torch import Tensor, nn

from helpers import needs_dynamo
from robust_snn.neurons import (
    NoisyLIF,
    PoissonEncoder,
    TimeBatchNorm2d,
    keyed,
    set_noise,
)
from robust_snn.utils.errors import InputError
from zoo import awake, images, narrow

pytestmark = pytest.mark.cpu_only
SMALL = {"T": 2, "img_size": 8, "width": 1 / 16, "head_width": 8}
KEYS = torch.tensor([3, 4])
FROZEN = "draws of .* are frozen in what is recorded"


class Keyed(nn.Module):
    """A network whose noise is an input."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        with keyed(keys):
            return self.net(x)


def firing(name: str, noise: str = "fresh") -> nn.Module:
    net = awake(narrow(name, noise, **SMALL), shown())
    set_noise(net, noise, seed=0)
    return net


def shown() -> Tensor:
    return images("snn_vgg5")[..., :8, :8]


@pytest.mark.parametrize("name", ["snn_vgg5", "snn_vgg5_dlif"])
@pytest.mark.filterwarnings("ignore")
def test_a_traced_network_needs_no_python(name: str) -> None:
    net, file = firing(name), io.BytesIO()
    torch.jit.save(torch.jit.trace(net, shown()), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for x in (shown(), 1 - shown()):
        assert torch.equal(loaded(x), net(x))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_what_is_recorded_says_that_its_draws_are_frozen() -> None:
    layer, x = PoissonEncoder(), torch.rand(2, 2, 5)
    assert not torch.equal(layer(x), layer(x))
    with pytest.warns(UserWarning, match=FROZEN):
        exported = torch.export.export(layer, (x,)).module()
    assert torch.equal(exported(x), exported(x))
    with pytest.warns(UserWarning, match=FROZEN):
        traced = torch.jit.trace(layer, x)
    assert torch.equal(traced(x), exported(x))


def test_noise_can_be_an_input_of_what_is_recorded() -> None:
    layer, x, keys = PoissonEncoder(), torch.rand(2, 2, 5), KEYS
    with warnings.catch_warnings():
        warnings.filterwarnings("error", FROZEN)
        exported = torch.export.export(Keyed(layer), (x, keys)).module()
    for other in (keys, keys + 7):
        assert torch.equal(exported(x, other), Keyed(layer)(x, other))


@pytest.mark.filterwarnings("ignore")
def test_traces_and_onnx_hold_no_operator_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, keys = Keyed(NoisyLIF("uniform(sigma=0.3)")), torch.rand(2, 2, 5), KEYS
    traced = torch.jit.trace(layer, (x, keys), check_trace=False)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    exported = torch.export.export(layer, (x, keys))
    monkeypatch.undo()
    assert "robust_snn::" not in str(traced.inlined_graph)
    assert not [node for node in exported.graph.nodes if "robust_snn" in str(node.target)]
    others = 1 - x, keys + 7
    assert torch.equal(exported.module()(*others), layer(*others))
    assert torch.equal(traced(*others), layer(*others))


@pytest.mark.filterwarnings("ignore")
def test_older_onnx_exporter_refuses_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    with pytest.raises(InputError, match="dynamo=True"):
        torch.jit.trace(PoissonEncoder(), torch.rand(2, 2, 5))


def test_scripting_says_what_to_do_instead() -> None:
    with pytest.raises(InputError, match=r"use torch.export.export"):
        torch.jit.script(narrow("snn_vgg5", **SMALL))


@needs_dynamo
def test_a_compiled_noisy_layer_is_compiled_once() -> None:
    eager, compiled = PoissonEncoder(), PoissonEncoder()
    for layer in (eager, compiled):
        set_noise(layer, "fresh", seed=5)
    graphs: list[None] = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(None)
        return graph

    run, x = torch.compile(compiled, fullgraph=True, backend=count), torch.rand(2, 3, 4)
    for _ in range(4):
        assert torch.equal(run(x), eager(x))
    assert len(graphs) == 1 and compiled.calls == eager.calls == 4


@needs_dynamo
@pytest.mark.filterwarnings("ignore")
def test_a_network_compiled_for_batches_of_any_size() -> None:
    net = narrow("snn_vgg5", **SMALL)
    run = torch.compile(net, fullgraph=True, backend="eager", dynamic=True)
    for count in (3, 5, 2):
        x = torch.rand(count, 3, 8, 8)
        assert torch.equal(run(x), net(x))


@pytest.mark.parametrize("name", ["snn_vgg5", "snn_resnet20_stog"])
def test_norms_keep_time_and_batch_apart_when_converted(name: str) -> None:
    small = SMALL if "vgg" in name else {"T": 2, "img_size": 16, "width": 1 / 2}
    net, x = narrow(name, **small), images(name, 8)[..., : small["img_size"], : small["img_size"]]
    expected = net(x)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    norms = [m for m in converted.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(norm, TimeBatchNorm2d) for norm in norms)
    assert torch.equal(converted(x), expected)
