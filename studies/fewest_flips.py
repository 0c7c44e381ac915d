"""The fewest flips of a recording that change the answer, ours beside the published algorithms.

    python studies/fewest_flips.py --out runs/flips

A `snn_vggsnn` learns `digits-events`, 2,560 entries each. SpikeFool as published (Buechel et al.,
Frontiers in Neuroscience 2022) is SparseFool (Modas et al., CVPR 2019) whose every point is rounded
to spikes: DeepFool finds the nearest boundary; lambda times as far, the solver flips entries in the
order of the gradient, until it stands beyond the linear boundary. SDA stops at the first flips that
fool, and takes back what it can.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robust_snn import Victim
from robust_snn.attacks import SDA, EventPGD, SpikeFool, changed_entries
from robust_snn.data import load_dataset
from robust_snn.eval.scoring.intervals import fraction
from robust_snn.training import load_recipe, train

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compared_attacks import judged, timed  # noqa: E402

RECORDINGS, STEPS, MOST = 40, 5, 200
BUDGETS = (1, 2, 5, 10, 20, 50)
LAMBDA, LOOPS, DEEPFOOL_STEPS, OVERSHOOT = (1.0, 2.0, 3.0), 20, 50, 0.02


def network(folder: Path) -> Victim:
    """A trained network, from its folder where it was trained before."""
    data, test = (load_dataset("digits-events", split=s, steps=STEPS) for s in ("train", "test"))
    recipe = load_recipe("natural").replace(
        epochs=4, batch_size=32, optimizer="adamw", lr=4e-3, augment=False
    )
    kwargs = {"T": STEPS, "width": 0.125}
    return Victim(train("snn_vggsnn", data, test, recipe, out=folder, model_kwargs=kwargs).net)


def published(scale: float, victim: Victim, frames: Tensor, labels: Tensor) -> Tensor:
    """SpikeFool as published; recordings that it does not fool stay as they came out."""
    rows = zip(frames, labels, strict=True)
    return torch.cat([_spikefool(victim, x[None], int(y), scale) for x, y in rows])


def _spikefool(victim: Victim, clean: Tensor, label: int, scale: float) -> Tensor:
    x = clean
    for _ in range(LOOPS):
        with torch.no_grad():
            if int(victim(x).argmax()) != label:
                return x
        beyond, other = _deepfool(victim, x, label)
        point = x + scale * (beyond - x)
        x = _solved(x, _slope(victim, point, label, other), point)
    return x


def _deepfool(victim: Victim, x: Tensor, label: int) -> tuple[Tensor, int]:
    """A point beyond the nearest boundary, and whose it is (Moosavi-Dezfooli et al., CVPR 2016)."""
    point, other = x, label
    for _ in range(DEEPFOOL_STEPS):
        leaf = point.detach().requires_grad_()
        logits = victim(leaf)[0]
        if int(logits.argmax()) != label:
            return point, int(logits.argmax())
        rows = [torch.autograd.grad(z, leaf, retain_graph=True)[0] for z in logits]
        leads = logits.detach() - logits[label].detach()
        normals = torch.stack([row - rows[label] for row in rows])
        sizes = normals.flatten(1).norm(dim=1)
        ways = leads.abs() / sizes.clamp(min=1e-12)
        ways[label] = torch.inf
        other = int(ways.argmin())
        move = (leads[other].abs() + 1e-4) / sizes[other].clamp(min=1e-12) ** 2 * normals[other]
        point = point + (1 + OVERSHOOT) * move
    return point, other


def _slope(victim: Victim, x: Tensor, label: int, other: int) -> Tensor:
    leaf = x.detach().requires_grad_()
    logits = victim(leaf)[0]
    return torch.autograd.grad(logits[other] - logits[label], leaf)[0]


def _solved(clean: Tensor, normal: Tensor, point: Tensor) -> Tensor:
    """Flips in the order of the slope until the linear boundary through the point is crossed."""
    use = (normal * (1 - 2 * clean)).flatten()
    needed = float((normal * (point - clean)).sum())
    ordered, order = use.clamp(min=0).sort(descending=True)
    count = int((ordered.cumsum(0) < needed).sum()) + 1
    chosen = order[: min(count, int((ordered > 0).sum()))]
    flat = clean.flatten().clone()
    flat[chosen] = 1 - flat[chosen]
    return flat.view_as(clean)


def smallest(attack: EventPGD, victim: Victim, frames: Tensor, labels: Tensor) -> Tensor:
    """The fewest flips of an attack with a fixed budget, by bisection of every recording's."""
    low, high = torch.zeros(len(frames)), torch.full((len(frames),), float(MOST))
    best = frames.clone()
    while bool((high - low > 1).any()):
        middle = ((low + high) / 2).floor()
        for budget in middle.unique():
            rows = ((middle == budget) & (high - low > 1)).nonzero()[:, 0]
            if not len(rows) or budget < 1:
                continue
            found = attack(victim, frames[rows], labels[rows], eps=int(budget))
            best[rows[found.success]] = found.images[found.success]
            high[rows[found.success]] = budget
            low[rows[~found.success]] = budget
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/flips"))
    victim = network(parser.parse_args().out)
    data = load_dataset("digits-events", n=RECORDINGS + 10, steps=STEPS)
    right = judged(victim, data.images, data.labels)[:, 0].nonzero()[0][:RECORDINGS]
    frames, labels = data.images[right], data.labels[right]
    pdsg = victim.replace(gradient="pdsg")
    attacks: dict[str, tuple[Victim, Callable[[Victim], Tensor]]] = {
        f"SpikeFool as published, lambda {scale:g}": (
            victim,
            lambda v, s=scale: published(s, v, frames, labels),
        )
        for scale in LAMBDA
    }
    for name, view in (("", victim), (", PDSG", pdsg)):
        attacks[f"SDA{name}"] = (view, lambda v: SDA()(v, frames, labels, eps=MOST).images)
        attacks[f"event-pgd{name}, 10 steps, bisected"] = (
            view,
            lambda v: smallest(EventPGD(steps=10), v, frames, labels),
        )
        attacks[f"our SpikeFool{name}"] = (
            view,
            lambda v: SpikeFool()(v, frames, labels, eps=MOST).images,
        )
    print(
        "| attack | " + " | ".join(f"{b}" for b in BUDGETS) + " | median | gradients | passes | s |"
    )
    print("|---|" + "---|" * (len(BUDGETS) + 4), flush=True)
    for text, (view, attack) in attacks.items():
        done = timed(view, attack)
        wrong = ~judged(victim, done.images, labels)[:, 0]
        flips = np.where(wrong, changed_entries(frames, done.images).numpy(), np.inf)
        shares = [fraction(flips <= b, np.ones(len(flips))) for b in BUDGETS]
        cells = [f"{v:.0%} ({a * 100:.0f}-{b * 100:.0f})" for v, (a, b) in shares]
        _, cost, seconds = done
        cells += [f"{np.median(flips):g}"]
        cells += [f"{n / len(frames):,.0f}" for n in (cost.backwards, cost.forwards)]
        print(f"| {text} | " + " | ".join([*cells, f"{seconds:,.0f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
