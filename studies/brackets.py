"""The figure of `docs/certificates.md`: what is certified of four networks, and what attacks leave.

    python studies/brackets.py --out docs

Fully connected networks with one and two spiking layers, trained on 8x8 digits, with and without
certified training. At each radius the truth lies between the two lines. Prints the numbers.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from robust_snn import adapt, evaluate
from robust_snn.certificates import certify
from robust_snn.data import ImageSet, load_dataset
from robust_snn.neurons import LIF
from robust_snn.training.certified_loss import certified_loss
from robust_snn.utils.figures import new_figure

RADII = (0.01, 0.02, 0.04)
IMAGES, CALIBRATION, STEPS, NODES, T = 50, 16, 300, 100, 3


class Dense(nn.Module):
    """Spiking layers of 32 neurons, `[B, 1, 8, 8]` to `[B, 10]`."""

    def __init__(self, depth: int, reset: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        widths = [64] + [32] * depth
        self.weights = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(32) for _ in range(depth))
        self.neurons = nn.ModuleList(LIF(decay=0.8, reset=reset) for _ in range(depth))
        self.last = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        current, steps = 2 * self.norms[0](self.weights[0](x.flatten(1))).unsqueeze(0), T
        spikes = self.neurons[0](current, steps)
        for weight, norm, neuron in zip(
            self.weights[1:], self.norms[1:], self.neurons[1:], strict=True
        ):
            flat = norm(weight(spikes.flatten(0, 1)))
            spikes = neuron(2 * flat.unflatten(0, (T, -1)))
        logits: Tensor = self.last(spikes.mean(0))
        return logits


@dataclass(frozen=True)
class Trained:
    """A network, and the radius of its certified training; 0 for none."""

    depth: int = 1
    reset: str = "hard"
    eps: float = 0.0


NETS = {
    "natural": Trained(),
    "certified, hard reset": Trained(eps=0.04),
    "certified, soft reset": Trained(reset="soft", eps=0.04),
    "certified, two layers": Trained(depth=2, eps=0.02),
}


def network(wanted: Trained, data: ImageSet) -> nn.Module:
    net = Dense(wanted.depth, wanted.reset).train()
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(STEPS):
        loss = cross_entropy(net(data.images), data.labels)
        if wanted.eps:
            grown = min(1.0, 2 * step / STEPS)
            bound = certified_loss(net, data.images, data.labels, grown * wanted.eps)
            loss = (1 - grown / 2) * loss + grown / 2 * bound
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


def bracket(net: nn.Module, test: ImageSet, eps: float) -> tuple[float, float, float]:
    """What is certified, what is decided, and what attacks leave, at least what is certified."""
    images, labels = test.images[:IMAGES], test.labels[:IMAGES]
    proven = certify(net, images, labels, eps, nodes=NODES)
    with tempfile.TemporaryDirectory() as out:
        verdict = evaluate(
            adapt(net, images=images[:4]),
            images,
            labels,
            suite="adaptive-small",
            eps=eps,
            out=out,
            calibration=(test.images[IMAGES:], test.labels[IMAGES:]),
            report=False,
        )
        fallen = verdict.robust.accuracy < float(proven.certified.double().mean()) - 1e-9
    if fallen:
        raise RuntimeError(f"attacks broke what is certified at {eps}")
    certified, broken = (float(part.double().mean()) for part in (proven.certified, proven.broken))
    return certified, certified + broken, verdict.robust.accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out: Path = parser.parse_args().out
    data = load_dataset("digits", split="train", size=8)
    test = load_dataset("digits", size=8, n=IMAGES + CALIBRATION)
    figure = new_figure(10, 2.6)
    print(
        "| network | radius | certified | certified or broken | adaptive |\n|---|---|---|---|---|"
    )
    for place, (name, wanted) in zip(
        figure.subplots(1, len(NETS), sharey=True), NETS.items(), strict=True
    ):
        net, found = network(wanted, data), []
        for eps in RADII:
            found.append(bracket(net, test, eps))
            certified, decided, left = found[-1]
            print(
                f"| {name} | {eps:g} | {certified:.0%} | {decided:.0%} | {left:.0%} |", flush=True
            )
        low, _, high = (([100 * part for part in parts]) for parts in zip(*found, strict=True))
        place.fill_between(RADII, low, high, alpha=0.2)
        place.plot(RADII, high, marker="o", label="attacks leave")
        place.plot(RADII, low, marker="s", label="certified")
        place.set(title=name, xlabel="radius in Linf", xticks=RADII, ylim=(0, 103))
    place.legend(fontsize=7)
    figure.axes[0].set_ylabel("accuracy (%)")
    figure.savefig(out / "brackets.png", dpi=110)


if __name__ == "__main__":
    main()
