"""Which backend runs, and what a wrong choice says."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from helpers import needs_dynamo
from robust_snn.kernels import (
    Dynamics,
    Gate,
    NoisyFiring,
    RateSlope,
    Recursion,
    Surrogate,
    backend,
    sample_keys,
    spiking_loop,
)
from robust_snn.kernels.backend import choose_backend
from robust_snn.kernels.spiking.kernel_args import Wanted, kernel_args, layer_tensors
from robust_snn.kernels.spiking.spec import LayerInputs
from robust_snn.utils.errors import InputError
from zoo import awake, images, narrow


def test_auto_suits_the_tensors(monkeypatch, compiled):
    monkeypatch.delenv("ROBUST_SNN_BACKEND", raising=False)
    assert choose_backend("auto", torch.zeros(1)) == compiled
    assert choose_backend("auto", torch.zeros(1, dtype=torch.bfloat16), None) == compiled
    assert choose_backend("auto", torch.zeros(1, dtype=torch.float64)) == "torch"
    assert choose_backend("auto", torch.zeros(1), torch.zeros(1, device="meta")) == "torch"


def test_the_environment_overrides_auto_only(monkeypatch, compiled):
    monkeypatch.setenv("ROBUST_SNN_BACKEND", "torch")
    assert choose_backend("auto", torch.zeros(1)) == "torch"
    assert choose_backend(compiled, torch.zeros(1)) == compiled
    monkeypatch.setenv("ROBUST_SNN_BACKEND", "nunba")
    with pytest.raises(InputError, match="did you mean 'numba'"):
        choose_backend("auto", torch.zeros(1))


def test_an_explicit_choice_never_falls_back(compiled):
    with pytest.raises(InputError, match="float64"):
        choose_backend(compiled, torch.zeros(1, dtype=torch.float64))
    with pytest.raises(InputError, match="meta"):
        choose_backend(compiled, torch.zeros(1, device="meta"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"steps": 5}, r"T = 5 or 1, got \(4, 2, 3\)"),
        ({"membrane_gain": torch.ones(3)}, r"membrane_gain must be \[T\] with T = 4"),
        ({"gate": Gate(torch.ones(2), torch.zeros(2).long())}, "one probability per neuron"),
        ({"gate": Gate(torch.ones(3), torch.zeros(1).long())}, "one key per sample: 2"),
        ({"noise": NoisyFiring("cauchy", 1.0, torch.zeros(2).long())}, "unknown membrane noise"),
    ],
)
def test_shapes_that_do_not_fit(arguments, message):
    with pytest.raises(InputError, match=message):
        spiking_loop(torch.zeros(4, 2, 3), Dynamics(), **arguments)


def test_second_derivatives_need_the_reference(compiled):
    current = torch.randn(4, 2, 30, requires_grad=True)
    spikes = spiking_loop(current, Dynamics(), Recursion(Surrogate("atan", 2.0)), backend=compiled)
    (first,) = torch.autograd.grad(spikes.sum(), current, create_graph=True)
    with pytest.raises(InputError, match="backend='torch'"):
        first.sum().backward()


@pytest.mark.slow
def test_compiles_without_graph_breaks():
    probability, keys = torch.rand(30), torch.arange(2)

    def layer(current):
        rule = Recursion(Surrogate("atan", 2.0))
        return spiking_loop(current, Dynamics(0.5), rule, gate=Gate(probability, keys, 1))

    current = torch.randn(4, 2, 30, requires_grad=True)
    spikes, compiled = layer(current), torch.compile(layer, fullgraph=True)(current)
    assert torch.equal(spikes, compiled)
    gradients = [torch.autograd.grad(s.square().sum(), current)[0] for s in (spikes, compiled)]
    assert torch.equal(*gradients)


@pytest.mark.slow
@needs_dynamo
@pytest.mark.parametrize("name", ["snn_vgg5", "snn_vgg5_stog", "snn_wrn16"])
@torch.no_grad()
def test_a_whole_model_compiles_to_the_same_spikes(name):
    x = images(name)
    net = awake(narrow(name), x)
    assert torch.equal(torch.compile(net, fullgraph=True)(x), net(x))


@pytest.mark.parametrize("rule", [RateSlope(1.0), Recursion(Surrogate("atan", 2.0))])
@pytest.mark.parametrize("last", [False, True])
def test_operators_satisfy_pytorch(rule, last, compiled):
    """Schemas, fake tensors and layouts, as `torch.compile` relies on them."""
    current = torch.randn(4, 2, 3, 5, 6)
    if last:
        current = current.flatten(0, 1).to(memory_format=torch.channels_last).view_as(current)
    gate = Gate(torch.rand(3, 5, 6), torch.arange(2), 1)
    inputs = LayerInputs(4, gate=gate)
    layer = (*layer_tensors(inputs), compiled, *kernel_args(Dynamics(0.5), rule, inputs))
    operators = torch.ops.robust_snn
    arguments = (current, *layer)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(operators.spiking_forward.default, arguments, test_utils=tests)
    torch.library.opcheck(operators.membranes.default, arguments, test_utils=tests)
    spikes, saved_bytes = operators.spiking_forward(*arguments)
    wanted = Wanted(False, last, affine=False, gains=False, probability=True)
    back = (torch.randn_like(spikes), current, saved_bytes, None, *wanted, *layer)
    torch.library.opcheck(operators.spiking_backward.default, back, test_utils=tests)


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    "triton, trouble",
    [
        (None, "not installed"),
        ("2.1.0", "needs Triton 3.4 or newer, found 2.1.0"),
        ("3.6.0+git1", ""),
        ("3.10.0", ""),
    ],
)
def test_triton_that_cannot_run_is_named(triton, trouble, monkeypatch, caplog):
    module = None if triton is None else SimpleNamespace(__version__=triton)
    monkeypatch.setitem(sys.modules, "triton", module)
    backend._trouble.cache_clear()
    on_a_gpu = [SimpleNamespace(device=torch.device("cuda:0"), dtype=torch.float32)]
    reason = backend.why_not("triton", on_a_gpu)
    assert trouble in reason and bool(trouble) == bool(reason) == bool(caplog.messages)
    assert choose_backend("auto", *on_a_gpu) == ("torch" if trouble else "triton")
    if trouble:
        with pytest.raises(InputError, match=trouble):
            choose_backend("triton", *on_a_gpu)
    backend._trouble.cache_clear()


@pytest.mark.cpu_only
def test_numba_that_cannot_be_imported_is_named(monkeypatch, caplog):
    """As where NumPy is newer than it knows."""
    monkeypatch.setitem(sys.modules, "numba", None)
    backend._trouble.cache_clear()
    monkeypatch.delenv("ROBUST_SNN_BACKEND", raising=False)
    current = torch.zeros(4, 2, 5)
    assert choose_backend("auto", current) == "torch" and not backend.auto_runs("numba", current)
    with pytest.raises(InputError, match="'numba' cannot run: the package 'numba' .*use 'torch'"):
        choose_backend("numba", current)
    assert len([line for line in caplog.messages if "slower PyTorch reference" in line]) == 1
    backend._trouble.cache_clear()


@pytest.mark.cpu_only
def test_tensors_on_two_cards_are_refused():
    cards = [SimpleNamespace(device=torch.device(f"cuda:{n}"), dtype=torch.float32) for n in (0, 1)]
    with pytest.raises(InputError, match="on one GPU, got cuda:0 and cuda:1"):
        choose_backend("triton", *cards)


@pytest.mark.parametrize(
    "error, expected",
    [
        (OSError("no C compiler"), InputError),
        (PermissionError(13, "Permission denied", "/nonexistent"), InputError),
        (RuntimeError("CUDA out of memory"), RuntimeError),
        (InputError("wrong shape"), InputError),
    ],
)
def test_a_compiler_or_driver_that_fails_is_named(error, expected):
    with pytest.raises(expected) as left, backend.ready_to_launch("triton", torch.zeros(1)):
        raise error
    said = str(left.value)
    assert ("robust-snn doctor" in said) == isinstance(error, OSError)
    assert ("TRITON_CACHE_DIR" in said) == isinstance(error, PermissionError)


@pytest.mark.cpu_only
def test_programs_lie_along_the_long_axis_of_the_grid():
    """A GPU takes 2**31 - 1 programs along the first axis of a launch, and 65,535 along others."""
    launch = pytest.importorskip("robust_snn.kernels.spiking.triton.launch")
    many = torch.empty(1, 70_000, 600, device="meta")
    assert launch._programs(many, 512) == 140_000


def test_more_images_than_a_grid_is_high():
    current, keys = torch.randn(3, 70_000, 5), sample_keys(0, torch.arange(70_000))
    gate = Gate(torch.full((5,), 0.5), keys)
    found = [
        spiking_loop(current, Dynamics(0.9), gate=gate, backend=name) for name in ("torch", "auto")
    ]
    assert torch.equal(*found)


@pytest.mark.gpu_only
@pytest.mark.usefixtures("compiled")
def test_more_activations_than_32_bits_count():
    steps, batch, neurons = 3, 1_100_000, 1024
    current = torch.zeros(1, dtype=torch.bfloat16).expand(steps, batch, neurons).contiguous()
    assert (steps - 1) * batch * neurons > 2**31  # where the last step begins
    current[:, -1] = torch.randn(steps, neurons)
    current.requires_grad_()
    last = current[:, -1:].detach().clone().requires_grad_()
    sharpness = torch.ones(1).expand(steps, batch, neurons).contiguous()
    sharpness[:, -1] = 0.5 + torch.rand(steps, neurons)
    found = []
    for x, sharp in ((current, sharpness), (last, sharpness[:, -1:])):
        rule = Recursion(Surrogate("triangle", 1.0), sharpness=sharp)
        spikes = spiking_loop(x, Dynamics(0.9), rule)
        found.append((spikes[:, -1:], torch.autograd.grad(spikes, x, spikes.detach())[0][:, -1:]))
    for mine, wanted in zip(*found, strict=True):
        assert torch.equal(mine, wanted)
