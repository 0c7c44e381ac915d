"""Activity inside a network and what an image costs, averaged over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robust_snn.metrics import energy, firing_rates, operations, record
from robust_snn.utils.errors import InputError
from robust_snn.victim import Victim

NEURONS = 90  # that a raster shows
TOGETHER = 2  # images recorded in one pass: a record holds the spikes of all layers


@dataclass(frozen=True)
class SpikingActivity:
    """Activity of one noise draw per image, averaged over images. `L` spiking layers.

    Attributes:
        layers: Names of the layers, `[L]`; empty for a network that is not ours.
        rates: Spikes per neuron and step, `[L]`.
        costs: Spikes, spike operations, multiplications and joules per image, `[4]`.
    """

    layers: np.ndarray
    rates: np.ndarray
    costs: np.ndarray

    @classmethod
    def none(cls) -> SpikingActivity:
        """The activity of a network that is not ours."""
        return cls(np.array([], str), np.empty(0), np.zeros(4))


def spiking_activity(victim: Victim, images: Tensor, ids: np.ndarray) -> SpikingActivity:
    """Measures activity and cost.

    Args:
        victim: The victim.
        images: `[B, C, H, W]`, where the network is.
        ids: Index of every image in the evaluated set, `[B]`.
    """
    together = (
        1 if _regrouped(victim, images[:1].repeat(2, *[1] * (images.dim() - 1))) else TOGETHER
    )
    starts = range(0, len(ids), together)
    parts = [slice(start, start + together) for start in starts]
    runs = [_one_pass(victim, images[part], ids[part]) for part in parts]
    weights = np.array([len(ids[part]) for part in parts], float)
    return SpikingActivity(
        np.array(list(runs[0][0]), str),
        np.average([list(rates.values()) for rates, _ in runs], axis=0, weights=weights),
        np.average([costs for _, costs in runs], axis=0, weights=weights),
    )


@torch.no_grad()
def spike_raster(victim: Victim, pair: Tensor, image: int) -> tuple[np.ndarray, np.ndarray]:
    """Spikes of the busiest neurons of every layer on two versions of an image, under one noise.

    Args:
        victim: The victim.
        pair: The versions, `[2, C, H, W]`, where the network is.
        image: Index of the image in the evaluated set.

    Returns:
        Whether a neuron fired, bool `[2, R, T]`, and the number of its layer from 1 on, `[R]`.

    Raises:
        InputError: If no layer that is known here computes all time steps at once, or layers get
            other batches than these two.
    """
    with record(victim.net, len(pair)) as activity:
        victim.sample(pair, torch.tensor([image, image]), purpose="activity")
    if activity.regrouped:
        raise InputError("layers of the network get other batches than its images")
    fired = {n: layer.spikes.flatten(2) for n, layer in enumerate(activity.layers.values(), 1)}
    steps = max((len(spikes) for spikes in fired.values()), default=0)
    if steps < 2:
        raise InputError("no spiking layer that is known here computes several time steps at once")
    fired = {n: spikes for n, spikes in fired.items() if len(spikes) == steps}
    share = max(NEURONS // len(fired), 1)
    rows, layers = [], []
    for number, spikes in fired.items():
        busiest = spikes.sum((0, 1)).topk(min(share, spikes.shape[2])).indices.sort().values
        rows.append(spikes[:, :, busiest].permute(1, 2, 0) > 0)
        layers += [number] * len(busiest)
    return torch.cat(rows, 1).cpu().numpy(), np.array(layers)


@torch.no_grad()
def _regrouped(victim: Victim, images: Tensor) -> bool:
    """Whether layers get other batches than the network, which differ between batches of it."""
    with record(victim.net, len(images)) as activity:
        victim.sample(images, torch.arange(len(images)), purpose="activity")
    return activity.regrouped


@torch.no_grad()
def _one_pass(
    victim: Victim, images: Tensor, ids: np.ndarray
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Rate by layer, and the four costs per image."""
    with record(victim.net, len(images)) as activity:
        victim.sample(images, torch.from_numpy(ids), purpose="activity")
    if not activity.layers:
        return {}, (0.0, 0.0, 0.0, 0.0)
    done = operations(activity)
    return firing_rates(activity), (done.spikes, done.sops, done.macs, energy(done))
