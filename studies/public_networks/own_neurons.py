"""Networks of public codebases whose neurons are their authors' own, built small."""

from __future__ import annotations

import sys

from codebases import (
    RECTANGLE,
    SMALL,
    TRIANGLE,
    Repeated,
    absent,
    codebase,
    mean_of_batch_first,
    mean_of_steps,
    modules_of,
    without_cuda,
)
from torch import Tensor, nn

YALE = "Intelligent-Computing-Lab-Yale"


@codebase("putshua/SNN-RAT", "d73f105", T=4, logits=mean_of_steps, surrogate=TRIANGLE)
def snn_rat() -> nn.Module:
    from models.VGG import VGG, cfg

    cfg["small"] = SMALL
    return VGG("small", 4, 10, None)


@codebase("DingJianhao/StoG-meets-SNN", "ffd5a0f", T=4, logits=mean_of_steps, surrogate=TRIANGLE)
def stog() -> nn.Module:
    from models.VGG import VGG, cfg

    cfg["small"] = SMALL
    return VGG("small", 4, 10, None)


@codebase("DingJianhao/stable-snn", "049dbbc", T=4, logits=mean_of_steps, surrogate=TRIANGLE)
def stable_snn() -> nn.Module:
    from models.layers import build_neuron_function
    from models.VGG import VGG, cfg

    cfg["small"] = SMALL
    return VGG("small", 4, 1, 10, build_neuron_function("DLIFSpike", T=4))


@codebase("putshua/SNN_attack_RGA", "f52ea8d", T=4, logits=mean_of_steps, surrogate=TRIANGLE)
def rga() -> nn.Module:
    absent("kornia", "kornia.filters", "kornia.filters.median")
    from models.VGG import VGG, cfg

    cfg["small"] = SMALL
    return VGG("small", 4, 10, None, tau=0.99)


@codebase("putshua/ANN_SNN_QCFS", "eca136b", T=4, logits=mean_of_steps, surrogate=TRIANGLE)
def qcfs() -> nn.Module:
    absent("cv2", "sympy")
    from Models.VGG import VGG, cfg

    cfg["small"] = [[width, "M"] for width, _ in SMALL]
    net = VGG("small", 10, 0.0)
    for neuron in modules_of(net, "IF"):
        neuron.thresh.data.fill_(2.0)
    net.set_T(4)
    return net


@codebase(
    "Gus-Lab/temporal_efficient_training",
    "f9bde41",
    T=4,
    image=(3, 16, 16),
    logits=mean_of_batch_first,
    surrogate=TRIANGLE,
)
def tet() -> nn.Module:
    from models.resnet_models import BasicBlock, ResNet

    net = ResNet(BasicBlock, [1, 1, 1])
    net.T = 4
    return net


@codebase("ChaotengDuan/TEBN", "8f82f6a", T=4, logits=mean_of_batch_first, surrogate=TRIANGLE)
def tebn() -> nn.Module:
    from models import VGG9

    return VGG9()


@codebase("HaiyanJiang/SNN-TAB", "f9b94ce", T=4, logits=mean_of_batch_first, surrogate=TRIANGLE)
def tab() -> nn.Module:
    import models

    models.LIFNeuron.__init__.__defaults__ = (1.0, 1.0, True, False)  # VGG9 leaves v_th out
    return models.VGG9()


@codebase(
    f"{YALE}/NDA_SNN",
    "d355bcb",
    T=4,
    image=(3, 16, 16),
    logits=mean_of_batch_first,
    surrogate=RECTANGLE,
)
def nda() -> nn.Module:
    from models.VGG_models import VGG

    net = VGG([16, "M", 32, "M", 64, 64])
    net.T = 4
    return net


@codebase(
    f"{YALE}/BNTT-Batch-Normalization-Through-Time",
    "bdf5250",
    images=2,
    T=2,
    image=(3, 8, 8),
    random=True,
)
def bntt() -> nn.Module:
    without_cuda()
    from model import SNN_VGG9_BNTT

    return SNN_VGG9_BNTT(2, img_size=8)


@codebase("Ariande1/MS-ResNet", "7c5f006", T=6, surrogate=RECTANGLE)
def ms_resnet() -> nn.Module:
    from models.MS_ResNet import BasicBlock_18, ResNet_origin_18

    net = ResNet_origin_18(BasicBlock_18, [1, 1, 1, 1], 10)
    for norm in modules_of(net, "BatchNorm3d2"):  # starts at zero
        norm.weight.data.fill_(0.5)
    return net


@codebase("sq117/LTMD", "1766d5e", T=4, image=(3, 16, 16), surrogate=RECTANGLE)
def ltmd() -> nn.Module:
    absent("xlsxwriter", "openpyxl")
    sys.path.insert(0, sys.path[0] + "/cifar10")
    from modelnew import DenseNet

    net = DenseNet(None, 8, (2, 2), 16, drop_rate=0.0)
    return Repeated(net, lambda x: x.unsqueeze(-1).repeat(1, 1, 1, 1, 4))


@codebase("thiswinex/STBP-simple", "a15de7c", T=4, image=(1, 28, 28), surrogate=RECTANGLE)
def stbp() -> nn.Module:
    import setting

    setting.STEPS = 4
    import model

    model.steps = 4
    return Repeated(model.MNISTNet(), lambda x: x.unsqueeze(-1).repeat(1, 1, 1, 1, 4))


@codebase("langfengQ/MLF-DSResNet", "a49bdc3", T=4, image=(3, 16, 16), surrogate=RECTANGLE)
def mlf() -> nn.Module:
    from parallel_nets.ResNet_for_cifar10 import BasicBlock, ResNet

    return Repeated(ResNet(BasicBlock, [1, 1, 1]), lambda x: x.repeat(4, 1, 1, 1))


@codebase(
    "genema/Noisy-Spiking-Neuron-Nets",
    "6a3c312",
    T=2,
    image=(3, 8, 8),
    logits=mean_of_batch_first,
    random=True,
)
def nsnn() -> nn.Module:
    from models.NILIF import Neuron
    from models.snn import BasicBlock, SpikingResNet

    net = SpikingResNet(BasicBlock, [1, 1, 1], num_classes=10, spiking_neuron=Neuron)
    return Repeated(net, lambda x: x.unsqueeze(1).repeat(1, 2, 1, 1, 1))


@codebase("qymeng94/DSR", "876c8d1", T=4)
def dsr() -> nn.Module:
    sys.path.insert(0, sys.path[0] + "/cifar")
    from modules import neuron
    from modules.preresnet import PreActBlock, PreActResNet

    neuron.sum_tensor = lambda tensor: tensor  # over processes, of which there is one
    setting = {"timesteps": 4, "train_Vth": 1, "Vth": 1.0, "alpha": 0.5}
    setting |= {"Vth_bound": 0.1, "rate_stat": 0}
    return PreActResNet(PreActBlock, [1, 1, 1, 1], 10, 0.0, setting, "if")


class Traces(nn.Module):
    """A network that is shown all steps and returns traces of spikes `[B, K, 1, 1, T]`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.layers = nn.ModuleList(net.layers)  # which the authors keep in a list

    def forward(self, x: Tensor) -> Tensor:
        """Maps images `[B, C, H, W]` to logits."""
        return self.net(x.unsqueeze(-1).repeat(1, 1, 1, 1, 5), 0, False)[:, :, 0, 0].sum(-1)

    def train(self, mode: bool = True) -> Traces:
        """The network, whose own `train` takes no argument, and whose layers know no modes."""
        return self


@codebase("stonezwr/TSSL-BP", "ffaac71", T=5, image=(1, 16, 16))
def tssl_bp() -> nn.Module:
    without_cuda()
    import global_v
    from cnns import Network

    global_v.init(5, 2)
    setting = {"tau_m": 5, "tau_s": 2, "model": "LIF", "rule": "TSSLBP", "n_steps": 5}
    conv = {"type": "conv", "in_channels": 1, "out_channels": 6, "kernel_size": 3, "padding": 1}
    hidden = {"type": "linear", "n_inputs": 6 * 64, "n_outputs": 32}
    last = {"type": "linear", "n_inputs": 32, "n_outputs": 10}
    layers = {"conv": conv, "pool": {"type": "pooling", "kernel_size": 2}}
    layers |= {"hidden": hidden, "last": last}
    for layer in (conv, hidden, last):
        layer["threshold"] = 1.0
    return Traces(Network(setting, layers, [1, 16, 16]))


@codebase("yfguo91/Ternary-Spike", "2aca587", T=2, image=(3, 16, 16))
def ternary_spike() -> nn.Module:
    absent("IPython")
    from models.resnet import resnet20_cifar_modified
    from models.spike_model import SpikeModel

    net = SpikeModel(resnet20_cifar_modified(), step=2)
    net.set_spike_state(True)
    return net


@codebase("yhhhli/SNN_Calibration", "4aece7c", T=4)
def snn_calibration() -> nn.Module:
    from models.CIFAR.models.vgg import VGG, cfg
    from models.spiking_layer import SpikeModel

    cfg["small"] = [part for width, _ in SMALL for part in (width, "M")]
    net = SpikeModel(VGG("small", 10), 4)
    net.set_spike_state(True)
    for neuron in modules_of(net, "SpikeModule"):
        neuron.threshold = 1.0
    return net
