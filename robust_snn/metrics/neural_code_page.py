"""One page of pictures of the neural code, after Figures 5, 7 and 8 of the NSNN paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robust_snn.metrics.neural_code import jpsth_of_pairs, psth
from robust_snn.metrics.trials import Trials
from robust_snn.utils.figures import new_figure, save_figure


def draw_page(
    trials: Trials,
    path: Path,
    *,
    sample: int = 0,
    neurons: int = 16,
    stimulus: Tensor | None = None,
    title: str = "",
) -> None:
    """Draws two trials of a sample, its histograms, and the code over all samples.

    Args:
        trials: The trials.
        path: Where the page goes; its suffix says in which format.
        sample: Sample whose trials are shown.
        neurons: How many neurons the histograms show: those that vary most.
        stimulus: What the network saw: an image `[C, H, W]`, event frames `[T, 2, H, W]`, or a
            series `[T]`.
        title: Heading.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = new_figure(15, 17)
    figure.suptitle(title)
    parts: Any = figure.subfigures(4, 1, height_ratios=(1, 1, 1, 2.1))
    top, middle, code, pairs = parts
    spikes = trials.spikes[:, :, sample].float()  # [K, T, N]
    chosen = trials.liveliest(sample, neurons)
    shown, predicted, *maps = top.subplots(1, 4)
    _stimulus(shown, stimulus)
    _predictions(predicted, trials.predictions[:, sample])
    for trial, (map_of, raster) in enumerate(zip(maps, middle.subplots(1, 2), strict=True)):
        _rate_map(map_of, spikes[trial], trials.shape, trial)
        _raster(raster, spikes[trial], trial)
    histogram, population, fano, correlation = code.subplots(1, 4)
    _population(population, spikes)
    _fano(fano, trials)
    _correlation(correlation, trials)
    if len(chosen):  # a silent layer has none
        _histogram(histogram, spikes[:, :, chosen], chosen)
        joint, defined = jpsth_of_pairs(spikes[:, :, chosen])
        mosaic, synchrony = pairs.subplots(1, 2)
        _mosaic(mosaic, joint, chosen, len(spikes) ** -0.5)
        _synchrony(synchrony, joint, defined, chosen)
    else:
        histogram.set_axis_off()
    save_figure(figure, path, dpi=110)


def _stimulus(axes: Any, stimulus: Tensor | None) -> None:
    if stimulus is None:
        axes.set_axis_off()
    elif stimulus.ndim == 1:
        axes.plot(stimulus.numpy(), color="black")
        axes.set(title="stimulus", xlabel="step")
    elif stimulus.ndim == 4:
        both = stimulus.sum(0).numpy()
        axes.imshow(both[-1] - both[0], cmap="RdBu", vmin=-both.max(), vmax=both.max())
        axes.set(title="stimulus: events, ON blue, OFF red", xticks=[], yticks=[])
    else:
        axes.imshow(stimulus.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray")
        axes.set(title="stimulus", xticks=[], yticks=[])


def _predictions(axes: Any, predictions: Tensor) -> None:
    shares, place = predictions.numpy(), np.arange(predictions.shape[1])
    mean, spread = shares.mean(0), shares.std(0, ddof=1)
    axes.errorbar(place, mean, spread, fmt="k_", label="mean and sd of all trials")
    for trial in range(2):
        axes.plot(place, shares[trial], "o", ms=4, alpha=0.7, label=f"trial {trial + 1}")
    axes.set(title="predictions", xlabel="output")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=7)


def _rate_map(axes: Any, spikes: Tensor, shape: tuple[int, ...], trial: int) -> None:
    """Mean rate over channels where there is a map, else all neurons row by row."""
    rates = spikes.mean(0).view(shape)
    if len(shape) == 3 and min(shape[1:]) > 2:
        rates, what = rates.mean(0), "mean over channels"
    else:
        flat = rates.flatten()
        width = int(np.ceil(len(flat) ** 0.5))
        missing = torch.full((-len(flat) % width,), torch.nan)
        rates, what = torch.cat([flat, missing]).view(-1, width), "neurons row by row"
    image = axes.imshow(rates.numpy(), cmap="viridis", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, shrink=0.8, label="spikes per step")
    axes.set(title=f"firing rates of trial {trial + 1}\n({what})", xticks=[], yticks=[])


def _raster(axes: Any, spikes: Tensor, trial: int) -> None:
    look = {"cmap": "Greys", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    axes.imshow(spikes.T.numpy(), aspect="auto", origin="lower", **look)
    axes.set(title=f"raster of trial {trial + 1}", xlabel="step", ylabel="neuron")
    for edge in range(1, len(spikes)):
        axes.axvline(edge - 0.5, color="lightgray", lw=0.4)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _histogram(axes: Any, spikes: Tensor, chosen: Tensor) -> None:
    image = axes.imshow(psth(spikes).T.numpy(), aspect="auto", cmap="magma", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes)
    axes.set(title=f"PSTH over {len(spikes)} trials", xlabel="step", ylabel="neuron")
    axes.set_yticks(range(len(chosen)), chosen.tolist(), fontsize=6)


def _population(axes: Any, spikes: Tensor) -> None:
    rate = spikes.mean(2).numpy()  # [K, T]
    mean, spread, steps = rate.mean(0), rate.std(0, ddof=1), np.arange(rate.shape[1])
    axes.plot(steps, mean, color="black")
    axes.fill_between(steps, mean - spread, mean + spread, alpha=0.3)
    axes.set(title="population rate, sd over trials", xlabel="step", ylabel="spikes per neuron")


def _fano(axes: Any, trials: Trials) -> None:
    factors = trials.fano[~trials.fano.isnan()]
    axes.hist(factors.numpy(), bins=40, color="gray")
    axes.axvline(1, color="black", lw=0.8, ls=":", label="Poisson")
    axes.set(title="Fano factors", xlabel="variance over mean of spike counts")
    axes.set_ylabel("neurons, of all samples")
    axes.legend(fontsize=7)


def _correlation(axes: Any, trials: Trials) -> None:
    fano, similarity = trials.mean_fano.numpy(), trials.similarity.numpy()
    r, p = trials.correlation()
    axes.scatter(fano, similarity, s=8)
    if not np.isnan(r):
        both = ~(np.isnan(fano) | np.isnan(similarity))
        slope, offset = np.polyfit(fano[both], similarity[both], 1)
        ends = np.array([fano[both].min(), fano[both].max()])
        axes.plot(ends, offset + slope * ends, color="black", lw=1, ls=":")
    axes.set(title=f"{len(fano)} samples: r = {r:.2f}, p = {p:.1g}")
    axes.set(xlabel="mean Fano factor", ylabel="similarity of predictions")


def _mosaic(axes: Any, joint: Tensor, chosen: Tensor, chance: float) -> None:
    neurons, steps = joint.shape[0], joint.shape[2]
    whole = joint.transpose(1, 2).reshape(neurons * steps, neurons * steps)
    most = min(5 * chance, 1)  # so that what chance does is pale
    look = {"cmap": "RdBu_r", "vmin": -most, "vmax": most, "interpolation": "nearest"}
    image = axes.imshow(whole.numpy(), **look)
    for edge in range(1, neurons):
        axes.axhline(edge * steps - 0.5, color="black", lw=0.4)
        axes.axvline(edge * steps - 0.5, color="black", lw=0.4)
    places = np.arange(neurons) * steps + steps / 2 - 0.5
    _name(axes, places, chosen)
    axes.set(title="normalised JPSTH of every two neurons (steps inside each square)")
    label = f"correlation; chance has sd {chance:.2f}"
    axes.figure.colorbar(image, ax=axes, shrink=0.6, extend="both", label=label)


def _synchrony(axes: Any, joint: Tensor, defined: Tensor, chosen: Tensor) -> None:
    """Mean of the main diagonals: how much more often than by chance neurons fire together."""
    known = defined.diagonal(dim1=2, dim2=3).sum(-1)
    mean = joint.diagonal(dim1=2, dim2=3).sum(-1) / known.clamp(min=1)
    mean = mean.masked_fill(torch.eye(len(mean), dtype=torch.bool), torch.nan)
    most = max(float(mean.nan_to_num().abs().max()), 1e-3)
    image = axes.imshow(mean.numpy(), cmap="RdBu_r", vmin=-most, vmax=most)
    _name(axes, np.arange(len(chosen)), chosen)
    axes.set(title="synchrony: mean correlation in the same step")
    axes.figure.colorbar(image, ax=axes, shrink=0.6)


def _name(axes: Any, places: np.ndarray, neurons: Tensor) -> None:
    axes.set_xticks(places, neurons.tolist(), fontsize=7, rotation=90)
    axes.set_yticks(places, neurons.tolist(), fontsize=7)
    axes.set(xlabel="neuron", ylabel="neuron")
