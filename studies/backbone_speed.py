"""What a training step and an adaptive verdict cost on the newer backbones, and in plain PyTorch.

python studies/backbone_speed.py --out benchmarks/backbones.csv

Times, in processor seconds, both passes of a training step and one gradient of an attack, with the
fused loops and with a loop over steps in eager PyTorch (`backend="torch"`), whose gradients must
agree. A verdict is so many gradients and other passes as `adaptive-small` spent per image on the
network of a finished run, its `verdict.json`; the defaults are those of docs/defences.md.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robust_snn import Victim
from robust_snn.benchmarks.timing import CLOCKS, interleave, median
from robust_snn.eval import Verdict

NETWORKS = (
    *("snn_msresnet18", "snn_sew18"),
    *("snn_spikformer", "snn_qkformer", "snn_sdt", "snn_sdt3", "snn_resformer"),
)
BACKENDS = {"fused": "auto", "eager": "torch"}
STEPS, WIDTH, BATCH, ROUNDS = 4, 0.5, 4, 3
VERDICT_IMAGES = 100


def network(name: str, backend: str) -> nn.Module:
    """The network with the same random weights on any backend."""
    torch.manual_seed(0)
    net: nn.Module = timm.create_model(name, T=STEPS, width=WIDTH, backend=backend)
    return net


def training_step(net: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Both passes of a training step; gives the gradient of all weights."""
    labels = torch.arange(len(images)) % 10

    def run() -> Tensor:
        loss = F.cross_entropy(net(images), labels)
        parts = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
        return torch.cat([part.flatten() for part in parts if part is not None])

    return run


def attack_gradient(victim: Victim, images: Tensor) -> Callable[[], Tensor]:
    """A gradient of images."""
    x, labels = images.clone().requires_grad_(), torch.arange(len(images)) % 10

    def run() -> Tensor:
        (gradient,) = torch.autograd.grad(F.cross_entropy(victim(x), labels), x)
        return gradient

    return run


def other_pass(victim: Victim, images: Tensor) -> Callable[[], Tensor]:
    """A pass without a gradient."""

    def run() -> Tensor:
        with torch.no_grad():
            return victim(images)

    return run


def measure(name: str, gradients: float, passes: float) -> dict[str, Any]:
    """A row of the table: milliseconds per image, and hours of a verdict."""
    images = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tried: dict[str, Callable[[], Tensor]] = {}
    for label, backend in BACKENDS.items():
        tried[f"step {label}"] = training_step(network(name, backend).train(), images)
        victim = Victim(network(name, backend).eval())
        tried[f"gradient {label}"] = attack_gradient(victim, images)
        tried[f"pass {label}"] = other_pass(victim, images)
    fused, eager = (tried[f"step {label}"]().double() for label in BACKENDS)
    alike = F.cosine_similarity(fused, eager, dim=0)
    times = interleave(dict(tried), ROUNDS, CLOCKS["cpu"])
    ms = {what: median(each) / BATCH for what, each in times.items()}
    row: dict[str, Any] = {"network": name, "T": STEPS, "width": WIDTH, "B": BATCH}
    row |= {what: round(each, 1) for what, each in ms.items()}
    for label in BACKENDS:
        spent = gradients * ms[f"gradient {label}"] + passes * ms[f"pass {label}"]
        row[f"verdict {label}, hours"] = round(VERDICT_IMAGES * spent / 3.6e6, 3)
    return {**row, "agreement of gradients": round(float(alike), 4)}


def spent(run: Path) -> tuple[float, float]:
    """Gradients and other passes per image of a finished run."""
    verdict = Verdict.load(run)
    rows = [*verdict.attacks, *([verdict.probe] if verdict.probe else [])]
    backwards = sum(row.backwards for row in rows)
    forwards = sum(row.forwards for row in rows) - backwards
    return backwards / verdict.data["n"], forwards / verdict.data["n"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="verdict.json of an adaptive-small run")
    parser.add_argument("--gradients", type=float, default=300)
    parser.add_argument("--passes", type=float, default=700)
    parser.add_argument("--nets", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    counts = (arguments.gradients, arguments.passes)
    if arguments.run is not None:
        counts = spent(arguments.run)
    rows = [measure(name, *counts) for name in arguments.nets]
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(*counts, *rows, sep="\n")


if __name__ == "__main__":
    main()
