"""Transfer from a student: a small network that has learned what the victim answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robust_snn.attacks.apgd import APGD
from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.candidates import Candidates
from robust_snn.attacks.eot_draws import LossEstimate
from robust_snn.attacks.gradient_attack import IterativeAttack
from robust_snn.attacks.norm_ball import NormBall, per_image
from robust_snn.attacks.problem import AttackInputs
from robust_snn.kernels import derive_seed
from robust_snn.utils.values import whole
from robust_snn.victim import Victim
from robust_snn.victim.scoring import fresh_logits

WIDTH, STEPS, BATCH, RATE = 16, 40, 128, 5e-3  # of the student and its training per round


@dataclass(frozen=True, kw_only=True)
class Student(IterativeAttack):
    """APGD on a network that is trained on the victim's answers (Papernot et al., 2017).

    The victim is asked for classes alone, so nothing in its gradient or its logits can mislead. It
    is asked about the images, about points of the ball and mixtures of images, and, round after
    round, about what misleads the student, from which the student then learns. An image's result
    depends on the other images of its batch.

    Attributes:
        steps: Gradients of the student per round.
        rounds: Times that the student is attacked.
        samples: Points per image that the victim is asked about before.
    """

    name = "student"
    norms = APGD.norms
    steps: int = 20
    rounds: int = 20
    samples: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.rounds, "rounds", 1)
        whole(self.samples, "samples", 1)

    def craft(self, inputs: AttackInputs) -> tuple[Tensor, Tensor]:
        victim, images, labels, ids, eps, norm, seed = inputs
        if not len(images):
            return images.clone(), torch.zeros_like(labels, dtype=torch.bool)
        draws = self.select if victim.stochastic else 1
        candidates, rows = Candidates(images, self.keep), torch.arange(len(images))
        rows = rows.to(images.device)

        def ask(x: Tensor) -> Tensor:
            """The share of draws that answer with each class, `[B, K]`; attacks are kept."""
            logits = fresh_logits(victim, x, ids, draws, "student")
            answers = [F.one_hot(z.argmax(1), z.shape[1]).float() for z in logits]
            shares = torch.stack(answers).mean(0)
            loss = torch.stack([margin(z, labels) for z in logits]).mean(0)
            wrong = 1 - shares.gather(1, labels[:, None])[:, 0]
            if NormBall(images, eps, norm).project(x).equal(x):
                estimate = LossEstimate(torch.zeros_like(x), loss, wrong, torch.ones_like(wrong))
                candidates.offer(rows, x, estimate)
            return shares

        seen = [images, *_around(inputs, self.samples)]
        known = [ask(x) for x in seen]
        options = {**self.shared_options(), "eot_loss": 1, "targets": None, "mix": ()}
        student = _new_student(images, known[0].shape[1], derive_seed(seed, "student"))
        for number in range(self.rounds):
            _teach(student, torch.cat(seen), torch.cat(known), derive_seed(seed, "teach", number))
            attack = APGD(steps=self.steps, **options)
            found = attack.within(
                Victim(student), images, labels, eps, norm, derive_seed(seed, "round", number), ids
            ).images
            for x in (found, (images + found) / 2):
                seen.append(x)
                known.append(ask(x))
        return candidates.choose(victim, labels, ids, draws)


def _around(inputs: AttackInputs, samples: int) -> list[Tensor]:
    """Points of the ball, and mixtures of images, in turn."""
    images, rng = inputs.images, inputs.rng
    ball = NormBall(images, inputs.eps, inputs.norm)
    points = []
    for number in range(samples):
        if number % 2:
            points.append(ball.random_surface(rng, number))
        else:
            share = rng.uniform("mixture", number).flatten(1)[:, 0].abs()
            other = images.roll(number // 2 + 1, 0)
            points.append(images + per_image(share, images) * (other - images))
    return points


def _new_student(images: Tensor, classes: int, seed: int) -> nn.Module:
    """A network with two convolutions for images `[B, ..., H, W]`."""
    channels, height, width = images.flatten(1, -3).shape[1:]  # steps of event frames are channels
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        torch.manual_seed(seed)
        layers = (
            nn.Flatten(1, -3),
            nn.Conv2d(channels, WIDTH, 3, 2, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, 2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * WIDTH * -(-height // 4) * -(-width // 4), classes),
        )
        return nn.Sequential(*layers).to(images.device).eval()


@torch.enable_grad()
def _teach(student: nn.Module, x: Tensor, shares: Tensor, seed: int) -> None:
    """Trains the student to answer points `x` with the classes of `shares`, `[P, K]`."""
    optimiser = torch.optim.Adam(student.parameters(), RATE)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        rows = torch.randperm(len(x), generator=generator)[:BATCH].to(x.device)
        loss = -(shares[rows] * F.log_softmax(student(x[rows]), 1)).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
