"""Networks of public codebases on a library's neurons or subclasses of them, built small."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from codebases import (
    ATAN,
    RECTANGLE,
    SIGMOID,
    SMALL,
    Logits,
    Repeated,
    absent,
    codebase,
    mean_of_batch_first,
    mean_of_steps,
    notebook,
    without_cuda,
)
from torch import Tensor, nn

CLOCK_DRIVEN = "spikingjelly-0.0.0.0.12"
REPOSITORIES = Path(os.environ.get("PUBLIC_NETWORKS", "."))


def shown_one_step(net: nn.Module, x: Tensor) -> Tensor:
    """Logits of a network that takes one of four steps per call."""
    return torch.stack([net(x) for _ in range(4)]).mean(0)


def shown_all_steps(T: int) -> Logits:
    """Logits of a network that takes all steps `[T, B, ...]`."""
    return lambda net, x: net(x.repeat(T, 1, 1, 1, 1)).mean(0)


@codebase(
    "fangwei123456/Spike-Element-Wise-ResNet",
    "cfc547c",
    T=4,
    surrogate=SIGMOID,
    packages=(CLOCK_DRIVEN,),
)
def sew_resnet() -> nn.Module:
    from spikingjelly.clock_driven import neuron

    cext = ModuleType("spikingjelly.cext")  # the same neurons, compiled, of an older release
    cext.neuron = neuron  # type: ignore[attr-defined]
    sys.modules |= {"spikingjelly.cext": cext, "spikingjelly.cext.neuron": neuron}
    from imagenet.sew_resnet import BasicBlock, SEWResNet

    return SEWResNet(BasicBlock, [1, 1, 1, 1], num_classes=10, T=4, connect_f="ADD")


@codebase(
    "fangwei123456/Parametric-Leaky-Integrate-and-Fire-Spiking-Neuron",
    "f644ff6",
    T=4,
    image=(1, 28, 28),
    surrogate=ATAN,
    packages=("spikingjelly-0.0.0.0.2",),
)
def plif() -> nn.Module:
    from codes.models import MNISTNet

    net = MNISTNet(
        4,
        init_tau=2.0,
        use_plif=True,
        use_max_pool=True,
        alpha_learnable=False,
        detach_reset=True,
    )
    return net


@codebase(
    "fangwei123456/Parallel-Spiking-Neuron", "2bfcba4", T=4, logits=mean_of_steps, surrogate=ATAN
)
def parallel_spiking_neuron() -> nn.Module:
    sys.path.insert(0, sys.path[0] + "/imagenet")
    import sew_resnet
    from spikingjelly.activation_based import functional, neuron, surrogate

    neurons = {"spiking_neuron": neuron.PSN, "surrogate_function": surrogate.ATan(), "T": 4}
    net = sew_resnet.sew_resnet18(num_classes=10, cnf="ADD", **neurons)
    functional.set_step_mode(net, "m")
    return net


@codebase(
    "fangwei123456/spikingjelly",
    "afb1322",
    T=4,
    logits=shown_all_steps(4),
    surrogate=ATAN,
    steps=4,
)
def spikingjelly_zoo() -> nn.Module:
    from spikingjelly.activation_based import functional, neuron, surrogate
    from spikingjelly.activation_based.model import sew_resnet

    neurons = {"spiking_neuron": neuron.IFNode, "surrogate_function": surrogate.ATan()}
    net = sew_resnet.sew_resnet18(num_classes=10, cnf="ADD", detach_reset=True, **neurons)
    functional.set_step_mode(net, "m")
    return net


@codebase(
    "ryime/PDSG-SDA",
    "52cd59a",
    T=2,
    image=(3, 16, 16),
    logits=mean_of_steps,
    surrogate="bptt(surrogate=atan(alpha=2))",
    packages=("spikingjelly-0.0.0.0.14",),
)
def pdsg() -> nn.Module:
    from models.resnet import ResNet18
    from spikingjelly.activation_based import surrogate
    from utils.encoder import get_encoder

    net = ResNet18()
    for module in net.modules():
        if hasattr(module, "surrogate_function"):  # which an attack is to bring, in their code
            module.surrogate_function = surrogate.ATan()
    return nn.Sequential(get_encoder("direct", 2), net)


@codebase(
    "qymeng94/SLTT",
    "0758ecd",
    T=4,
    logits=shown_one_step,
    surrogate=RECTANGLE,
    packages=(CLOCK_DRIVEN,),
    steps=4,
)
def sltt() -> nn.Module:
    from modules.neuron import SLTTNeuron
    from modules.surrogate import Rectangle

    from models import spiking_vgg_bn

    spiking_vgg_bn.cfg["VGG11"] = [[width, "M"] for width, _ in SMALL]
    neuron = {"surrogate_function": Rectangle(), "tau": 1.1, "v_reset": None}
    return spiking_vgg_bn.spiking_vgg11_bn(SLTTNeuron, c_in=3, **neuron)


@codebase(
    "HuuYuLong/Complementary-LIF",
    "d76af59",
    images=2,
    T=4,
    logits=shown_one_step,
    surrogate=RECTANGLE,
    packages=(CLOCK_DRIVEN,),
    steps=4,
)
def clif() -> nn.Module:
    from modules.neuron import ComplementaryLIFNeuron

    from models import spiking_vgg_bn

    spiking_vgg_bn.cfg["VGG11"] = [[width, "M"] for width, _ in SMALL]
    return spiking_vgg_bn.spiking_vgg11_bn(ComplementaryLIFNeuron, c_in=3)


@codebase(
    "Intelligent-Computing-Lab-Yale/Neural-Architecture-Search-for-Spiking-Neural-Networks",
    "4980409",
    images=2,
    T=2,
    image=(3, 8, 8),
    surrogate=ATAN,
    packages=(CLOCK_DRIVEN,),
)
def snasnet() -> nn.Module:
    without_cuda()
    from model_snn import SNASNet

    size = {"dataset": "cifar100", "timestep": 2, "second_avgpooling": 4, "celltype": "backward"}
    cell = torch.tensor([[0, 0, 2, 2], [0, 0, 0, 2], [0, 2, 0, 0], [0, 0, 3, 0]])
    net = SNASNet(SimpleNamespace(threshold=1.0, tau=4 / 3, **size), cell)
    net.classifier[1] = nn.Linear(256, 1024, bias=False)  # theirs is for images of 32 pixels
    return net


@codebase(
    "BrainCog-X/Brain-Cog",
    "3998fd5",
    T=4,
    surrogate="bptt(surrogate=piecewise_quadratic(alpha=2))",
    packages=("common",),
)
def braincog() -> nn.Module:
    absent("seaborn", "tonic", "tonic.datasets", "tonic.dataset", "tonic.io", "loris", "cv2")
    absent("tonic.download_utils", "pandas", "dv")
    from braincog.model_zoo.vgg_snn import SNN7_tiny

    return SNN7_tiny(step=4, dataset="cifar10", layer_by_layer=True)


@codebase(
    "jeshraghian/snntorch",
    "634fc22",
    T=8,
    image=(1, 28, 28),
    logits=mean_of_steps,
    surrogate=ATAN,
)
def snntorch_tutorial() -> nn.Module:
    import snntorch as snn

    names = {"nn": nn, "snn": snn, "torch": torch, "device": "cpu", "num_steps": 8, "beta": 0.95}
    names |= {"num_inputs": 784, "num_hidden": 100, "num_outputs": 10}
    path = REPOSITORIES / "snntorch/examples/tutorial_5_FCN.ipynb"
    return nn.Sequential(nn.Flatten(), notebook(path, "# Define Network", **names)["net"])


@codebase(
    "norse/norse",
    "065a3b4",
    T=8,
    image=(1, 28, 28),
    logits=shown_all_steps(8),
    surrogate="bptt(surrogate=fast_sigmoid(slope=100))",
    packages=("common",),
    steps=8,
)
def norse() -> nn.Module:
    from norse.torch.models.conv import ConvNet

    return ConvNet()


@codebase(
    "synsense/sinabs",
    "904eb89",
    T=8,
    image=(1, 28, 28),
    logits=mean_of_batch_first,
    packages=("common",),
)
def sinabs() -> nn.Module:
    from sinabs.from_torch import from_model

    parts = [nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2)]
    parts += [nn.Conv2d(8, 16, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2)]
    parts += [nn.Flatten(), nn.Linear(400, 10, bias=False)]
    net = from_model(nn.Sequential(*parts), (1, 28, 28), num_timesteps=8).spiking_model
    return nn.Sequential(
        Repeated(net, lambda x: x.repeat_interleave(8, 0)), nn.Unflatten(0, (-1, 8))
    )


class Rates(nn.Module):
    """Rates `[B, K]` of a network that returns spikes `[B, K, T]`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Maps what the network takes to rates."""
        return self.net(x).mean(-1)


@codebase("lava-nc/lava-dl", "d825ac5", T=8, image=(2, 34, 34))
def lava() -> nn.Module:
    absent("cv2")
    path = REPOSITORIES / "lava-dl/tutorials/lava/lib/dl/slayer/nmnist/train.ipynb"
    sys.path.insert(0, sys.path[0] + "/src")
    from lava.lib.dl import slayer

    net = notebook(path, "class Network", torch=torch, slayer=slayer)["Network"]()
    for block in net.blocks:
        block.synapse.weight_g.data *= 4  # or nothing fires
    return Rates(Repeated(net, lambda x: x.flatten(1).unsqueeze(-1).repeat(1, 1, 8)))
