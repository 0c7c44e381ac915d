"""What verdicts say of sixteen honest networks: no failure, and few warnings.

    python studies/honest_networks.py --out runs/honest

Each is small, trained for seconds on 8x8 digits by a recipe of its own, with noise and without, and
evaluated with `adaptive-small`. A killed run resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_snn import Victim, adapt, evaluate
from robust_snn.data import ImageSet, load_dataset
from robust_snn.training import load_model, load_recipe, train

sys.path.insert(0, str(Path(__file__).resolve().parent))
from networks_of_others import JellyNet, OwnNet, trained  # noqa: E402

EPS, SIZE, IMAGES, CALIBRATION = 0.1, 8, 48, 16


@dataclass(frozen=True)
class Honest:
    """A registered name or a class, how it is built, and how it is trained."""

    model: str | Callable[[int], nn.Module]
    recipe: str = "natural"
    kwargs: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)


def vgg5(mechanism: str = "", recipe: str = "natural", T: int = 4, **kwargs: Any) -> Honest:
    shape = {"T": T, "width": 0.25, "head_width": 64, **kwargs}
    return Honest(f"snn_vgg5{mechanism}", recipe, shape)


ADVERSARIAL: dict[str, Any] = {"perturbation": "fgsm", "eps": EPS}
NETS = {
    "vgg5 natural": vgg5(),
    "vgg5 soft reset, T = 8": vgg5(T=8, reset="soft"),
    "vgg5 leaky, at": replace(vgg5(recipe="at", decay=0.8), changes=ADVERSARIAL),
    "vgg5 trades": replace(vgg5(recipe="trades"), changes={"eps": EPS, "steps": 2}),
    "vgg5 rat": replace(vgg5(recipe="rat"), changes=ADVERSARIAL),
    "vgg5 sr": vgg5(recipe="sr", T=2),
    "vgg5 stog": vgg5("_stog"),
    "vgg5 stog, at": replace(vgg5("_stog", "stog-at"), changes=ADVERSARIAL),
    "vgg5 dlif, gaussian": vgg5("_dlif", "stable-gaussian"),
    "vgg5 nlif, stbp": vgg5("_nlif", "nsnn-stbp"),
    "vgg5 nlif, tet": vgg5("_nlif", "nsnn-tet", T=2),
    "vgg5 poisson": vgg5("_poisson", T=8),
    "cifarnet natural": Honest("snn_cifarnet", kwargs={"T": 2, "width": 0.125}),
    "resnet20 natural": Honest("snn_resnet20", "natural", {"T": 2, "width": 0.25}, {"epochs": 30}),
    "SpikingJelly, at": Honest(JellyNet),
    "LIF of its own, at": Honest(OwnNet),
}


def coloured(data: ImageSet) -> ImageSet:
    """The same in three channels."""
    return replace(data, images=data.images.expand(-1, 3, -1, -1).contiguous())


def network(net: Honest, data: ImageSet, test: ImageSet, epochs: int, folder: Path) -> Victim:
    if not isinstance(net.model, str):
        return adapt(trained(net.model, data, EPS, epochs), images=test.images[:4])
    changes = {"batch_size": 64, "augment": False, "epochs": epochs, **net.changes}
    recipe = load_recipe(net.recipe).replace(**changes)
    train(net.model, data, test, recipe, out=folder, model_kwargs=net.kwargs)
    torch.manual_seed(0)  # a noisy network's own seeds are the same when a run resumes
    return Victim(load_model(folder / "model.safetensors")[0].eval())


def row(name: str, net: Honest, epochs: int, out: Path) -> str:
    """A line of a table in Markdown."""
    folder = out / name.replace(" ", "-").replace(",", "")
    data, test = load_dataset("digits", split="train", size=SIZE), load_dataset("digits", size=SIZE)
    if not isinstance(net.model, str):
        data, test = coloured(data), coloured(test)
    victim, both = network(net, data, test, epochs, folder), IMAGES + CALIBRATION
    verdict = evaluate(
        victim,
        test.images[:IMAGES],
        test.labels[:IMAGES],
        suite="adaptive-small",
        eps=EPS,
        out=folder / "verdict",
        calibration=(test.images[IMAGES:both], test.labels[IMAGES:both]),
    )
    said = {"fail": list[str](), "warn": list[str]()}
    for note in verdict.diagnostics:
        said.get(note.status, []).append(note.name)
    (cosine,) = (n.value for n in verdict.diagnostics if n.name == "finite differences")
    low, high = verdict.robust.ci
    return (
        f"| {name} | {verdict.clean.accuracy:.0%} | {verdict.robust.accuracy:.0%} "
        f"({low:.0%}-{high:.0%}) | {cosine:.2f} | {', '.join(said['fail'])} | "
        f"{', '.join(said['warn'])} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    print("| network | clean | robust | cosine | failures | warnings |\n|---|---|---|---|---|---|")
    for name in asked.nets:
        print(row(name, NETS[name], asked.epochs, asked.out), flush=True)


if __name__ == "__main__":
    main()
