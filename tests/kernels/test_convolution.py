"""Convolutions over time: the backward pass that runs once, and the forward over events."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import assert_close_rms
from robust_snn import Victim
from robust_snn.kernels.convolution import api as convolution
from robust_snn.kernels.convolution.event_driven import event_driven_convolution
from robust_snn.kernels.convolution.reference import reference_convolution
from robust_snn.kernels.spiking import autograd
from robust_snn.neurons import StochasticGate
from zoo import awake, images, narrow

ONCE = "bptr", "rga", "hart"


@pytest.fixture
def batches(monkeypatch) -> list[int]:
    """Batch sizes of the convolutions' backward passes."""
    seen: list[int] = []
    real = convolution.convolution_input_gradient

    def spy(shape, *arguments):
        seen.append(shape[0])
        return real(shape, *arguments)

    monkeypatch.setattr(convolution, "convolution_input_gradient", spy)
    return seen


def _every_step(monkeypatch) -> None:
    """Takes the shortcut away: what is left is the rule as it is written."""
    monkeypatch.setattr(convolution, "one_step_suffices", lambda gradient: False)
    monkeypatch.setattr(autograd, "_gives_same_steps", lambda *arguments: False)


def _gradient(victim: Victim, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(victim(x), torch.arange(len(x)))
    return torch.autograd.grad(loss, x)[0]


@pytest.mark.usefixtures("compiled")  # the reference gives every step
@pytest.mark.parametrize("gradient", ONCE)
@pytest.mark.parametrize("name", ["snn_wrn16", "snn_resnet18", "snn_vgg5", "snn_vggsnn"])
def test_rate_modes_run_backward_once(name, gradient, batches, monkeypatch):
    x = images(name)
    victim = Victim(awake(narrow(name), x), gradient=gradient)
    got = _gradient(victim, x)
    assert set(batches) == {len(x)}
    batches.clear()
    _every_step(monkeypatch)
    expected = _gradient(victim, x)
    assert set(batches) == {len(x), 4 * len(x)}  # the stem sees the image once anyway
    assert expected.abs().sum() > 0
    assert_close_rms(got, expected)


@pytest.mark.usefixtures("compiled")  # the reference gives every step
@pytest.mark.parametrize(
    "name, gradient, once",
    [
        ("snn_vgg5", "bptt", False),
        ("snn_vgg5_stog", "bptr", False),  # gates differ between the steps
        ("snn_vgg5_stog", "hart", True),  # whose rule averages over time by itself
        ("snn_vgg5_nlif", "bptr", True),  # noise moves spikes, which enter by whether they came
        ("snn_sew7b", "bptr", False),  # pooling takes the largest of each step
        ("snn_resnet18_dlif", "rga", True),
    ],
)
def test_once_only_where_exact(name, gradient, once, batches, monkeypatch):
    x = images(name)
    net = awake(narrow(name), x)
    for gate in (m for m in net.modules() if isinstance(m, StochasticGate)):
        gate.probability.data.fill_(0.5)
    victim = Victim(net, gradient=gradient, noise="frozen")
    got = _gradient(victim, x)
    assert (max(batches) == len(x)) == once
    _every_step(monkeypatch)
    assert_close_rms(got, _gradient(victim, x))


def test_factors_per_step_are_not_constant(batches, monkeypatch):
    x = images("snn_vgg5_dlif")
    net = awake(narrow("snn_vgg5_dlif", dlif_form="input"), x)
    for name, parameter in net.named_parameters():
        if name.endswith("factor"):
            parameter.data.uniform_(0.5, 1.5)
    victim = Victim(net, gradient="hart")
    got = _gradient(victim, x)
    assert max(batches) > len(x)
    _every_step(monkeypatch)
    assert_close_rms(got, _gradient(victim, x))


GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 1, "stride": (3, 1)},
    {"kernel_size": 1, "groups": 2},
    {"kernel_size": 1, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": (3, 1), "padding": 2, "dilation": (2, 3)},
]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_gradients_of_any_geometry(geometry, last, device):
    module = torch.nn.Conv2d(4, 6, **geometry).to(device).requires_grad_(False)
    x = torch.randn(2, 3, 4, 7, 6)
    x = (x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3) if last else x).clone()
    x.requires_grad_()
    out = convolution.convolve(x, module)
    upstream = torch.randn_like(out)
    (expected,) = torch.autograd.grad(module(x.flatten(0, 1)), x, upstream.flatten(0, 1))
    assert_close_rms(torch.autograd.grad(out, x, upstream)[0], expected)


@pytest.mark.parametrize("size", [(1, 1), (3, 1)], ids=str)
def test_images_of_one_column_under_dilation(size):
    """oneDNN reads beyond such images where a kernel of one column is dilated, and crashes."""
    dilated = torch.nn.Conv2d(16, 8, size, stride=3, padding=4, dilation=2).requires_grad_(False)
    plain = torch.nn.Conv2d(16, 8, size, stride=3, padding=4, dilation=(2, 1))
    plain.load_state_dict(dilated.to(memory_format=torch.channels_last).state_dict())
    for _ in range(50):  # what lies beyond decides
        x = torch.rand(3, 16, 17, 1).to(memory_format=torch.channels_last)
        out = convolution.convolve(x[None], dilated)[0]
    torch.testing.assert_close(out, plain(x))


@pytest.mark.parametrize("geometry", [{"kernel_size": 3, "padding": 1}, GEOMETRIES[3]], ids=str)
def test_second_derivatives_see_every_step(geometry, device):
    x = torch.randn(3, 1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    module = torch.nn.Conv2d(2, 4, **geometry).to(device).double().requires_grad_(False)

    def layer(x):
        return convolution.convolve(x, module).square()

    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        assert torch.autograd.gradcheck(layer, (x,))
        assert torch.autograd.gradgradcheck(layer, (x,))


@pytest.mark.cpu_only
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    "inputs, outputs, size, stride, padding, grid",
    [
        (64, 64, 3, 1, 1, (8, 8)),
        (3, 10, 3, 2, 1, (7, 9)),
        (70, 130, 1, 2, 0, (9, 5)),
        (16, 64, 3, 1, 0, (17, 16)),
        (9, 20, 5, 1, 2, (1, 3)),
        (8, 65, 3, 2, 4, (5, 5)),  # windows that lie in the padding alone
        (130, 33, 3, 1, 1, (9, 7)),  # more weights than the first-level cache holds
        (16, 20, 3, 1, 1, (23, 25)),  # more pixels than get their lists at once
    ],
)
def test_events_give_the_convolution(inputs, outputs, size, stride, padding, grid, density):
    x = (torch.rand(5, inputs, *grid) < density).float()
    weight, bias = torch.randn(outputs, inputs, size, size), torch.randn(outputs)
    expected = torch.nn.functional.conv2d(x, weight, bias, stride, padding)
    assert_close_rms(reference_convolution(x, weight, bias, stride, padding), expected)
    last = x.to(memory_format=torch.channels_last)
    for spikes in (x, last, last.to(torch.uint8), last.to(torch.bfloat16), last.half()):
        got = event_driven_convolution(spikes, weight, bias, stride, padding)
        assert_close_rms(got, expected)
    assert_close_rms(
        event_driven_convolution(x, weight, None, stride, padding), expected - bias.view(-1, 1, 1)
    )


@pytest.mark.cpu_only
def test_events_of_groups_and_of_depthwise_layers(monkeypatch):
    taken = []
    monkeypatch.setattr(
        "robust_snn.kernels.convolution.event_driven.event_driven_convolution",
        lambda x, *arguments: taken.append(x) or event_driven_convolution(x, *arguments),
    )
    for channels, outputs, groups, bias in ((96, 36, 3, True), (48, 96, 3, False), (6, 6, 6, True)):
        module = torch.nn.Conv2d(channels, outputs, 3, 2, 1, groups=groups, bias=bias)
        module.requires_grad_(False)
        x = (torch.rand(2, 3, channels, 9, 7) < 0.2).float()
        for spikes in (x, 2 * x):  # sums of spikes are no spikes
            got = convolution.convolve(spikes, module, "always").flatten(0, 1)
            assert_close_rms(got, module(spikes.flatten(0, 1)))
    assert len(taken) == 4  # of one channel per output, nothing can be skipped


@pytest.mark.cpu_only
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_summed_in_float32(dtype):
    x, weight = (torch.rand(3, 32, 9, 9) < 0.3).to(dtype), torch.randn(20, 32, 3, 3).to(dtype)
    got = event_driven_convolution(x, weight, None, 1, 1)
    expected = torch.nn.functional.conv2d(x.float(), weight.float(), padding=1)
    assert got.dtype == dtype
    torch.testing.assert_close(got, expected.to(dtype))


@pytest.mark.cpu_only
def test_events_write_every_output(poisoned_empty):
    weight = torch.randn(70, 8, 3, 3)
    for x in (torch.zeros(3, 8, 6, 6), torch.ones(1, 8, 1, 1), torch.ones(2, 8, 33, 31)):
        assert event_driven_convolution(x, weight, None, 1, 1).isfinite().all()


@pytest.mark.cpu_only
@pytest.mark.parametrize("value", [2.0, 0.5, -1.0, float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_no_spike_is_told(value, dtype):
    x = torch.zeros(4, 8, 5, 5, dtype=dtype)
    x[3, 7, 4, 4] = value
    assert event_driven_convolution(x, torch.randn(8, 8, 3, 3), None, 1, 1) is None


@pytest.mark.cpu_only
def test_more_channels_than_entries_tell_apart_are_dense():
    for channels in (convolution.MOST_CHANNELS, convolution.MOST_CHANNELS + 1):
        module = torch.nn.Conv2d(channels, 1, 1).requires_grad_(False)
        x = (torch.rand(2, 2, channels, 1, 1) < 0.1).float()
        torch.testing.assert_close(convolution.convolve(x, module, "always")[0], module(x[0]))


@pytest.mark.cpu_only
def test_auto_measures_each_layer(monkeypatch):
    monkeypatch.setattr(convolution, "break_even", lambda *arguments: 0.25)
    module = torch.nn.Conv2d(16, 64, 3, padding=1).requires_grad_(False)
    silent = (torch.rand(4, 2, 16, 6, 6) < 0.05).float()
    inputs = {"silent": silent, "busy": 1 - silent, "sums": 2 * silent, "image": silent[:1]}
    inputs["nothing"] = silent[:, :0]
    seen = []
    monkeypatch.setattr(
        "robust_snn.kernels.convolution.event_driven.event_driven_convolution",
        lambda x, *arguments: seen.append(x) or event_driven_convolution(x, *arguments),
    )
    took = {}
    for setting in ("auto", "always", "never"):
        for name, x in inputs.items():
            seen.clear()
            torch.testing.assert_close(
                convolution.convolve(x, module, setting).flatten(0, 1), module(x.flatten(0, 1))
            )
            took[setting, name] = bool(seen)
    assert [key for key, sparse in took.items() if sparse] == [
        ("auto", "silent"), ("always", "silent"), ("always", "busy"), ("always", "sums"),
    ]  # fmt: skip
