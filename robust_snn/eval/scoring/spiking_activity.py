"""Activity inside a network and what an image costs, averaged over images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robust_snn.metrics import Operations, energy, firing_rates, operations, record
from robust_snn.metrics.energy import MAC_PICOJOULES, SOP_PICOJOULES
from robust_snn.metrics.image_energy import CostRecord, recorded_costs
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
        costs: Spikes, spike operations, multiplications and joules per image, up to an early exit
            where there is one, `[4]`.
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
    starts = range(0, len(ids), TOGETHER)
    parts = [slice(start, start + TOGETHER) for start in starts]
    runs = [run for part in parts for run in _runs(victim, images[part], ids[part])]
    weights = np.array([run.images for run in runs], float)
    return SpikingActivity(
        np.array(list(runs[0].rates), str),
        np.average([list(run.rates.values()) for run in runs], axis=0, weights=weights),
        np.average([run.costs for run in runs], axis=0, weights=weights),
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


class _Run(NamedTuple):
    """Rate by layer, and the four costs per image, of so many images."""

    images: int
    rates: dict[str, float]
    costs: tuple[float, ...]


@torch.no_grad()
def _runs(victim: Victim, images: Tensor, ids: np.ndarray) -> list[_Run]:
    """One pass, or one for every image where layers get other batches than these."""
    with recorded_costs(victim, len(images)) as found:
        victim.sample(images, torch.from_numpy(ids), purpose="activity")
    activity = found.activity
    if activity.regrouped and len(ids) > 1:
        alone = [slice(n, n + 1) for n in range(len(ids))]
        return [run for one in alone for run in _runs(victim, images[one], ids[one])]
    if not activity.layers:
        return [_Run(len(ids), {}, (0.0, 0.0, 0.0, 0.0))]
    done = operations(activity)
    if found.exit is not None:
        done = _up_to_the_exit(found, len(ids))
    costs = done.spikes, done.sops, done.macs, energy(done)
    rates = firing_rates(activity)  # of the victim's layers, whose network is `net`
    return [_Run(len(ids), {n.removeprefix("net."): rate for n, rate in rates.items()}, costs)]


def _up_to_the_exit(found: CostRecord, images: int) -> Operations:
    """Operations per image of the steps that a network with an early exit reads."""
    costs = found.costs(images)
    spikes = 0.0
    for layer in found.activity.layers.values():
        read = torch.arange(len(layer.spikes), device=costs.steps.device)[:, None] < costs.steps
        spikes += float((layer.spikes.flatten(2).sum(2) * read).sum(dtype=torch.float64))
    sops = float(costs.spike_operations.double().mean())
    joules = float(costs.picojoules.double().mean())
    macs = (joules - SOP_PICOJOULES * sops) / MAC_PICOJOULES
    return Operations(spikes / images, sops, macs)
