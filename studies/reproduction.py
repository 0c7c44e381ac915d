"""What three papers claim, on small networks: their protocol, and ours, side by side.

python studies/reproduction.py --train CIFAR-TRAIN --test CIFAR-TEST --out runs/reproduction

Trains eleven networks from each seed: with and without stochastic gates (StoG) on natural images,
in adversarial training and in regularised adversarial training; with and without DLIF's trainable
leak and the penalty on membrane perturbations (MS-MPPD); and with noisy neurons (NSNN). Evaluates
each as the papers do and under `adaptive-small`, prints the tables of docs/reproduction.md and
draws its figure. Folders or tars of class folders will do, or the name of a data set for both. A
killed run goes on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from robust_snn import Victim, evaluate
from robust_snn.data import ImageSet, load_dataset
from robust_snn.eval import AttackSpec, Draws, Predictions, Suite, load_suite
from robust_snn.eval.scoring.intervals import difference
from robust_snn.training import load_model, load_recipe, train
from robust_snn.utils.figures import new_figure

KWARGS = {"T": 4, "width": 0.125, "head_width": 256}
SIZE = 16  # images are resized, so that one core trains and attacks 22 networks in an hour
SHORT = {"epochs": 3, "batch_size": 64, "augment": False}
NATURAL, MOVED = 2 / 255, 4 / 255  # radius at which networks of either training are attacked
AT = {"eps": MOVED}
RAT = {**AT, "retraction": 4e-3}  # the paper's for WRN-16: a short training needs a strong one
DRAWS, PROBED = Draws(40, 10), 16
Found = dict[str, dict[str, np.ndarray]]  # `[seeds, N]` by network and column


@dataclass(frozen=True)
class Net:
    """A network, and how it is trained."""

    model: str
    recipe: str = "natural"
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def eps(self) -> float:
        return NATURAL if self.recipe == "natural" else MOVED


NETS = {
    "LIF": Net("snn_vgg5"),
    "StoG": Net("snn_vgg5_stog"),
    "LIF, AT": Net("snn_vgg5", "at", AT),
    "StoG, AT": Net("snn_vgg5_stog", "at", AT),
    "NLIF": Net("snn_vgg5_nlif"),
    "LIF, RAT": Net("snn_vgg5", "rat", RAT),
    "StoG, RAT": Net("snn_vgg5_stog", "rat", RAT),
    "DLIF": Net("snn_vgg5_dlif"),
    "LIF, half AT": Net("snn_vgg5", "stable-at", {"rho": 0}),
    "DLIF, half AT": Net("snn_vgg5_dlif", "stable-at", {"rho": 0}),
    "DLIF, half AT, MS-MPPD": Net("snn_vgg5_dlif", "stable-at"),
}
CLAIMS = (
    ("StoG", "LIF", "StoG"),
    ("StoG in AT", "LIF, AT", "StoG, AT"),
    ("StoG in RAT", "LIF, RAT", "StoG, RAT"),
    ("MS-MPPD in AT", "DLIF, half AT", "DLIF, half AT, MS-MPPD"),
    ("DLIF", "LIF", "DLIF"),
    ("DLIF in AT", "LIF, half AT", "DLIF, half AT"),
    ("noisy neurons", "LIF", "NLIF"),
)
LAST = {"select": 1, "keep": 1}  # the last point that the attack met is its answer
OWN: dict[str, Any] = {"implementation": "robust_snn", "gradient": "bptt"}
PAPERS = Suite(
    "papers",
    (
        AttackSpec("FGSM", attack="fgsm", **OWN, options=LAST),
        AttackSpec("PGD-7", attack="pgd", **OWN, steps=7, options=LAST),
        AttackSpec("APGD-10, EOT-10", attack="apgd", **OWN, steps=10, options={"eot_loss": 10}),
    ),
    draws=DRAWS,
    independent=True,
)
DO = Suite(
    "do",
    (AttackSpec("DO, L2", attack="do", **OWN, steps=30, options=LAST),),
    norm="L2",
    eps=0.5,
    draws=DRAWS,
)
ADAPTIVE = replace(load_suite("adaptive-small"), draws=DRAWS)
COLUMNS = ("clean", *(row.name for row in (*PAPERS.attacks, *DO.attacks)), "adaptive")


def suites(name: str) -> list[tuple[Suite, float]]:
    """What a network goes through; DO is for the noisy neurons and what they are compared with."""
    eps = NETS[name].eps
    found = [(PAPERS, eps), (ADAPTIVE, eps)]
    return [*found, (DO, DO.eps)] if name in ("LIF", "NLIF") else found


def folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(', ', '-').replace(' ', '-').lower()}-{seed}"


def run(name: str, seed: int, data: ImageSet, test: ImageSet, n: int, out: Path) -> None:
    """Trains and attacks one network."""
    net, where = NETS[name], folder(out, name, seed)
    recipe = load_recipe(net.recipe).replace(**SHORT, **net.changes)
    train(net.model, data, test, recipe, out=where, model_kwargs=KWARGS, seed=seed, progress=True)
    victim = Victim(load_model(where / "model.safetensors")[0].eval())
    for suite, eps in suites(name):
        evaluate(
            victim,
            test.images[:n],
            test.labels[:n],
            suite=suite,
            eps=eps,
            calibration=(test.images[n : n + PROBED], test.labels[n : n + PROBED]),
            out=where / suite.name,
            progress=True,
        )


def shares(name: str, seeds: Sequence[int], out: Path) -> dict[str, np.ndarray]:
    """Share of the draws on which each image is right, `[seeds, N]`, by column."""
    found: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        for suite, _ in suites(name):
            results = Predictions.load(folder(out, name, seed) / suite.name)
            answers = {row.name: results.attacks[i] for i, row in enumerate(suite.attacks)}
            if suite is PAPERS:
                answers["clean"] = results.clean
            if suite is ADAPTIVE:
                answers = {"adaptive": results.worst}
            for column, answer in answers.items():
                right = (answer == results.labels[:, None]).mean(1)
                found.setdefault(column, []).append(right)
    return {column: np.stack(values) for column, values in found.items()}


def accuracies(found: Found) -> str:
    """Accuracy of every network, mean over images and seeds, and each seed's in brackets."""
    lines = [_line("network", "eps", *COLUMNS), "|---" * (len(COLUMNS) + 2) + "|"]
    for name, net in NETS.items():
        right = found[name]
        cells = [_mean(right[column]) if column in right else "" for column in COLUMNS]
        lines.append(_line(name, f"{net.eps * 255:.0f}/255", *cells))
    return "\n".join(lines)


def changes(found: Found) -> str:
    """What each mechanism adds, in points, with the interval over images."""
    lines = [_line("adding", "to", *COLUMNS), "|---" * (len(COLUMNS) + 2) + "|"]
    for what, without, having in CLAIMS:
        before, after = found[without], found[having]
        cells = []
        for column in COLUMNS:
            cell = ""
            if column in before and column in after:
                change = difference(before[column].mean(0), after[column].mean(0))
                low, high = (100 * bound for bound in change.ci)
                cell = f"{100 * change.value:+.1f} ({low:+.0f} to {high:+.0f})"
            cells.append(cell)
        lines.append(_line(what, without, *cells))
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(right: np.ndarray) -> str:
    each = ", ".join(f"{100 * value:.0f}" for value in right.mean(1))
    return f"{100 * right.mean():.1f} ({each})"


def draw(found: Found, path: Path) -> None:
    """What each mechanism adds under the papers' attacks and under ours; a dot per seed."""
    columns = ("FGSM", "PGD-7", "APGD-10, EOT-10", "adaptive")
    figure = new_figure(8.0, 4.8, "bench")
    axes = figure.subplots()
    for number, column in enumerate(columns):
        for row, (_, without, having) in enumerate(CLAIMS):
            before, after = found[without][column], found[having][column]
            change, height = difference(before.mean(0), after.mean(0)), row + 0.2 * number - 0.3
            low, high = change.ci
            bar = axes.barh(height, 100 * change.value, height=0.18, color=f"C{number}", alpha=0.7)
            if row == 0:
                bar.set_label(column)
            axes.plot([100 * low, 100 * high], [height, height], color="black", lw=1)
            each = 100 * (after - before).mean(1)
            axes.plot(each, [height] * len(each), "o", color="black", ms=2.5)
    axes.set_yticks(range(len(CLAIMS)), [what for what, *_ in CLAIMS])
    axes.invert_yaxis()
    axes.axvline(0, color="black", lw=0.8)
    axes.set(xlabel="change of accuracy in points; line: 95 %, dots: seeds")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=110)


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("-n", type=int, default=100, help="images attacked")
    parser.add_argument("--trained-on", type=int, default=12000, help="images to train on")
    arguments = parser.parse_args()
    data = load_dataset(arguments.train, split="train", size=SIZE, n=arguments.trained_on)
    test = load_dataset(arguments.test, size=SIZE, n=2000)
    for seed in arguments.seeds:
        for name in NETS:
            run(name, seed, data, test, arguments.n, arguments.out)
    found = {name: shares(name, arguments.seeds, arguments.out) for name in NETS}
    print(accuracies(found))
    print(changes(found))
    draw(found, arguments.out / "reproduction.png")


if __name__ == "__main__":
    main()
