"""What every backbone with every mechanism must do."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import timm
import torch
from torch import nn

from helpers import assert_close_rms
from robust_snn.metrics import operations, record
from robust_snn.models.readout import Readout
from robust_snn.models.snn_resformer import FiringRate
from robust_snn.neurons import HomeostaticLIF
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.utils.errors import InputError
from zoo import BACKBONES, NAMES, awake, images, narrow

over_names = pytest.mark.parametrize("name", NAMES)


@pytest.mark.parametrize("T", [1, 4])
@over_names
def test_every_parameter_learns(name: str, T: int) -> None:
    net = narrow(name, noise="fresh", T=T).train()
    logits = net(images(name, 4))
    assert logits.shape == (4, 10)
    (logits * torch.rand_like(logits)).sum().backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        first_leak = T == 1 and parameter_name.endswith(".leak")  # of an empty membrane
        if parameter.dim() > 1 and not first_leak:
            assert parameter.grad.any(), parameter_name


@over_names
def test_evaluation_is_a_differentiable_function_of_each_image(name: str) -> None:
    net, x = awake(narrow(name), images(name, 4)), images(name, 3).requires_grad_()
    logits = net(x)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert (x.grad.flatten(1).abs().sum(1) > 0).all()
    assert torch.equal(logits, net(x))  # no state stays behind
    order = torch.tensor([2, 0, 1])
    assert torch.equal(logits[order], net(x[order]))
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(logits, twin(x))


@over_names
def test_fresh_noise_is_new_and_known_as_noise(name: str) -> None:
    net = awake(narrow(name, noise="fresh"), images(name, 4))
    noisy = any(m.stochastic for m in net.modules() if isinstance(m, NoisyModule))
    same = torch.equal(net(images(name)), net(images(name)))
    assert same is not noisy
    addresses = [m.layer for m in net.modules() if isinstance(m, NoisyModule)]
    assert len(set(addresses)) == len(addresses)


@over_names
def test_weights_and_nothing_else_are_saved(name: str) -> None:
    net = narrow(name)
    before = {key: value.shape for key, value in net.state_dict().items()}
    net(images(name, 1))
    net(images(name, 3))
    assert {key: value.shape for key, value in net.state_dict().items()} == before
    measured = nn.BatchNorm2d | HomeostaticLIF | FiringRate
    norms = {f"{n}." for n, m in net.named_modules() if isinstance(m, measured)}
    buffers = [key for key, _ in net.named_buffers() if key in before]
    assert all(any(key.startswith(norm) for norm in norms) for key in buffers)


# The image must survive the poolings: five, or four.
MINIMUM = {"vgg13": 32, "vgg16": 32, "vggsnn": 16}


@pytest.mark.parametrize("size", [8, 32, 48, 64])
@pytest.mark.parametrize("name", [f"{name}_stog" for name in BACKBONES])
def test_image_sizes(name: str, size: int) -> None:
    if size < MINIMUM.get(name.split("_")[1], 8):
        with pytest.raises(InputError, match="too small"):
            narrow(name, img_size=size)
        return
    net = narrow(name, img_size=size, T=2)
    with torch.no_grad():
        assert net(torch.rand(1, 3, size, size)).isfinite().all()


@over_names
def test_event_frames_keep_their_time_axis(name: str) -> None:
    x = torch.stack([images(name, 2, channels=2), 1 - images(name, 2, channels=2)] * 2, 1)
    net = awake(narrow(name, in_chans=2), x)
    with torch.no_grad():
        logits = net(x)
        assert logits.shape == (2, 10)
        assert_close_rms(net(x[:1]), logits[:1])
        assert not torch.equal(logits, net(x.roll(1, dims=1)))  # the order of the frames matters


@over_names
def test_frames_that_repeat_an_image_give_the_logits_of_the_image(name: str) -> None:
    net, x = awake(narrow(name), images(name, 4)), images(name)
    with torch.no_grad():
        assert_close_rms(net(x.unsqueeze(1).expand(-1, 4, -1, -1, -1)), net(x))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("T", (0, -1, 1.5, True, "4", math.nan, 10**6 + 1, 10**9, 2**40)),
        ("num_classes", (-1, 2.5, True, "x")),
        ("in_chans", (0, 1.5, "3")),
        ("img_size", (0, 7.5, (8,), (8, 0), "8")),
        ("width", (0, -1, math.nan, math.inf, "1")),
        ("head_width", (0, -3, 1.5, (8, 0))),
        ("decay", (0, 2, math.nan, "a")),
        ("threshold", (0, -1, math.inf, [1])),
        ("gate_probability", (0, 1.5, "0.9")),
        ("drop_rate", (-0.1, 1, math.nan, "a")),
        ("mean", ((0.5,), "a", (math.nan, 0, 0), 0, ())),
        ("std", ((0, 1, 1), (-1, 1, 1), 0.5, 0, ())),
        ("dlif_form", ("input",)),
        ("membrane_noise", ("gaussian(sigma=0.3)",)),
        ("noise_form", ("double",)),
        ("gradient", ("bppt", 3)),
        ("readout", ("x", 1)),
        ("norm", ("x", 1)),
    ],
)
def test_senseless_arguments_are_refused_by_name(name: str, wrong: tuple[object, ...]) -> None:
    size = {"T": 2, "img_size": 8, "width": 0.1, "head_width": 8, "num_classes": 3}
    for value in wrong:
        with pytest.raises(InputError, match=name.removeprefix("gate_")):
            timm.create_model("snn_vgg5_stog", **{**size, name: value})


@pytest.mark.parametrize("name", BACKBONES)
def test_wrong_input_and_arguments_are_refused(name: str) -> None:
    net = narrow(name)
    with pytest.raises(InputError, match=r"expected images \[B, 3, H, W\]"):
        net(torch.rand(1, 1, 16, 16))
    with pytest.raises(InputError, match=r"expected images"):
        net(torch.rand(3, 16, 16))
    with pytest.raises(InputError, match="did you mean 'threshold'"):
        narrow(name, treshold=2.0)
    with pytest.raises(InputError, match="one number per channel"):
        narrow(name, mean=(0.5,))


@over_names
def test_time_can_be_read_out_by_a_leaky_membrane(name: str) -> None:
    x = images(name, 4)
    mean, membrane = (
        awake(narrow(name, decay=0.5, readout=kind), x) for kind in ("mean", "membrane")
    )
    with torch.no_grad():
        assert not torch.equal(mean(x), membrane(x))
        constant = torch.rand(1, 2, 3).expand(4, -1, -1)
        assert_close_rms(Readout("membrane", 0.5)(constant), constant[0])


@pytest.mark.parametrize("name", BACKBONES)
def test_threshold_dependent_norms_start_at_the_threshold(name: str) -> None:
    net = narrow(name, norm="tdbn", threshold=0.5)
    scales = {
        float(w) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for w in m.weight.detach()
    }
    assert {round(scale, 4) for scale in scales} <= {0.5, round(0.5 / 2**0.5, 4)}
    assert net(images(name)).isfinite().all()
    with pytest.raises(InputError, match="did you mean 'tdbn'"):
        narrow(name, norm="tdbm")


@pytest.mark.slow
@over_names
def test_large_images_and_frames(name: str) -> None:
    net = awake(narrow(name, img_size=128, in_chans=2), torch.rand(2, 4, 2, 128, 128))
    x = torch.rand(1, 4, 2, 128, 128, requires_grad=True)
    net(x).sum().backward()
    assert x.grad.isfinite().all() and x.grad.any()


@pytest.mark.slow
@over_names
def test_the_networks_of_the_papers_fire_in_every_layer(name: str) -> None:
    torch.manual_seed(0)
    net = timm.create_model(name).eval()
    with torch.no_grad(), record(net) as activity:
        net(torch.rand(1, 3, 32, 32))
    assert all(layer.spikes.any() for layer in activity.layers.values())
    assert operations(activity).sops > 0


def test_options_that_integer_neurons_do_not_have_are_refused() -> None:
    for name, value in (("threshold", 0.5), ("reset", "soft")):
        with pytest.raises(InputError, match=f"{name} does nothing in a network of 'ilif'"):
            narrow("snn_vgg5_ilif", **{name: value})
