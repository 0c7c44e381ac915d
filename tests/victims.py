"""Small victims to attack: one deterministic, one noisy enough that its answers change."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import timm
import torch
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.gradients import MODES, GradientMode, Reach
from robust_snn.neurons import StochasticGate
from zoo import awake, narrow

SHAPE = (3, 8, 8)


class StandIn(nn.Module):
    """Base of networks that stand in for spiking ones in a test: it says that nothing fires."""

    def takes(self, mode: GradientMode) -> Reach:
        return Reach()


def tiny_victim(noisy: bool, classes: int = 4, opening: float = 0.7) -> Victim:
    """A narrow VGG for 8x8 colour images; its gates, if any, open with the given probability."""
    name = "snn_vgg5_stog" if noisy else "snn_vgg5"
    net = narrow(name, "fresh", T=2, img_size=8, num_classes=classes)
    for gate in (m for m in net.modules() if isinstance(m, StochasticGate)):
        gate.probability.data.fill_(opening)
    return Victim(awake(net, torch.rand(4, *SHAPE)))


def told_by(victim: Victim, count: int) -> tuple[Tensor, Tensor]:
    """Random images, labelled by what the victim itself answers most often."""
    images = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))
    ids, draws = torch.arange(count), range(32 if victim.stochastic else 1)
    answers = [victim.sample(images, ids, draw, "labels").argmax(1) for draw in draws]
    return images, torch.stack(answers).mode(0).values


@contextmanager
def untouched(victim: Victim) -> Iterator[None]:
    """Fails unless victim, modes, random states, trace function and registries stay as they are."""
    before = _surroundings(victim)
    weights = {name: value.clone() for name, value in victim.state_dict().items()}
    yield
    for name, value in _surroundings(victim).items():
        assert value == before[name], f"{name} changed"
    for name, value in victim.state_dict().items():
        assert torch.equal(value, weights[name]), f"{name} changed"


def _surroundings(victim: Victim) -> dict[str, object]:
    checks = sys.modules.get("pyautoattack.checks")
    return {
        "modes": [module.training for module in victim.modules()],
        "gradients": [(p.requires_grad, p.grad is None) for p in victim.parameters()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in victim.modules()
        ],
        "python": random.getstate(),
        "numpy": tuple(map(str, np.random.get_state())),
        "torch": torch.get_rng_state().tolist(),
        "trace": sys.gettrace(),
        "grad mode": torch.is_grad_enabled(),
        "models": len(timm.list_models()),
        "modes of gradients": list(MODES),
        "counted functions": dict(checks.funcs) if checks else None,
    }
