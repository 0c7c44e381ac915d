"""Networks of public codebases whose loops keep states in tables, built small."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import torch
from codebases import TRIANGLE, absent, codebase, mean_of_steps, without_cuda
from torch import Tensor, nn

GREY = (1, 28, 28)
SMALL_VGG5 = [8, "A", 16, 16, "A"]


class Called(nn.Module):
    """A network with the loop that its authors write around it."""

    def __init__(self, net: nn.Module, call: Any) -> None:
        super().__init__()
        self.net, self.call = net, call

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `[B, C, H, W]` to what the loop returns."""
        return self.call(self.net, x)


def narrow(layers: nn.Sequential, first: int) -> None:
    """Gives linear layers, of which the first takes so many features, a width of 64."""
    places = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    widths = [first, *[64] * (len(places) - 1), 10]
    for number, place in enumerate(places):
        layers[place] = nn.Linear(widths[number], widths[number + 1], bias=False)


@codebase("IGITUGraz/RobustSNNConversion", "b130117", T=4, logits=mean_of_steps, surrogate=TRIANGLE)
def robust_conversion() -> nn.Module:
    vgg: Any = import_module("models.VGG")  # the package names its class alike
    vgg.cfg_conv["small"] = [16, "A", 32, "A", 64, "A", 64, "A", 512, "A"]
    half = ([0.5] * 3, [0.25] * 3)
    net = vgg.VGG("small", 4, 10, half, learn_vth=True, soft_reset=True)
    narrow(net.classifier, 512)
    return net


@codebase("nitin-rathi/hybrid-snn-conversion", "3f6832c", T=12, image=GREY, random=True)
def hybrid_conversion() -> nn.Module:
    without_cuda()
    from self_models import vgg_spiking

    vgg_spiking.cfg["VGG5"] = SMALL_VGG5
    options = {"timesteps": 12, "default_threshold": 0.5, "leak": 0.95, "dataset": "MNIST"}
    net = vgg_spiking.VGG_SNN_STDB("VGG5", "STDB", **options)
    narrow(net.classifier, 16 * 7 * 7)
    return net


@codebase("nitin-rathi/DIET-SNN", "4c7527b", T=6)
def diet_snn() -> nn.Module:
    without_cuda()
    from self_models import vgg_spiking

    vgg_spiking.cfg["VGG5"] = SMALL_VGG5
    options = {"timesteps": 6, "default_threshold": 0.5, "leak": 0.95}
    net = vgg_spiking.VGG_SNN_STDB("VGG5", "Linear", **options)
    narrow(net.classifier, 16 * 8 * 8)
    return net


@codebase(
    "nmi-lab/decolle-public",
    "28f33a8",
    T=6,
    image=GREY,
    surrogate="bptt(surrogate=fast_sigmoid(slope=10))",
)
def decolle() -> nn.Module:
    absent("torchneuromorphic", "btorch", "tensorboardX")
    from decolle import base_model, lenet_decolle_model

    def fixed(self: Any, layer: nn.Linear, _: Any) -> None:  # NumPy 2 gives it no number
        layer.weight.data.uniform_(-0.1, 0.1)

    base_model.DECOLLEBase.reset_lc_parameters = fixed
    net = lenet_decolle_model.LenetDECOLLE(
        GREY,
        Nhid=[8, 8],
        Mhid=[32],
        out_channels=10,
        kernel_size=[5],
        pool_size=[2, 2],
        alpha=[0.5],
        beta=[0.5],
        lif_layer_type=base_model.LIFLayer,
        method="bptt",
    )

    def loop(net: nn.Module, x: Tensor) -> Tensor:
        net.init(4 * x.unsqueeze(1))
        return sum(net.step(4 * x)[1][-1] for _ in range(6))

    return Called(net, loop)


@codebase("ZhangShimin1/TC-LIF", "1d24704", T=8, image=GREY, surrogate=TRIANGLE)
def tc_lif() -> nn.Module:
    absent("h5py", "tonic")
    sys.path.insert(0, sys.path[0] + "/MNIST")
    from functools import partial

    from models.fc import fbMnist
    from spiking_neuron.TCLIF import TCLIFNode
    from surrogate import Triangle

    neuron = partial(
        TCLIFNode, surrogate_function=Triangle.apply, decay_factor=torch.zeros(1, 2), gamma=0.5
    )

    def loop(net: nn.Module, x: Tensor) -> Tensor:
        for module in net.modules():
            if hasattr(module, "_memories"):
                module.reset()
        pixels = 3 * x.flatten(1)
        return sum(net.features(pixels[:, at : at + 64]) for at in range(100, 612, 64))

    return Called(fbMnist(64, neuron), loop)


@codebase("romainzimmer/s2net", "6eef813", T=28, image=GREY, logits=lambda net, x: net(x)[0])
def s2net() -> nn.Module:
    absent("librosa", "resampy")
    from models import SNN, ReadoutLayer, SpikingDenseLayer

    layers = [SpikingDenseLayer(n, 32, Heaviside.apply, 0.05, 1.5, True, True) for n in (28, 32)]
    for layer in layers:
        layer.b.data.fill_(0.15)
    net = SNN([*layers, ReadoutLayer(32, 10, 0.05, 1.5, time_reduction="mean")])
    return Called(net, lambda net, x: net(2 * x.squeeze(1)))


class Heaviside(torch.autograd.Function):
    """A spike function, which the codebase leaves to its notebook."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return upstream * 10 * torch.sigmoid(10 * v) * torch.sigmoid(-10 * v)
