"""Adaptive suites beside everything published, on eight networks: who breaks what, at what cost.

python studies/eight_networks.py --train CIFAR-TRAIN --test CIFAR-TEST --out runs/eight

Trains each network, attacks the same images with AutoAttack, with everything that reviewers name
and with the adaptive suites, and prints for each: robust accuracy, its interval, gradients, queries
and seconds (on a CPU those of the processor); the union of all; the images that others broke and it
did not; and whether it is above AutoAttack by more than chance (McNemar's exact test). Folders or
tars of class folders will do, or the name of a data set for both. A killed run resumes.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest
from torch import nn

from robust_snn import Victim, adapt, evaluate
from robust_snn.data import ImageSet, load_dataset
from robust_snn.eval import Predictions, Verdict
from robust_snn.eval.execution.preflight import CALIBRATION
from robust_snn.training import load_model, load_recipe, train

sys.path.insert(0, str(Path(__file__).resolve().parent))
from networks_of_others import JellyNet, OwnNet, trained  # noqa: E402

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
    """A registered name or a class; its training, and the radius of training and attacks."""

    model: str | Callable[[int], nn.Module]
    recipe: str = "at"
    size: int = 16
    kwargs: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    eps: float = 8 / 255
    epochs: int = 4


def narrow(T: int, **kwargs: Any) -> dict[str, Any]:
    return {"width": 0.125, "T": T, **kwargs}


NETS = {
    "vgg5-soft": Net("snn_vgg5", kwargs=narrow(3, head_width=64, reset="soft")),
    "vgg5-stog": Net("snn_vgg5_stog", kwargs=narrow(4, head_width=64)),
    "jelly": Net(JellyNet, size=32),
    "own-lif": Net(OwnNet),
    "vgg5-nlif": Net("snn_vgg5_nlif", kwargs=narrow(4, head_width=64)),
    "cifarnet-natural": Net("snn_cifarnet", "natural", kwargs=narrow(4), eps=2 / 255),
    "resnet20-trades": Net("snn_resnet20", "trades", kwargs=narrow(4), changes={"steps": 2}),
    "wrn16": Net("snn_wrn16", size=32, kwargs=narrow(4), epochs=2),
}


def network(net: Net, data: ImageSet, test: ImageSet, folder: Path, device: str) -> Victim:
    """A trained network on its device, from its folder where it was trained before."""
    if isinstance(net.model, str):
        recipe = load_recipe(net.recipe)
        radius = {} if recipe.perturbation == "none" else {"eps": net.eps}
        recipe = recipe.replace(batch_size=128, augment=False, epochs=net.epochs, **radius)
        recipe = recipe.replace(**net.changes)
        train(net.model, data, test, recipe, out=folder, model_kwargs=net.kwargs, device=device)
        torch.manual_seed(0)  # a noisy network's own seeds are the same when a run resumes
        return Victim(load_model(folder / "model.safetensors")[0].eval().to(device))
    weights = folder / "model.pt"
    if weights.exists():
        model = net.model(net.size)
        model.load_state_dict(torch.load(weights))
    else:
        model = trained(net.model, data, net.eps, net.epochs)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), weights)
    return adapt(model.eval().to(device), images=test.images[:4].to(device))


class Found(NamedTuple):
    """What a suite found: its verdict, what holds, bool `[N]`, and its seconds."""

    verdict: Verdict
    holds: np.ndarray
    seconds: float


def run(name: str, arguments: argparse.Namespace) -> dict[str, Found]:
    """Trains a network and attacks it, suite by suite."""
    net, folder = NETS[name], arguments.out / name
    data = load_dataset(arguments.train, split="train", size=net.size)
    test = load_dataset(arguments.test, size=net.size)
    victim = network(net, data, test, folder, arguments.device)
    clock = time.process_time if arguments.device == "cpu" else time.perf_counter
    n, found = arguments.n, dict[str, Found]()
    for suite in arguments.suites:
        released = "autoattack-rand" if victim.stochastic else "autoattack-standard"
        started, spent = clock(), folder / suite / "seconds"
        verdict = evaluate(
            victim,
            test.images[:n],
            test.labels[:n],
            suite=released if suite == "autoattack" else suite,
            eps=net.eps,
            calibration=(test.images[n : n + CALIBRATION], test.labels[n : n + CALIBRATION]),
            batch_size=None if arguments.device == "cpu" else n,
            out=folder / suite,
        )
        if not spent.exists():  # whole only of a run in one go
            spent.write_text(str(clock() - started))
        predictions = Predictions.load(folder / suite)
        holds = (predictions.worst == predictions.labels[:, None]).mean(1) > 0.5
        found[suite] = Found(verdict, holds, float(spent.read_text()))
    return found


def table(name: str, found: dict[str, Found]) -> str:
    """A table in Markdown of one network."""
    lines = [
        f"\n{name}: {next(iter(found.values())).verdict.clean.accuracy:.1%} clean\n",
        "| suite | robust | 95 % | gradients | other passes | seconds | others broke |",
        "|---|---|---|---|---|---|---|",
    ]
    union = np.logical_and.reduce([each.holds for each in found.values()])
    for suite, (verdict, holds, seconds) in found.items():
        n, probe = verdict.data["n"], verdict.probe
        backwards = sum(row.backwards for row in verdict.attacks) + (
            probe.backwards if probe else 0
        )
        forwards = sum(row.forwards for row in verdict.attacks) + (probe.forwards if probe else 0)
        low, high = verdict.robust.ci
        lines.append(
            f"| {suite} | {verdict.robust.accuracy:.1%} | {low:.1%} - {high:.1%} | "
            f"{backwards / n:,.0f} | {(forwards - backwards) / n:,.0f} | {seconds:,.0f} | "
            f"{int((holds & ~union).sum())} |"
        )
    lines.append(f"| union | {union.mean():.1%} | | | | | |")
    if "autoattack" in found:
        released = found["autoattack"].holds
        for suite, (_, holds, _) in found.items():
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
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    for name in arguments.nets:
        print(table(name, run(name, arguments)), flush=True)


if __name__ == "__main__":
    main()
