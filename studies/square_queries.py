"""Square, ours beside AutoAttack's, at equal numbers of queries.

    python studies/square_queries.py

From the clean image, as a black-box attacker begins. On a noisy network a query of AutoAttack's
Square is the mean of `DRAWS` draws, the same in every query; ours ends a query as soon as its draws
say that the point is no harder, and so needs fewer passes.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from robust_snn import Victim
from robust_snn.adapters.autoattack import autoattack
from robust_snn.attacks import Square
from robust_snn.data import load_dataset

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compared_attacks import judged, packaged, row, timed, total  # noqa: E402

NETS = {"snn_vgg5.digits": (100, (250, 1000, 5000)), "snn_vgg5_stog.digits": (25, (250,))}
EPS, DRAWS, SEEDS = 0.15, 16, (0, 1, 2)


def theirs(queries: int, seed: int, images: Tensor, labels: Tensor, victim: Victim) -> Tensor:
    """Images of the Square of AutoAttack."""
    view = victim.replace(noise="frozen", eot=DRAWS, cost=victim.cost)
    return autoattack(
        view, images, labels, EPS, attacks=["square"], n_queries=queries, seed=seed
    ).images


def ours(queries: int, seed: int, images: Tensor, labels: Tensor, victim: Victim) -> Tensor:
    """Images of ours."""
    view = victim.replace(noise="frozen", eot=DRAWS, cost=victim.cost)
    return Square(steps=queries)(view, images, labels, eps=EPS, seed=seed).images


def main() -> None:
    for name, (images, budgets) in NETS.items():
        victim, data = packaged(name), load_dataset("digits", n=images)
        print(f"\n{name}, eps {EPS}\n\n| Square | right | gradients | passes | seconds |")
        print("|---|---|---|---|---|", flush=True)
        for queries in budgets:
            for text, attack in (("AutoAttack's", theirs), ("ours", ours)):
                rights, runs = [], []
                for seed in SEEDS:
                    made = partial(attack, queries, seed, data.images, data.labels)
                    runs.append(timed(victim, made))
                    rights.append(judged(victim, runs[-1].images, data.labels))
                right, spent = np.concatenate(rights, 1), total(runs)
                count = images * len(SEEDS)
                print(row(f"{text}, {queries:,} queries", right, spent, count), flush=True)


if __name__ == "__main__":
    main()
