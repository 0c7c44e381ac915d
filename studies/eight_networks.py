"""Adaptive suites beside everything published, on eight networks: who breaks what, at what cost.

python studies/eight_networks.py --data cifar10 --out runs/eight

Trains each network, attacks the same images with AutoAttack, with everything that reviewers name
and with the adaptive suites, and prints for each: robust accuracy, its interval, gradients, queries
and wall time; the union of all; the images that others broke and it did not; and whether it is
above AutoAttack by more than chance (McNemar's exact test). A killed run goes on.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from robust_snn import Victim, evaluate
from robust_snn.data import load_dataset
from robust_snn.eval import Predictions, Verdict
from robust_snn.eval.execution.preflight import CALIBRATION
from robust_snn.training import load_model, load_recipe, train

SUITES = (
    "autoattack",
    "published",
    "tmlr19",
    "adaptive-small",
    "adaptive-medium",
    "adaptive-large",
)


@dataclass(frozen=True)
class Net:
    """A network, its training and the radius of the attacks."""

    model: str
    recipe: str = "at"
    kwargs: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    eps: float = 8 / 255

    @property
    def noisy(self) -> bool:
        return self.model.endswith(("_stog", "_nlif", "_poisson"))


NARROW = {"width": 0.125}
NETS = {
    "vgg5-soft": Net("snn_vgg5", kwargs={**NARROW, "head_width": 64, "reset": "soft", "T": 3}),
    "vgg11-dlif": Net("snn_vgg11_dlif", kwargs={**NARROW, "T": 4}),
    "wrn16": Net("snn_wrn16", kwargs={**NARROW, "T": 4}),
    "resnet20-trades": Net("snn_resnet20", "trades", kwargs={**NARROW, "T": 4}),
    "sew7b": Net("snn_sew7b", kwargs={**NARROW, "T": 6}, eps=4 / 255),
    "cifarnet-natural": Net("snn_cifarnet", "natural", kwargs={**NARROW, "T": 4}, eps=2 / 255),
    "vgg5-stog": Net("snn_vgg5_stog", kwargs={**NARROW, "head_width": 64, "T": 4}),
    "vgg5-nlif": Net("snn_vgg5_nlif", kwargs={**NARROW, "head_width": 64, "T": 4}),
}


def run(name: str, arguments: argparse.Namespace) -> dict[str, tuple[Verdict, np.ndarray]]:
    """Trains a network and attacks it; by suite the verdict, and what holds, bool `[N]`."""
    net, folder = NETS[name], arguments.out / name
    size = {} if arguments.size is None else {"size": arguments.size}
    images = load_dataset(arguments.data, split="train", **size)
    test = load_dataset(arguments.data, split="test", **size)
    recipe = load_recipe(net.recipe).replace(batch_size=128, augment=False, **net.changes)
    recipe = recipe.replace(epochs=arguments.epochs)
    train(net.model, images, test, recipe, out=folder, model_kwargs=net.kwargs)
    victim = Victim(load_model(folder / "model.safetensors")[0].eval())
    n, found = arguments.n, {}
    for suite in arguments.suites:
        released = "autoattack-rand" if net.noisy else "autoattack-standard"
        out = folder / suite
        verdict = evaluate(
            victim,
            test.images[:n],
            test.labels[:n],
            suite=released if suite == "autoattack" else suite,
            eps=arguments.eps or net.eps,
            calibration=(test.images[n : n + CALIBRATION], test.labels[n : n + CALIBRATION]),
            out=out,
        )
        predictions = Predictions.load(out)
        holds = (predictions.worst == predictions.labels[:, None]).mean(1) > 0.5
        found[suite] = verdict, holds
    return found


def table(name: str, found: dict[str, tuple[Verdict, np.ndarray]]) -> str:
    """A table in Markdown of one network."""
    lines = [
        f"\n{name}: {next(iter(found.values()))[0].clean.accuracy:.1%} clean\n",
        "| suite | robust | 95 % | gradients | other passes | seconds | others broke |",
        "|---|---|---|---|---|---|---|",
    ]
    union = np.logical_and.reduce([holds for _, holds in found.values()])
    for suite, (verdict, holds) in found.items():
        n, probe = verdict.data["n"], verdict.probe
        backwards = sum(row.backwards for row in verdict.attacks) + (
            probe.backwards if probe else 0
        )
        forwards = sum(row.forwards for row in verdict.attacks) + (probe.forwards if probe else 0)
        low, high = verdict.robust.ci
        lines.append(
            f"| {suite} | {verdict.robust.accuracy:.1%} | {low:.1%} - {high:.1%} | "
            f"{backwards / n:,.0f} | {(forwards - backwards) / n:,.0f} | {verdict.seconds:,.0f} | "
            f"{int((holds & ~union).sum())} |"
        )
    lines.append(f"| union | {union.mean():.1%} | | | | | |")
    if "autoattack" in found:
        _, released = found["autoattack"]
        for suite, (_, holds) in found.items():
            above, below = int((holds & ~released).sum()), int((~holds & released).sum())
            p = binomtest(above, above + below, alternative="greater").pvalue if above else 1.0
            lines.append(
                f"\n{suite} above AutoAttack on {above}, below on {below} images: p = {p:.2g}"
            )
    return "\n".join(lines)


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, help="of the images, instead of their own")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--eps", type=float, help="instead of the networks' own")
    parser.add_argument("-n", type=int, default=200)
    arguments = parser.parse_args()
    for name in arguments.nets:
        print(table(name, run(name, arguments)), flush=True)


if __name__ == "__main__":
    main()
