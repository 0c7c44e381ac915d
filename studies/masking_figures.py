"""The figure of `docs/surrogates-and-masking.md`: a packaged network under several surrogates.

    python studies/masking_figures.py --out docs

`masking.png`: derivatives that stand in for that of the step function; how far the membranes of
each layer lie from the threshold; and the accuracy that one attack leaves, by the width of the
surrogate that it follows. Prints the numbers. Takes 20 seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
from torch import Tensor

from robust_snn import Victim
from robust_snn.attacks import PGD
from robust_snn.data import load_dataset
from robust_snn.gradients.surrogates import Atan, Rectangle, Sigmoid, SurrogateFunction, Triangle
from robust_snn.kernels.spiking.surrogate_shapes import derivative
from robust_snn.metrics import membrane_potential, record
from robust_snn.utils.figures import new_figure

NETWORK, EPS, STEPS, IMAGES = "snn_vgg5.digits", 0.1, 20, 100
WIDTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SHOWN = (Rectangle(), Triangle(), Atan(alpha=2.0), Sigmoid(alpha=4.0))


def slope(surrogate: SurrogateFunction, distance: Tensor) -> Tensor:
    """The derivative that stands in at distances `v - threshold`."""
    kernel = surrogate.kernel()
    return derivative(distance.clone(), kernel, kernel.sharpness)


def distances(victim: Victim, images: Tensor) -> list[Tensor]:
    """`v - threshold` of all neurons and steps of each layer."""
    with torch.no_grad(), record(victim) as activity:
        victim(images)
    return [
        membrane_potential(layer.drive, layer.spikes, layer.decay).flatten() - 1.0
        for layer in activity.layers.values()
    ]


def accuracy_left(victim: Victim, images: Tensor, labels: Tensor, surrogate: str) -> float:
    """Accuracy after PGD along this surrogate."""
    attacked = victim.replace(gradient=f"bptt(surrogate={surrogate})")
    adversarial = PGD(steps=STEPS)(attacked, images, labels, eps=EPS).images
    return float((victim(adversarial).argmax(1) == labels).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out: Path = parser.parse_args().out
    victim = Victim(timm.create_model(NETWORK, pretrained=True).eval())
    test = load_dataset("digits", n=IMAGES)
    figure = new_figure(9, 2.8)
    shapes, layers, widths = figure.subplots(1, 3)

    near = torch.linspace(-2, 2, 401)
    for surrogate in SHOWN:
        shapes.plot(near, slope(surrogate, near), label=str(surrogate))
    shapes.set(title="stand-ins for the derivative", xlabel="membrane - threshold")
    shapes.legend(fontsize=6)

    for number, found in enumerate(distances(victim, test.images), 1):
        layers.hist(found.clamp(-3, 3), 61, density=True, histtype="step", label=f"layer {number}")
        for width in (0.1, 1.0):
            lost = (found.abs() >= width).double().mean()
            print(f"layer {number}: a triangle of width {width:g} is zero at {lost:.0%}")
    layers.set(title="where membranes lie", xlabel="membrane - threshold", yscale="log")
    layers.legend(fontsize=6)

    for name, argument in (("triangle", "gamma={:g}"), ("atan", "alpha={:g}")):
        left = []
        for width in WIDTHS:
            number = width if name == "triangle" else 2 / width
            text = f"{name}({argument.format(number)})"
            left.append(accuracy_left(victim, test.images, test.labels, text))
            print(f"{text:20} leaves {left[-1]:.0%}")
        widths.plot(WIDTHS, [100 * share for share in left], marker="o", label=name)
    widths.set(title=f"PGD-{STEPS}, eps = {EPS:g}", xlabel="width of the surrogate", xscale="log")
    widths.set(ylabel="accuracy left (%)", ylim=(0, 100))
    widths.legend(fontsize=6)
    figure.savefig(out / "masking.png", dpi=110)


if __name__ == "__main__":
    main()
