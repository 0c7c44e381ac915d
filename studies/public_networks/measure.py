"""One network of a public codebase through `robust_snn.adapt`, the gradient modes and the adapters.

PUBLIC_NETWORKS=FOLDER python studies/public_networks/measure.py spikformer --out runs/public

Writes NAME.json: how far logits and gradients are from the authors' own, where the network fires,
which modes reach that, and whether an attack of each library ran; and NAME.npz, images for the
suites, whose labels are what the network says of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
import traceback
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import library_neurons
import numpy as np
import own_neurons
import states_in_tables
import torch
import transformers
from codebases import CODEBASES, Codebase, reset
from torch import Tensor, nn

import robust_snn
from robust_snn.data import load_dataset
from robust_snn.gradients import MODES
from robust_snn.utils.errors import InputError

PLACES = (transformers, own_neurons, library_neurons, states_in_tables)
TRIED = ["own", *(name for name in MODES if name != "activation")]
EPS = 8 / 255
STEPS = 3


class Row(dict[str, Any]):
    """What was measured on one network, by name."""

    def measure(self, name: str, function: Callable[[], Any]) -> Any:
        """Notes a value, or why there is none, and how long it took; returns the value."""
        start = time.perf_counter()
        value = None
        try:
            value = function()
        except InputError as refusal:
            self[f"{name}: refused"] = str(refusal)
        except Exception as crash:
            self[f"{name}: crashed"] = f"{type(crash).__name__}: {crash}"
            traceback.print_exc()
        self[f"{name}: seconds"] = round(time.perf_counter() - start, 2)
        return value

    def note(self, name: str, function: Callable[[], Any]) -> None:
        """As `measure`, and keeps the value."""
        self[name] = self.measure(name, function)


def measure(name: str, data: str, out: Path) -> Row:
    """Everything but the suites."""
    codebase = CODEBASES[name]
    net = codebase.make()
    row = Row(name=name, repository=codebase.repository, commit=codebase.commit, T=codebase.T)
    row["class"] = type(net).__name__
    x = images_for(codebase, data)
    logits, gradient = authors_pass(codebase, net, x)
    victim = row.measure("adapt", lambda: robust_snn.adapt(net, images=x, **codebase.adapt))
    if victim is None:
        return row
    with torch.no_grad():
        labels = victim(x).argmax(1)
    np.savez(out / f"{name}.npz", images=x.numpy(), labels=labels.numpy())
    reach = {mode: victim.takes(mode) for mode in TRIED}
    row["sites"] = len(reach["own"].neurons)
    row["modes"] = [
        mode
        for mode, answer in reach.items()
        if answer.refusal is None and (answer.neurons or mode == "own")
    ]
    row["missed"] = {mode: dict(answer.missed) for mode, answer in reach.items() if answer.missed}
    row["refused"] = {mode: answer.refusal for mode, answer in reach.items() if answer.refusal}

    def under(mode: str) -> Tensor:
        image = x.clone().requires_grad_()
        return gradient_of(victim.replace(gradient=mode)(image), image)

    if not codebase.adapt.get("random"):
        row.note("logits", lambda: error(victim(x).detach(), logits))
        if gradient is not None:
            row.note("own gradient", lambda: error(under("own"), gradient))
            if codebase.surrogate is not None:
                row.note("same surrogate", lambda: error(under(codebase.surrogate), gradient))
    found = {
        mode: row.measure(f"gradient {mode}", lambda m=mode: under(m)) for mode in row["modes"]
    }
    found = {mode: gradient for mode, gradient in found.items() if gradient is not None}
    row["not finite"] = [mode for mode, gradient in found.items() if not gradient.isfinite().all()]
    row["zero"] = [mode for mode, gradient in found.items() if not gradient.any()]
    row["equal"] = [f"{a}={b}" for a, b in combinations(found, 2) if found[a].equal(found[b])]
    for library in (with_torchattacks, with_art, with_autoattack):
        row.note(library.__name__.removeprefix("with_"), lambda f=library: f(victim, x, labels))
    return row


def images_for(codebase: Codebase, data: str) -> Tensor:
    """Test images `[B, C, H, W]` of the size that a network takes."""
    channels, size = codebase.image[0], codebase.image[1]
    images = load_dataset("digits" if channels == 1 else data, size=size, n=codebase.images).images
    return torch.as_tensor(images).float()[:, :channels].contiguous()


def authors_pass(codebase: Codebase, net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """The authors' logits, and their gradient on the images where there is one."""
    neurons = [m for m in net.modules() if hasattr(m, "surrogate_function")]
    spikes = [m.surrogate_function for m in neurons]
    switched = [m for m in (*neurons, *spikes) if isinstance(m, nn.Module)]
    for module in switched:
        module.training = True  # older SpikingJelly has no gradient in eval mode
    reset(net)
    image = x.clone().requires_grad_()
    logits = codebase.logits(net, image.clone())
    gradient = None
    with contextlib.suppress(RuntimeError):
        gradient = gradient_of(logits, image)
    reset(net)
    for module in switched:
        module.training = False
    return logits.detach(), gradient


def gradient_of(logits: Tensor, x: Tensor) -> Tensor:
    """Gradient of a function of the logits on the images."""
    weights = torch.linspace(-1, 1, logits.shape[1], dtype=logits.dtype)
    (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    return gradient


def error(got: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest entry expected."""
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def with_torchattacks(victim: robust_snn.Victim, x: Tensor, y: Tensor) -> float:
    from robust_snn.adapters.torchattacks import attack

    return moved(x, attack(victim, "PGD", eps=EPS, steps=STEPS)(x, y))


def with_art(victim: robust_snn.Victim, x: Tensor, y: Tensor) -> float:
    from art.attacks.evasion import FastGradientMethod

    from robust_snn.adapters.art import to_art

    classifier = to_art(victim, input_shape=tuple(x.shape[1:]))
    images = FastGradientMethod(classifier, eps=EPS).generate(x.numpy(), y.numpy())
    return moved(x, torch.as_tensor(images))


def with_autoattack(victim: robust_snn.Victim, x: Tensor, y: Tensor) -> float:
    from robust_snn.adapters.autoattack import autoattack

    return moved(x, autoattack(victim, x, y, EPS, attacks=["apgd-ce"], n_iter=STEPS).images)


def moved(x: Tensor, adversarial: Tensor) -> float:
    """How far an attack went."""
    return float((adversarial - x).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(CODEBASES))
    parser.add_argument("--data", default="cifar10", help="CIFAR-10, for networks of colour images")
    parser.add_argument("--out", type=Path, default=Path("runs/public"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    row = measure(arguments.name, arguments.data, arguments.out)
    target = arguments.out / f"{arguments.name}.json"
    target.write_text(json.dumps(row, indent=1, default=str))


if __name__ == "__main__":
    main()
