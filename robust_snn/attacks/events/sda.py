"""The sparse dynamic attack on binary event frames (SDA, Lun et al., PDSG, CVPR 2025)."""

from __future__ import annotations

import torch
from torch import Tensor

from robust_snn.attacks.base import Adversarial, attack_view, on_device, positive
from robust_snn.attacks.events.flips import check_binary, check_budget
from robust_snn.attacks.losses import margin
from robust_snn.attacks.norm_ball import Dice
from robust_snn.victim import Victim

BATCH = 128  # frames with one candidate flip each that pass together


def sda(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "L0",
    seed: int = 0,
    steps: int = 50,
    k_init: int = 10,
    ids: Tensor | None = None,
) -> Adversarial:
    """Flips entries one by one until the answer is wrong, then takes back what was not needed.

    In step n, the `n k_init` most promising entries by the gradient are flipped each alone, which
    needs that many forward passes. Those that do not raise the margin stay flipped. Once the answer
    is wrong, a binary search takes back as many of the least useful flips as it can.

    The release differs in two ways. It returns the clean frames where it fails; here the `eps` most
    useful flips remain. And it looks at the budget in its statistics only; here, where the flips
    needed are more than `eps`, so do the `eps` most useful of them. A noisy victim answers under
    frozen noise, so that flips are compared under the same draws; give the view some `eot`.

    Args:
        victim: What to attack; the paper's gradient mode is `pdsg`.
        images: Binary frames `[B, T, C, H, W]`.
        labels: `[B]`.
        eps: Largest number of flips per recording.
        norm: `"L0"`.
        seed: Seed of all noise and random numbers.
        steps: Iterations N; 500 in the release.
        k_init: Candidates of the first iteration.
        ids: Index of each recording in the attacked set, `[B]`.

    Raises:
        InputError: If the frames are not binary or an option has a wrong value.
    """
    budget = check_budget("sda", norm, eps)
    positive("steps", steps)
    positive("k_init", k_init)
    with attack_view(victim, seed) as view:
        x, y, ids = on_device(view, images, labels, ids)
        check_binary("sda", x)
        if view.stochastic and view.noise == "fresh":
            view = view.replace(noise="frozen", cost=view.cost)
        found = [
            _Flips(view, x[row], y[row], Dice(seed, ids[row : row + 1], x)).run(
                steps, k_init, budget
            )
            for row in range(len(x))
        ]
        adversarial = torch.stack([f for f, _ in found]) if found else x
        survived = torch.tensor([s for _, s in found], dtype=torch.bool)
    return Adversarial(adversarial.to(images.device), survived.to(images.device))


class _Flips:
    """The flips of one recording.

    Attributes:
        chosen: Flipped entries, bool `[T C H W]`.
        gain: Change of the margin that each made when it was tried; infinite if it was not.
    """

    def __init__(self, victim: Victim, x: Tensor, label: Tensor, dice: Dice) -> None:
        self.victim, self.x, self.label, self.dice = victim, x, label, dice
        self.chosen = torch.zeros(x.numel(), dtype=torch.bool, device=x.device)
        self.gain = torch.full((x.numel(),), torch.inf, device=x.device)

    def run(self, steps: int, k_init: int, budget: int) -> tuple[Tensor, bool]:
        """The recording with at most `budget` flips, and whether its label survives."""
        x, start = self.x, self.leads(self.x[None])
        for step in range(1, steps + 1):
            if float(start) <= 0 or bool(self.chosen.all()):
                break
            self.grow(x, float(start), step, step * k_init)
            x = self.flipped(self.chosen)
            start = self.leads(x[None])
        if float(start) <= 0:
            x = self.flipped(self.reduced())
        if (x != self.x).sum() > budget:
            x = self.flipped(self.most_useful(budget))
        return x, bool(self.leads(x[None]) > 0)

    def grow(self, x: Tensor, start: float, step: int, count: int) -> None:
        """Tries the `count` most promising flips, each alone, and keeps those that help."""
        ranks = self.promise(x, step)
        tried = ranks.topk(min(count, int((~self.chosen).sum()))).indices
        for part in tried.split(BATCH):
            frames = x.flatten().repeat(len(part), 1)
            rows = torch.arange(len(part), device=x.device)
            frames[rows, part] = 1 - frames[rows, part]
            self.gain[part] = self.leads(frames.view(-1, *x.shape)) - start
        self.chosen[tried] = self.gain[tried] <= 0
        self.gain[~self.chosen] = torch.inf

    def promise(self, x: Tensor, step: int) -> Tensor:
        """Size of the gradient where flipping would follow it down; a little chance elsewhere."""
        with torch.enable_grad():
            leaf = x[None].detach().requires_grad_()
            lead = -margin(self.victim(leaf), self.label[None])
            (gradient,) = torch.autograd.grad(lead.sum(), leaf)
        g = torch.nan_to_num(gradient.flatten(), nan=0.0, posinf=0.0, neginf=0.0)
        size = torch.where((1 - 2 * x.flatten()) * g <= 0, g.abs(), 0.0)
        least = size[size > 0].min() if bool((size > 0).any()) else torch.ones((), device=g.device)
        chance = self.dice.uniform("rank", step)[0].flatten().abs() * least
        return torch.where(size > 0, size, chance).masked_fill(self.chosen, -torch.inf)

    def reduced(self) -> Tensor:
        """The flips that remain when the longest harmless run of least useful ones is undone."""
        order = self._by_use()
        low, high = 0, len(order)  # undoing `low` flips is harmless, undoing `high` is too much
        while high - low > 1:
            middle = (low + high) // 2
            if float(self.leads(self.flipped(self._without(order[:middle]))[None])) <= 0:
                low = middle
            else:
                high = middle
        return self._without(order[:low])

    def most_useful(self, budget: int) -> Tensor:
        """The `budget` flips that lowered the margin most."""
        order = self._by_use()
        return self._without(order[: len(order) - budget])

    def leads(self, frames: Tensor) -> Tensor:
        """Margin of the label, cut at 0 where the answer is wrong, `[n]`."""
        with torch.no_grad():
            label = self.label.expand(len(frames))
            return (-margin(self.victim(frames), label)).clamp(min=0)

    def flipped(self, chosen: Tensor) -> Tensor:
        """The clean frames with the given entries flipped."""
        return torch.where(chosen.view(self.x.shape), 1 - self.x, self.x)

    def _by_use(self) -> Tensor:
        """Flipped entries from the least to the most useful."""
        entries = self.chosen.nonzero()[:, 0]
        return entries[self.gain[entries].abs().argsort(stable=True)]

    def _without(self, undone: Tensor) -> Tensor:
        chosen = self.chosen.clone()
        chosen[undone] = False
        return chosen
