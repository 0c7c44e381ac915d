"""Patches of one image each, ours beside ART's, at equal numbers of gradients.

    python studies/patches.py

ART's `AdversarialPatchPyTorch` (after Brown et al., 2017) makes a patch for every image alone, by
the signs of gradients. It does not choose a place: one row has it in the middle; in the other it is
optimised over random places, as in the paper, and then put wherever it does most. Ours has 8 places
with 20 gradients each.
"""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from art.attacks.evasion import AdversarialPatchPyTorch
from torch import Tensor

from robust_snn import Victim
from robust_snn.adapters.art import to_art
from robust_snn.attacks import Patch
from robust_snn.attacks.attack_losses import margin
from robust_snn.data import load_dataset

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compared_attacks import judged, packaged, percent, row, timed  # noqa: E402

NETS = {"snn_vgg5.digits": 40, "snn_vgg5_stog.digits": 6}  # images
SIDE, GRADIENTS, DRAWS = 4, 160, 4
RATE = 0.1  # of ART's steps; the range of pixels is 1


def by_art(place: int | None, victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    """ART's patches: with their corner at a place, or optimised at random ones and tried at all."""
    classifier = to_art(victim.replace(eot=DRAWS, cost=victim.cost))
    made = []
    for x, y in zip(images.split(1), labels.split(1), strict=True):
        np.random.seed(0)
        torch.manual_seed(0)
        attack = AdversarialPatchPyTorch(
            classifier,
            rotation_max=0.0,
            scale_min=SIDE / x.shape[-1],
            scale_max=SIDE / x.shape[-1] + 1e-6,
            learning_rate=RATE,
            max_iter=GRADIENTS,
            batch_size=1,
            patch_shape=(x.shape[1], SIDE, SIDE),
            patch_location=None if place is None else (place, place),
            patch_type="square",
            optimizer="pgd",
            targeted=False,
            verbose=False,
        )
        pixels, _ = attack.generate(x.numpy(), np.eye(10)[y.numpy()])
        patch = torch.from_numpy(pixels).float()[None]
        alone = place is not None
        made.append(put(patch, x, place, place) if alone else hardest(victim, patch, x, y))
    return torch.cat(made)


def put(patch: Tensor, x: Tensor, top: int, left: int) -> Tensor:
    """An image `[1, ...]` with a patch whose corner is at a place."""
    changed = x.clone()
    changed[..., top : top + SIDE, left : left + SIDE] = patch
    return changed


def hardest(victim: Victim, patch: Tensor, x: Tensor, label: Tensor) -> Tensor:
    """An image `[1, ...]` with a patch at the place that raises the margin most."""
    places = range(x.shape[-1] - SIDE + 1)
    tried = torch.cat([put(patch, x, top, left) for top in places for left in places])
    with torch.no_grad():
        draws = [margin(victim(tried), label.expand(len(tried))) for _ in range(DRAWS)]
    return tried[int(torch.stack(draws).mean(0).argmax())][None]


def ours(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    """Images with our patches."""
    return Patch(eot_loss=DRAWS)(victim, images, labels, eps=SIDE**2).images


def compare(name: str, count: int) -> None:
    """Prints the table of a network."""
    victim, data = packaged(name), load_dataset("digits", n=count)
    images, labels = data.images, data.labels
    print(f"\n{name}, clean {percent(judged(victim, images, labels))}\n", flush=True)
    print("| patch | right | gradients | passes | seconds |\n|---|---|---|---|---|")
    attacks = {
        "ART, in the middle": partial(by_art, (images.shape[-1] - SIDE) // 2),
        "ART, random places, then the best": partial(by_art, None),
        "ours": ours,
    }
    for text, attack in attacks.items():
        done = timed(victim, partial(attack, images=images, labels=labels))
        assert (done.images != images).flatten(1).sum(1).max() <= SIDE**2
        print(row(text, judged(victim, done.images, labels), done, count), flush=True)


def main() -> None:
    warnings.filterwarnings("ignore")
    for name, count in NETS.items():
        compare(name, count)


if __name__ == "__main__":
    main()
