"""Draws Figure 1 of the stable-SNN paper (ICML 2024): how a perturbation moves a membrane.

    python examples/membrane_perturbation.py --out membrane_perturbation.png

A neuron with leak 0.9 and threshold 1 receives a constant input of 0.3 for 30 steps. In (a) and (b)
it is perturbed by +0.1; in (c) by Gaussian noise, with the standard deviation of 0.3 that the
caption states (the released script uses 0.1: `--sigma 0.1`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from robust_snn.metrics import membrane_potential, mppd, spike_train_distance, tasad
from robust_snn.neurons import LIF

DECAY, INPUT, SHIFT, STEPS = 0.9, 0.3, 0.1, 30
CLEAN, PERTURBED = "tomato", "deepskyblue"


def run(current: Tensor) -> tuple[Tensor, Tensor]:
    """Membranes and spikes of one neuron, `[T]` each."""
    trace = current.view(-1, 1, 1)
    spikes = LIF(DECAY)(trace)
    return membrane_potential(trace, spikes, DECAY).flatten(), spikes.flatten()


def saw(membrane: Tensor, spikes: Tensor) -> tuple[list[float], list[float]]:
    """The membrane as a line over continuous time, which falls to 0 where it fires."""
    x, y = [0.0], [0.0]
    for t, (v, s) in enumerate(zip(membrane.tolist(), spikes.tolist(), strict=True), start=1):
        x += [t, t]
        y += [v, 0.0 if s else v]
    return x, y


def draw_membranes(axes: Axes, clean: Tensor, perturbed: Tensor) -> None:
    for current, colour, label in [
        (clean, CLEAN, "membrane before perturbation"),
        (perturbed, PERTURBED, "membrane after perturbation"),
    ]:
        x, y = saw(*run(current))
        axes.plot(x, y, color=colour, label=label)
        axes.fill_between(x, 0, y, color=colour, alpha=0.25)
    axes.axhline(0, color="0.6", linewidth=0.6)
    axes.set(xlabel="time step", xlim=(0, STEPS))


def draw_reset(axes: Axes, clean: Tensor, perturbed: Tensor) -> None:
    """Panel (a): the difference of the membranes, and the dynamics without resets."""
    draw_membranes(axes, clean, perturbed)
    steps = range(STEPS + 1)
    difference = run(perturbed)[0] - run(clean)[0]
    simplified = mppd(perturbed, clean, DECAY)
    axes.plot(steps, [0, *difference.tolist()], "k:", linewidth=1.8, label="difference")
    axes.plot(steps, [0, *simplified.tolist()], "k-", linewidth=1.8, label="MPPD (no reset)")
    axes.set(ylabel="membrane potential / threshold", ylim=(-1.3, 2.4))


def draw_measures(axes: Axes, clean: Tensor, perturbed: Tensor) -> None:
    """Panels (b) and (c): what the three measures see, up to each step."""
    draw_membranes(axes, clean, perturbed)
    spikes = torch.stack([run(clean)[1], run(perturbed)[1]]).view(2, STEPS, 1, 1)
    lines = {
        "perturbation": ((perturbed - clean), "k", "-"),
        "TASAD": (_so_far(tasad, spikes), "teal", "-"),
        "STD$^2$ / T": (_so_far(spike_train_distance, spikes).square() / STEPS, "purple", "-"),
        "MPPD": (mppd(perturbed, clean, DECAY), "darkorange", "-"),
    }
    for label, (values, colour, style) in lines.items():
        drawstyle = "default" if label == "MPPD" else "steps-post"
        axes.plot(
            range(1, STEPS + 1), values, style, color=colour, label=label, drawstyle=drawstyle
        )
    axes.set(ylim=(-1.3, 2.9))


def _so_far(distance: Callable[[Tensor, Tensor], Tensor], spikes: Tensor) -> Tensor:
    """A distance between two spike trains `[2, T, 1, 1]`, cut after every step, `[T]`."""
    cuts = range(1, STEPS + 1)
    return torch.cat([distance(spikes[0, :cut], spikes[1, :cut]) for cut in cuts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("membrane_perturbation.png"))
    parser.add_argument("--sigma", type=float, default=0.3, help="of the Gaussian perturbation")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    clean = torch.full((STEPS,), INPUT)
    noise = torch.randn(STEPS, generator=torch.Generator().manual_seed(arguments.seed))
    figure, (a, b, c) = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained")
    draw_reset(a, clean, clean + SHIFT)
    draw_measures(b, clean, clean + SHIFT)
    draw_measures(c, clean, clean + arguments.sigma * noise)
    titles = (
        "(a) with and without reset",
        "(b) constant perturbation",
        f"(c) Gaussian perturbation, $\\sigma$ = {arguments.sigma:g}",
    )
    for axes, title in zip((a, b, c), titles, strict=True):
        axes.set_title(title)
        axes.legend(ncol=2, fontsize=8, frameon=False, loc="upper left")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=120)


if __name__ == "__main__":
    main()
