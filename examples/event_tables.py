"""Tables 2 and 7 of the NSNN paper, and flips of SDA, on `digits-events`.

    python examples/event_tables.py --out runs/events

A deterministic and a noisy VGGSNN of an eighth of the paper's width learn the digits in a minute on
one core, each from several seeds. Then events are dropped (Table 2) and hidden spikes flipped
(Table 7). Accuracy and loss are means over the seeds, with 95 % intervals over recordings; the
lowest and the highest seed show how much training matters. Last, SDA flips entries of the first
seed's frames: success over all recordings that were right, and the median that papers give, which
leaves failures out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from robust_snn import Victim
from robust_snn.attacks import SDA, changed_entries
from robust_snn.data import ImageSet, load_dataset
from robust_snn.eval.protocol.corruptions import (
    Corrupted,
    Corruption,
    EventDrop,
    SpikeFlip,
)
from robust_snn.eval.scoring.corruption_accuracy import CorruptionAccuracy, corruption_accuracy
from robust_snn.eval.scoring.intervals import Estimate, fraction
from robust_snn.training import load_recipe, train
from robust_snn.victim import correct

MODELS = ("snn_vggsnn", "snn_vggsnn_nlif")
MODEL_KWARGS = {"width": 0.125, "T": 5}
RHOS, BETAS = (0.05, 0.25, 0.45, 0.65), (0.01, 0.02, 0.03, 0.04)
BUDGETS = (25, 50, 100, 200)
DAMAGES: dict[str, Corruption] = {
    **{f"mixed drop {rho}": EventDrop(rho) for rho in RHOS},
    **{f"random drop {rho}": EventDrop(rho, "random") for rho in RHOS},
    **{f"independent flips {beta}": SpikeFlip(beta) for beta in BETAS},
    **{f"exact flips {beta}": SpikeFlip(beta, "exact") for beta in BETAS},
}


def trained(model: str, out: Path, epochs: int, seed: int) -> Victim:
    """A network from a folder, trained there if it is not."""
    train_set, test_set = (
        load_dataset("digits-events", split=split, steps=MODEL_KWARGS["T"])
        for split in ("train", "test")
    )
    recipe = load_recipe("natural").replace(
        epochs=epochs, batch_size=32, optimizer="adamw", lr=4e-3, augment=False
    )
    folder = out / f"{model}-{seed}"
    done = train(
        model, train_set, test_set, recipe, out=folder, model_kwargs=MODEL_KWARGS, seed=seed
    )
    return Victim(done.net)


def rows_of(victims: Sequence[Victim], data: ImageSet, draws: int) -> dict[str, CorruptionAccuracy]:
    """Accuracy and loss, clean and under every corruption."""

    def measured(victims: Sequence[Victim]) -> CorruptionAccuracy:
        return corruption_accuracy(victims, data.images, data.labels, draws=draws, batch_size=100)

    damaged = {
        name: measured([Corrupted(victim, damage) for victim in victims])
        for name, damage in DAMAGES.items()
    }
    return {"clean": measured(victims), **damaged}


def write_table(found: dict[str, dict[str, CorruptionAccuracy]], path: Path) -> Table:
    """All numbers as CSV, and the same as a table to print."""
    table = Table("corruption", *(f"{m} {what}" for m in MODELS for what in ("accuracy", "loss")))
    header = "corruption model accuracy low high lowest_seed highest_seed loss loss_low loss_high"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split())
        for name in found[MODELS[0]]:
            cells = []
            for model in MODELS:
                m = found[model][name]
                seeds = (min(m.each), max(m.each))
                row = (name, model, m.accuracy, *m.accuracy_ci, *seeds, m.loss, *m.loss_ci)
                writer.writerow(row)
                shares = "{:.1%} ({:.1%}-{:.1%})\nseeds {:.1%}-{:.1%}"
                cells.append(shares.format(m.accuracy, *m.accuracy_ci, *seeds))
                cells.append("{:.2f} ({:.2f}-{:.2f})".format(m.loss, *m.loss_ci))
            table.add_row(name, *cells)
    return table


def wrong(victim: Victim, images: Tensor, labels: Tensor, ids: Tensor, purpose: str) -> Tensor:
    """Whether most of 20 draws miss the label, bool `[B]`; one draw where there is no noise."""
    right = correct(
        victim, images, labels, draws=20, ids=ids, purpose=purpose, batch_size=len(images)
    )
    return (~right).float().mean(1) >= 0.5


@dataclass(frozen=True)
class FlipStatistics:
    """How sparse an attack was.

    Attributes:
        success: Share of all recordings fooled with at most that many flips, by budget, with its
            95 % interval.
        median: Median number of flips over all recordings, failures counting as infinitely many.
        median_of_successes: The number that papers report, which leaves failures out; NaN if there
            was no success.
    """

    success: dict[int, Estimate]
    median: float
    median_of_successes: float


def flip_statistics(
    flips: np.ndarray, fooled: np.ndarray, budgets: Sequence[int] = (200, 800)
) -> FlipStatistics:
    """Statistics of one attack.

    Args:
        flips: Flipped entries per recording, `[N]`.
        fooled: Whether the attack succeeded, `[N]`; recordings that were wrong before belong to
            neither side and should be left out.
        budgets: Numbers of flips at which the share of success is wanted.
    """
    needed = np.where(fooled, flips, np.inf)
    ones = np.ones(len(needed))
    return FlipStatistics(
        {budget: fraction(needed <= budget, ones) for budget in budgets},
        float(np.median(needed)),
        float(np.median(flips[fooled])) if fooled.any() else float("nan"),
    )


def flip_row(victim: Victim, data: ImageSet, count: int) -> str:
    """Success of SDA over the recordings that are right at first."""
    missed = wrong(victim, data.images, data.labels, torch.arange(len(data)), "clean")
    right = (~missed).nonzero()[:count, 0]
    images, labels = data.images[right], data.labels[right]
    attacked = victim.replace(gradient="pdsg", eot=8 if victim.stochastic else 1)
    found = SDA(steps=20)(attacked, images, labels, eps=images[0].numel())
    # the attack's own word is not believed: fresh draws decide
    fooled = wrong(victim, found.images, labels, right, "report")
    flips = changed_entries(images, found.images).numpy()
    statistics = flip_statistics(flips, fooled.numpy(), BUDGETS)
    shares = ", ".join(
        f"{share.value:.0%} ({share.ci[0]:.0%}-{share.ci[1]:.0%}) within {budget}"
        for budget, share in statistics.success.items()
    )
    return (
        f"{shares}; median {statistics.median:g} of all {len(right)}, "
        f"{statistics.median_of_successes:g} of successes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/events"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3, help="networks of each kind")
    parser.add_argument("-n", type=int, default=300, help="test recordings")
    parser.add_argument("--draws", type=int, default=4, help="for each network and recording")
    parser.add_argument("--sda", type=int, default=50, help="recordings that SDA attacks")
    options = parser.parse_args()
    data = load_dataset("digits-events", n=options.n, steps=MODEL_KWARGS["T"])
    victims = {
        model: [trained(model, options.out, options.epochs, s) for s in range(options.seeds)]
        for model in MODELS
    }
    found = {model: rows_of(alike, data, options.draws) for model, alike in victims.items()}
    console = Console(width=130)
    console.print(write_table(found, options.out / "tables.csv"))
    if options.sda:
        for model, alike in victims.items():
            console.print(f"SDA on {model}: {flip_row(alike[0], data, options.sda)}")


if __name__ == "__main__":
    main()
