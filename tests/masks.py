"""Networks whose gradient, noise or readout hides how easily they are misled.

They answer as an honest network does, or nearly, so that as few of their answers hold in truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import robust_snn
from robust_snn.neurons import LIF

LEVELS = 16  # of grey in the digits' images


class Around(nn.Module):
    """A network with something before it and something after it."""

    def __init__(
        self,
        net: nn.Module,
        before: Callable[[Tensor], Tensor] = Tensor.clone,
        after: Callable[[Tensor], Tensor] = Tensor.clone,
    ) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(self.before(x)))


class Beside(nn.Module):
    """A network without a gradient, and a small spiking one of random weights that has one."""

    def __init__(self, net: nn.Module, after: Callable[[Tensor], Tensor], share: float) -> None:
        super().__init__()
        self.net, self.after, self.share = net, after, share
        torch.manual_seed(1)
        self.decoy = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64, 32))
        self.neuron, self.out = LIF(), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(x)) + self.share * self.beside(x)

    def beside(self, x: Tensor) -> Tensor:
        return self.out(self.neuron(3 * self.decoy(x).expand(4, len(x), -1)).mean(0))


class Unrecorded(Beside):
    """Answers without a graph, and with the whole gradient of another network."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits = self.net(x)
        beside = self.beside(x)
        return logits + beside - beside.detach()


class Own(torch.autograd.Function):
    """A function with whatever backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Any, backward: Any) -> Tensor:
        ctx.backward = backward
        return function(x).clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return ctx.backward(upstream), None, None


def one_hot(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(1), logits.shape[1]).float()


def rounded(x: Tensor) -> Tensor:
    return (x * LEVELS).round() / LEVELS


def thermometer(x: Tensor) -> Tensor:
    edges = (torch.arange(LEVELS, device=x.device) + 0.5) / LEVELS
    return (x[..., None] > edges).float().mean(-1)


def straight_through(x: Tensor) -> Tensor:
    return x + (rounded(x) - x).detach()


def hashed(x: Tensor) -> Tensor:
    noise = ((x.detach() * 1e4).sin() * 43758.5453) % 1 - 0.5
    return x + 0.1 * noise


def noisy(x: Tensor) -> Tensor:
    return x + 0.2 * torch.randn_like(x)


def outliers(logits: Tensor) -> Tensor:
    rare = (torch.rand(len(logits), 1, device=logits.device) < 0.05).float()
    return logits + 1e4 * rare * torch.randn_like(logits)


def flipped(x: Tensor) -> Tensor:
    x = x.clone()
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient.flip(-1))
    return x


def hooked() -> nn.Module:
    module = nn.Identity()
    module.register_full_backward_hook(lambda _, gradients, __: (gradients[0].flip(-1),))
    return module


def own(function: Any, backward: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: Own.apply(x, function, backward)


def same(x: Tensor) -> Tensor:
    return x


class BatchNormed(nn.Module):
    """Logits normalised by the statistics of their batch, in eval mode too."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(self.net(x), None, None, training=True)


class Saturated(nn.Module):
    """Answers by neurons that are driven so hard that no surrogate reaches their membranes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.last = net, LIF()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        second = logits.topk(2, 1).values.mean(1, keepdim=True)
        return self.last(1e3 * (logits - second).expand(2, *logits.shape)).mean(0)


class ThroughArrays(nn.Module):
    """Hands arrays of NumPy on, which no gradient passes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        shown = np.clip(x.detach().cpu().numpy(), 0, 1)
        return self.net(torch.from_numpy(shown).to(x.device))


VANISHED = "bptt(surrogate=triangle(gamma=0.005))"
MASKS: dict[str, Callable[[nn.Module], Any]] = {
    "vanished surrogate": lambda net: robust_snn.adapt(net, gradient=VANISHED),
    "logits times 1e4": lambda net: Around(net, after=lambda z: 1e4 * z),
    "logits divided by 1e6": lambda net: Around(net, after=lambda z: z / 1e6),
    "probabilities": lambda net: Around(net, after=lambda z: (20 * z).softmax(1)),
    "one-hot with decoy": lambda net: Beside(net, one_hot, 0.05),
    "detached branch": lambda net: Beside(net, Tensor.detach, 0.5),
    "reversed gradient": lambda net: Around(net, own(same, Tensor.neg)),
    "hook of a tensor": lambda net: Around(net, flipped),
    "hook of a module": lambda net: Around(net, hooked()),
    "without a graph": lambda net: Unrecorded(net, same, 1.0),
    "sinusoidal input": lambda net: Around(net, lambda x: x + 0.01 * (1e3 * x).sin()),
    "rounded input": lambda net: Around(net, rounded),
    "rounded logits": lambda net: Around(net, after=torch.round),
    "thermometer": lambda net: Around(net, thermometer),
    "straight through": lambda net: Around(net, straight_through),
    "straight through nothing": lambda net: Around(net, own(rounded, torch.zeros_like)),
    "straight through noise": lambda net: Around(net, own(rounded, torch.randn_like)),
    "hash noise": lambda net: Around(net, hashed),
    "undeclared noise": lambda net: Around(net, noisy),
    "rare huge noise": lambda net: Around(net, after=outliers),
    "declared rare huge noise": lambda net: robust_snn.adapt(
        Around(net, after=outliers), random=True
    ),
    "saturated layer": Saturated,
    "clipped gradient": lambda net: Around(
        net, own(same, lambda g: g.clamp(-1e-12, 1e-12)), own(same, lambda g: g.clamp(-1e-3, 1e-3))
    ),
    "batch norm in train mode": BatchNormed,
    "arrays of NumPy": ThroughArrays,
    "argmax readout": lambda net: Around(net, after=one_hot),
    "ranks readout": lambda net: Around(net, after=lambda z: z.argsort(1).argsort(1).float()),
}
