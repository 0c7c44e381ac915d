"""How strong our attacks are beside published ones: four networks, every attack, the same draws.

python studies/attack_strength.py --train CIFAR-TRAIN --test CIFAR-TEST --out runs/strength

Trains a natural network, one on FGSM images, one with stochastic gates on FGSM images, and one on
FGSM images whose gradient was chosen to vanish; then attacks each with every published protocol
alone and with the adaptive suites, and prints a table. Folders or tars of class folders will do, or
the name of a data set for both. A killed run goes on.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robust_snn import Victim, evaluate
from robust_snn.data import load_dataset
from robust_snn.eval import AttackSpec, Draws, Suite, Verdict, load_suite
from robust_snn.eval.execution.preflight import CALIBRATION
from robust_snn.training import load_model, load_recipe, train

DEAD = "bptt(surrogate=triangle(gamma=0.1))"
LAST = {"select": 1, "keep": 1}  # the last point that the attack met is its answer


@dataclass(frozen=True)
class Net:
    """A network: how it is trained, and the gradient that published attacks on it take."""

    recipe: str
    model: str = "snn_vgg5"
    gradient: str = "bptt"
    changes: dict[str, Any] = field(default_factory=dict)
    eps: tuple[int, ...] = (8,)  # in units of 1 / 255


NETS = {
    "natural": Net("natural", eps=(2, 8), changes={"epochs": 4}),
    "at": Net("at", changes={"epochs": 5, "eps": 8 / 255}),
    "stog": Net("at", "snn_vgg5_stog", changes={"epochs": 5, "eps": 8 / 255, "gate_opening": 0.75}),
    "masked": Net("at", gradient=DEAD, changes={"epochs": 4, "eps": 8 / 255, "gradient": DEAD}),
}
KWARGS = {"T": 4, "width": 0.125, "head_width": 256}


def published(gradient: str, stochastic: bool) -> Suite:
    """Published attacks, each on every image."""
    own = {"implementation": "robust_snn", "attack": "pgd"}
    eot = 20 if stochastic else 1
    draws = {"eot_loss": "adaptive(error=0.2)"} if stochastic else {}
    rows = [
        AttackSpec("pgd-7", **own, gradient=gradient, steps=7, options=LAST),
        AttackSpec("pgd-100", **own, gradient=gradient, steps=100, options=LAST),
        AttackSpec("apgd-ce-100", "autoattack", "apgd-ce", gradient, eot, steps=100, restarts=1),
        AttackSpec("hart+pgd", **own, gradient="hart", steps=100),
        AttackSpec("pdsg+pgd", **own, gradient="pdsg", steps=100),
        AttackSpec("assg+sapgd", "robust_snn", "sapgd", "assg", steps=100, options=draws),
    ]
    if stochastic:
        for name, text in (("20", 20), ("adaptive", "adaptive"), ("0.2", "adaptive(error=0.2)")):
            options = {"eot_loss": text}
            rows.append(
                AttackSpec(f"apgd-eot-{name}", "robust_snn", "apgd", steps=50, options=options)
            )
    return Suite("published", tuple(rows), draws=Draws(100, 20), independent=True)


def suites(net: Net) -> list[Suite]:
    """What a network goes through."""
    stochastic = net.model.endswith("stog")
    released = load_suite(f"autoattack-{'rand' if stochastic else 'standard'}")
    rows = tuple(replace(row, gradient=net.gradient) for row in released.attacks)
    adaptive = [load_suite(f"adaptive-{budget}") for budget in ("small", "medium")]
    return [published(net.gradient, stochastic), replace(released, attacks=rows), *adaptive]


def run(name: str, arguments: argparse.Namespace) -> list[Verdict]:
    """Trains and attacks one network."""
    net, folder = NETS[name], arguments.out / name
    recipe = load_recipe(net.recipe).replace(batch_size=128, augment=False, **net.changes)
    recipe = recipe.replace(epochs=arguments.epochs)
    images = load_dataset(arguments.train, split="train")
    test = load_dataset(arguments.test)
    train(net.model, images, test, recipe, out=folder, model_kwargs=KWARGS, progress=True)
    victim = Victim(load_model(folder / "model.safetensors")[0].eval())
    n = arguments.n or (200 if victim.stochastic else 500)
    return [
        evaluate(
            victim,
            test.images[:n],
            test.labels[:n],
            suite=suite,
            eps=eps / 255,
            calibration=(test.images[n : n + CALIBRATION], test.labels[n : n + CALIBRATION]),
            out=folder / f"{suite.name}-{eps}",
            progress=True,
        )
        for eps in net.eps
        for suite in suites(net)
    ]


def table(name: str, verdicts: list[Verdict]) -> str:
    """A table in Markdown: robust accuracy, its interval, and gradients per image."""
    lines = [f"\n{name}\n", "| eps | attack | robust | 95 % | gradients |", "|---|---|---|---|---|"]
    for verdict in verdicts:
        eps, n = f"{verdict.threat['eps'] * 255:.0f}/255", verdict.data["n"]
        rows: list[Any] = list(verdict.attacks) if verdict.suite == "published" else []
        spent = sum(row.backwards for row in verdict.attacks)
        for row in rows:
            lines.append(_line(eps, row.name, row.accuracy, row.ci, row.backwards / n))
        if not rows:
            robust = verdict.robust
            lines.append(_line(eps, verdict.suite, robust.accuracy, robust.ci, spent / n))
    return "\n".join(lines)


def _line(eps: str, name: str, accuracy: float, ci: tuple[float, float], gradients: float) -> str:
    low, high = ci
    return f"| {eps} | {name} | {accuracy:.1%} | {low:.1%} - {high:.1%} | {gradients:,.0f} |"


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--epochs", type=int, help="instead of 4 or 5")
    parser.add_argument("-n", type=int, help="images; 500, and 200 for noisy networks")
    arguments = parser.parse_args()
    for name in arguments.nets:
        print(table(name, run(name, arguments)))


if __name__ == "__main__":
    main()
