"""How much noise helps: accuracy and robustness over the level of the noise, on `digits-events`.

    python examples/noise_level.py --out runs/noise

Left, noisy neurons over the standard deviation of their membrane noise: trained and tested at each
level, as in Figure 4 of the NSNN paper, and trained at 0.3 but tested at each level. Right,
stochastic gates over their opening probability, set after training, as in Figure 4 of the StoG
paper. Robust accuracy is under projected flips of at most `--eps` entries, with intervals over
images and draws. Every point is a run of `evaluate` in its own folder, so a killed study goes on.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

from robust_snn import Victim, evaluate
from robust_snn.data import load_dataset
from robust_snn.eval import AttackSpec, Draws, Suite, Verdict
from robust_snn.neurons import NoisyLIF, StochasticGate
from robust_snn.neurons.noise_families import parse_noise
from robust_snn.training import load_recipe, train
from robust_snn.utils.figures import new_figure

SIGMAS, TRAINED_AT = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8), 0.3
OPENINGS = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
MODEL_KWARGS: dict[str, Any] = {"width": 0.125, "T": 5}
Curve = dict[float, Verdict]


def noise(sigma: float) -> str:
    return f"gaussian(sigma={sigma:g})"


def at_sigma(victim: Victim, sigma: float) -> Victim:
    """The same weights with another membrane noise."""
    net = copy.deepcopy(victim.net)
    for neurons in net.modules():
        if isinstance(neurons, NoisyLIF):
            neurons.membrane_noise.family = parse_noise(noise(sigma))
    return Victim(net)


def at_opening(victim: Victim, probability: float) -> Victim:
    """The same weights with gates that open with another probability."""
    net = copy.deepcopy(victim.net)
    for gate in net.modules():
        if isinstance(gate, StochasticGate):
            gate.probability.data.fill_(probability)
    return Victim(net)


def trained(model: str, folder: Path, epochs: int, **kwargs: Any) -> Victim:
    """A network from a folder, trained there if it is not."""
    splits = (load_dataset("digits-events", split=s, steps=5) for s in ("train", "test"))
    penalty = {"gate_penalty": 1e-4} if model.endswith("stog") else {}
    recipe = load_recipe("natural").replace(
        epochs=epochs, batch_size=32, optimizer="adamw", lr=4e-3, augment=False, **penalty
    )
    done = train(model, *splits, recipe, out=folder, model_kwargs={**MODEL_KWARGS, **kwargs})
    return Victim(done.net)


def draw(curves: dict[str, dict[str, Curve]], path: Path) -> None:
    """One panel per quantity, one colour per curve: clean as lines, robust dashed."""
    figure = new_figure(6 * len(curves), 4.2)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (quantity, lines) in zip(panels, curves.items(), strict=True):
        for color, (label, curve) in zip(("C0", "C1"), lines.items(), strict=False):
            for what, style in (("clean", "-"), ("robust", "--")):
                found = [getattr(verdict, what) for verdict in curve.values()]
                mean = [x.accuracy for x in found]
                low, high = zip(*(x.ci for x in found), strict=True)
                look = {"ms": 4, "color": color, "label": f"{what}, {label}"}
                axes.plot(list(curve), mean, f"o{style}", **look)
                axes.fill_between(list(curve), low, high, color=color, alpha=0.12, linewidth=0)
        axes.set(xlabel=quantity, ylabel="accuracy, 95 % interval", ylim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, handlelength=3.5)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/noise"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("-n", type=int, default=100, help="test recordings")
    parser.add_argument("--eps", type=int, default=20, help="flipped entries")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    out, data = options.out, load_dataset("digits-events", n=options.n, steps=5)
    options_of_pgd = {"keep": 2, "eot_loss": 2}
    row = AttackSpec("pgd", "events", "event-pgd", steps=options.steps, options=options_of_pgd)
    draws = Draws(options.draws, options.draws)
    suite = Suite("noise", (row,), norm="L0", eps=float(options.eps), draws=draws)

    def curve(victims: dict[float, Victim], name: str) -> Curve:
        return {
            level: evaluate(
                victim, data.images, data.labels, suite=suite, out=out / name.format(level)
            )
            for level, victim in victims.items()
        }

    noisy = {
        s: trained("snn_vggsnn_nlif", out / f"sigma-{s}", options.epochs, membrane_noise=noise(s))
        for s in SIGMAS
    }
    moved = {s: at_sigma(noisy[TRAINED_AT], s) for s in SIGMAS}
    gated = trained("snn_vggsnn_stog", out / "stog", options.epochs)
    opened = {p: at_opening(gated, p) for p in OPENINGS}
    draw(
        {
            "sigma of the membrane noise": {
                "trained and tested at it": curve(noisy, "trained-at-{}"),
                f"trained at {TRAINED_AT}": curve(moved, "tested-at-{}"),
            },
            "opening probability of the gates": {"StoG": curve(opened, "opening-{}")},
        },
        out / "noise.png",
    )


if __name__ == "__main__":
    main()
