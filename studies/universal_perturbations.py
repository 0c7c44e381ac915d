"""Universal perturbations, ours beside ART's, at equal numbers of gradients.

    python studies/universal_perturbations.py

Both are fitted on the same digits of the training set and judged on others, of the test set.
ART's `UniversalPerturbation` is the algorithm of Moosavi-Dezfooli et al. (CVPR 2017): images in
turn, each that is not yet misled adds what an attack on it alone makes (DeepFool in the paper), and
the sum is projected. Ours gets no more gradients than ART's spent, and every start at least four.
"""

from __future__ import annotations

import random
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from art.attacks.evasion import UniversalPerturbation
from torch import Tensor

from robust_snn import Victim
from robust_snn.adapters.art import to_art
from robust_snn.attacks import Universal
from robust_snn.attacks.problem import AttackInputs
from robust_snn.data import load_dataset

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compared_attacks import judged, packaged, row, timed  # noqa: E402

NETS = ("snn_vgg5.digits", "snn_vgg5_stog.digits")
EPS, FITTED, JUDGED = 0.15, 50, 200
EPOCHS = 2  # of ART's
ATTACKERS = {
    "DeepFool": ("deepfool", {"max_iter": 10, "epsilon": 0.02, "verbose": False}),
    "FGSM": ("fgsm", {"eps": EPS, "eps_step": EPS}),
}
DRAWS = 4  # of a noisy network


def by_art(attacker: str, victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    """ART's perturbation, `[1, ...]`."""
    kind, params = ATTACKERS[attacker]
    attack = UniversalPerturbation(
        to_art(victim.replace(eot=DRAWS, cost=victim.cost)),
        attacker=kind,
        attacker_params=params,
        delta=0.01,
        max_iter=EPOCHS,
        eps=EPS,
        norm=np.inf,
        batch_size=1,
        verbose=False,
    )
    random.seed(0)  # decides the order of the images
    attack.generate(images.numpy(), np.eye(10)[labels.numpy()])
    return torch.from_numpy(attack.noise).float().view(1, *images.shape[1:])


def ours(gradients: int, victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    """Our perturbation from so many gradients of single images, `[1, ...]`."""
    inputs = AttackInputs(victim, images, labels, torch.arange(len(images)), EPS, "Linf", 0)
    batches = gradients // (len(images) * (DRAWS if victim.stochastic else 1))
    restarts = 2 if batches > 20 else 1
    steps = max(3, batches // restarts - 1)  # and one gradient where it ends
    return Universal(steps=steps, restarts=restarts, eot_loss=DRAWS).fit(inputs)


def random_signs(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    """The best of twenty random sign patterns, `[1, ...]`."""
    signs = torch.rand(20, *images.shape[1:], generator=torch.Generator().manual_seed(0)) - 0.5
    with torch.no_grad():
        right = [
            (victim((images + EPS * s.sign()).clamp(0, 1)).argmax(1) == labels).sum() for s in signs
        ]
    return EPS * signs[int(torch.stack(right).argmin())].sign()[None]


def main() -> None:
    warnings.filterwarnings("ignore")
    fitted = load_dataset("digits", split="train", n=FITTED)
    test = load_dataset("digits", n=JUDGED)
    for name in NETS:
        victim = packaged(name)
        print(
            f"\n{name}, clean {judged(victim, test.images, test.labels).mean():.1%}\n", flush=True
        )
        print("| perturbation | right | gradients | passes | seconds |\n|---|---|---|---|---|")
        done = timed(victim, lambda v: random_signs(v, fitted.images, fitted.labels))
        attacks = {"random signs, best of 20": done}
        for attacker in ATTACKERS:
            art, same = partial(by_art, attacker), f"ours, as many gradients as {attacker}"
            done = timed(victim, lambda v, a=art: a(v, fitted.images, fitted.labels))
            attacks[f"ART, {attacker}, {EPOCHS} epochs"] = done
            equal = partial(ours, done.cost.backwards)
            attacks[same] = timed(victim, lambda v, e=equal: e(v, fitted.images, fitted.labels))
        for text, done in attacks.items():
            moved = (test.images + done.images.clamp(-EPS, EPS)).clamp(0, 1)
            print(row(text, judged(victim, moved, test.labels), done, FITTED), flush=True)


if __name__ == "__main__":
    main()
