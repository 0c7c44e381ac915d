"""Small victims to attack: one deterministic, one noisy enough that its answers change."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn import Victim
from robust_snn.neurons import StochasticGate
from zoo import awake, narrow

SHAPE = (3, 8, 8)


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
