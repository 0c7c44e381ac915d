"""Certified training: a loss of the worst logits that interval bounds allow (S-IBP)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_snn.certificates.bounded_network import bounded_layers
from robust_snn.certificates.interval import Interval, box_around
from robust_snn.certificates.spike_bounds import bound_spikes
from robust_snn.neurons import LIF
from robust_snn.utils.modules import evaluating

SHARPNESS = 4.0  # of the sigmoid whose slope stands in for that of a bound's step


def worst_logits(net: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Upper bounds of how far each class leads the label within `eps` in Linf, `[B, K]`.

    At the label it is 0. All are negative at the others where the image is certified. Batch norms
    take their running statistics, with which the network is certified later.

    Args:
        net: A deterministic network of this package.
        images: `[B, C, H, W]` in [0, 1].
        labels: `[B]`.
        eps: Radius.
    """

    def bound(layer: LIF, current: Interval, steps: int) -> Interval:
        return bound_spikes(layer, current, steps, 0.0, _fire).spikes

    with evaluating(net), bounded_layers(net, bound):
        logits: Interval = net(box_around(images, eps))
    return -logits.differences(labels)


def certified_loss(net: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Cross-entropy of the worst logits (S-IBP, Liang et al., NeurIPS 2022); see `worst_logits`."""
    return F.cross_entropy(worst_logits(net, images, labels, eps), labels)


def _fire(distance: Tensor, tolerance: float) -> Tensor:
    """The step function, with the gradient of a sigmoid."""
    soft = torch.sigmoid(SHARPNESS * (distance - tolerance))
    hard = (distance >= tolerance).to(distance.dtype)
    return hard + soft - soft.detach()
