"""Repeated trials of a noisy network on the same samples, and what they say about its code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from robust_snn.data.checks import check_some_pixels
from robust_snn.metrics.activity import record
from robust_snn.metrics.neural_code import correlation, fano_factor, prediction_similarity
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import device_of
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import check_victim


@dataclass(frozen=True)
class Trials:
    """Spikes of one layer and predictions, over trials.

    Attributes:
        spikes: Zeros and ones, bytes `[K, T, B, N]`.
        predictions: `[K, B, C]`: probabilities of classes, or any other answer.
        layer: Name of the layer.
        shape: Its shape for one sample, such as `(C, H, W)`; N is their product.
    """

    spikes: Tensor
    predictions: Tensor
    layer: str
    shape: tuple[int, ...]

    @cached_property
    def fano(self) -> Tensor:
        """Fano factor of every sample's neurons, `[B, N]`; NaN where a neuron never fires."""
        return fano_factor(self.spikes.sum(1, dtype=torch.float32))

    @property
    def mean_fano(self) -> Tensor:
        """Its mean over the neurons that fire, `[B]`."""
        return self.fano.nanmean(1)

    @cached_property
    def similarity(self) -> Tensor:
        """Mean cosine similarity of the predictions of two trials, `[B]`."""
        return prediction_similarity(self.predictions)

    def correlation(self) -> tuple[float, float]:
        """Correlation of mean Fano factor and similarity over samples, and its p-value.

        A negative one means that answers stay alike where spike counts do: a rate code (NSNN).
        """
        return correlation(self.mean_fano, self.similarity)

    def liveliest(self, sample: int, count: int) -> Tensor:
        """The neurons whose firing varies most over trials of a sample, in their order, `[n]`."""
        spread = self.spikes[:, :, sample].float().var(0).sum(0)
        chosen = spread.topk(min(count, len(spread))).indices
        return chosen[spread[chosen] > 0].sort().values


def repeat(
    victim: Victim,
    images: Tensor,
    trials: int = 32,
    layer: str | None = None,
    *,
    batch_size: int = 64,
    answer: Callable[[Tensor], Tensor] = lambda logits: logits.softmax(-1),
) -> Trials:
    """Runs the same samples under different noise.

    Args:
        victim: A victim with a noisy network of our neurons.
        images: Images or event frames `[B, ...]`.
        trials: Number of trials K.
        layer: Name of a spiking layer; the last one if left out.
        batch_size: Samples that pass together.
        answer: What predictions are of the network's output.

    Raises:
        InputError: If the network draws nothing, or has no such layer, or the images are none.
    """
    check_victim(victim)
    check_some_pixels(images)
    trials, batch_size = whole(trials, "trials"), whole(batch_size, "batch_size", 1)
    if not victim.stochastic:
        raise InputError(
            "repeated trials of a deterministic network are all alike; take a noisy one, such as "
            "snn_vggsnn_nlif, or one with stochastic gates"
        )
    if trials < 2:
        raise InputError(f"variation over trials needs at least 2 trials, got {trials}")
    spikes, predictions = [], []
    shape: tuple[int, ...] = ()
    for ids in torch.arange(len(images), device="cpu").split(batch_size):
        x, fired, said = images[ids].to(device_of(victim, images)), [], []
        for trial in range(trials):
            with record(victim.net) as activity:
                said.append(answer(victim.sample(x, ids, draw=trial, purpose="analysis")))
            name = layer or next(reversed(activity.layers), "")
            if name not in activity.layers:
                raise unknown("spiking layer", name, activity.layers)
            found = activity.layers[name].spikes
            shape = tuple(found.shape[2:])
            fired.append(found.flatten(2).to(torch.uint8).cpu())
        spikes.append(torch.stack(fired))
        predictions.append(torch.stack(said).cpu())
    return Trials(torch.cat(spikes, 2), torch.cat(predictions, 1), name, shape)
