"""The sparse dynamic attack on binary event frames (SDA, Lun et al., PDSG, CVPR 2025)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import margin
from robust_snn.attacks.events.event_frames import may_change
from robust_snn.attacks.events.recording_flips import BATCH, TIE, RecordingFlips
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.utils.values import whole
from robust_snn.victim import Victim


@dataclass(frozen=True, kw_only=True)
class SDA(RecordingFlips):
    """Flips entries one by one until the answer is wrong, then takes back what was not needed.

    `eps` is the largest number of flips per recording. In step n, the `n k_init` most promising
    entries by the gradient are flipped each alone, which needs that many forward passes. Those that
    do not raise the margin stay flipped. Once the answer is wrong, a binary search takes back as
    many of the least useful flips as it can. The paper's gradient mode is `pdsg`.

    The release differs in two ways. It returns the clean frames where it fails, and looks at the
    budget in its statistics only. Here, where more than `eps` flips are needed, `eps` are chosen
    anew, one by one: each the best of the `k_init` most promising, given those before. Of these and
    of the `eps` most useful of all, those with the smaller margin remain. A noisy victim answers
    under frozen noise, so that flips are compared under the same draws; give it some `eot`.

    Attributes:
        steps: Iterations N; 500 in the release.
        k_init: Candidates of the first iteration.
    """

    name = "sda"
    steps: int = 50
    k_init: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.k_init, "k_init", 1)

    def flipped(
        self, victim: Victim, clean: Tensor, label: Tensor, rng: ImageRng, budget: int
    ) -> tuple[Tensor, bool]:
        recording = _Recording(victim, clean, label, rng, self.only)
        return recording.attacked(self.steps, self.k_init, budget)


class _Recording:
    """The flips of one recording.

    Attributes:
        barred: Entries that may not flip, bool `[T C H W]`.
        chosen: Flipped entries, bool `[T C H W]`.
        gain: Change of the margin that each made when it was tried; infinite if it was not.
    """

    def __init__(self, victim: Victim, x: Tensor, label: Tensor, rng: ImageRng, only: str) -> None:
        self.victim, self.x, self.label, self.rng = victim, x, label, rng
        self.barred = ~may_change(x, only).flatten()
        self.chosen = torch.zeros(x.numel(), dtype=torch.bool, device=x.device)
        self.gain = torch.full((x.numel(),), torch.inf, device=x.device)

    def attacked(self, steps: int, k_init: int, budget: int) -> tuple[Tensor, bool]:
        """The recording with at most `budget` flips, and whether it is misclassified."""
        x, start = self.x, self.label_margin(self.x[None])
        for step in range(1, steps + 1):
            if float(start) <= 0 or not self.open_entries:
                break
            self.try_flips(x, float(start), step, step * k_init)
            x = self.flipped(self.chosen)
            start = self.label_margin(x[None])
        if float(start) <= 0:
            x = self.flipped(self.fewest())
        if (x != self.x).sum() > budget:
            few = [self.flipped(self.most_useful(budget)), self.one_by_one(budget, k_init)]
            x = few[int(self.label_margin(torch.stack(few)).argmin())]
        return x, not bool(self.label_margin(x[None]) > 0)

    def try_flips(self, x: Tensor, start: float, step: int, count: int) -> None:
        """Tries the `count` most promising flips, each alone, and keeps those that help."""
        tried, margins = self.margins_of_flips(x, step, count)
        self.gain[tried] = margins - start
        self.chosen[tried] = self.gain[tried] <= 0
        self.gain[~self.chosen] = torch.inf

    def one_by_one(self, budget: int, count: int) -> Tensor:
        """At most `budget` flips, each the best of the `count` most promising after the others."""
        self.chosen = torch.zeros_like(self.chosen)
        x = self.x
        for step in range(budget):
            if not self.open_entries:
                break
            tried, margins = self.margins_of_flips(x, step, count)
            self.chosen[tried[margins.argmin()]] = True
            x = self.flipped(self.chosen)
            if float(margins.min()) <= 0:
                break
        return x

    def margins_of_flips(self, x: Tensor, step: int, count: int) -> tuple[Tensor, Tensor]:
        """The `count` most promising entries, and the margin when each alone is flipped too."""
        tried = self.ranking(x, step).topk(min(count, self.open_entries)).indices
        margins = []
        for part in tried.split(BATCH):
            frames = x.flatten().repeat(len(part), 1)
            rows = torch.arange(len(part), device=x.device)
            frames[rows, part] = 1 - frames[rows, part]
            margins.append(self.label_margin(frames.view(-1, *x.shape)))
        return tried, torch.cat(margins)

    def ranking(self, x: Tensor, step: int) -> Tensor:
        """Size of the gradient where a flip lowers the margin; small random numbers elsewhere."""
        with torch.enable_grad():
            leaf = x[None].detach().requires_grad_()
            lead = -margin(self.victim(leaf), self.label[None])
            (gradient,) = torch.autograd.grad(lead.sum(), leaf)
        g = torch.nan_to_num(gradient.flatten(), nan=0.0, posinf=0.0, neginf=0.0)
        size = torch.where((1 - 2 * x.flatten()) * g <= 0, g.abs(), 0.0)
        least = size[size > 0].min() if bool((size > 0).any()) else torch.ones((), device=g.device)
        random = self.rng.uniform("rank", step)[0].flatten().abs() * least
        return torch.where(size > 0, size, random).masked_fill(
            self.chosen | self.barred, -torch.inf
        )

    @property
    def open_entries(self) -> int:
        """Number of entries that can still be flipped."""
        return int((~(self.chosen | self.barred)).sum())

    def fewest(self) -> Tensor:
        """The flips that remain when the longest harmless run of least useful ones is undone."""
        order = self._by_use()
        low, high = 0, len(order)  # undoing `low` flips is harmless, undoing `high` is too much
        while high - low > 1:
            middle = (low + high) // 2
            if float(self.label_margin(self.flipped(self._without(order[:middle]))[None])) <= 0:
                low = middle
            else:
                high = middle
        return self._without(order[:low])

    def most_useful(self, budget: int) -> Tensor:
        """The `budget` flips that lowered the margin most."""
        order = self._by_use()
        return self._without(order[: len(order) - budget])

    def label_margin(self, frames: Tensor) -> Tensor:
        """Margin of the label, 0 where the answer is wrong and `TIE` where it wins a tie, `[n]`."""
        with torch.no_grad():
            logits, label = self.victim(frames), self.label.expand(len(frames))
            wrong = logits.argmax(1) != label
            return (-margin(logits, label)).clamp(min=TIE).masked_fill(wrong, 0)

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
