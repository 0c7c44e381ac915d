"""The fewest flips of binary event frames, by linear models of the network (after SpikeFool)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.events.event_frames import may_change
from robust_snn.attacks.events.recording_flips import BATCH, RecordingFlips
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.victim import Victim

REACHES = (1.0, 1.5, 2.5)  # how far beyond the boundary of a linear model a step aims
# flips of a walk: multiples of the budget, and more; what was not needed is taken back
ROOM = 4, 50


@dataclass(frozen=True, kw_only=True)
class SpikeFool(RecordingFlips):
    """Flips the fewest entries that change the answer.

    As SparseFool (Modas et al., CVPR 2019) and its form for spikes (Buechel et al., Frontiers in
    Neuroscience 2022): a step takes the network for linear, and flips as few entries as lead over
    the nearest boundary then; flips that are not needed in the end are taken back, in halves, then
    quarters, down to single ones. It walks with several reaches, and the shortest way counts. Where
    more than `eps` flips are needed, the `eps` that should gain most remain. A noisy victim answers
    under frozen noise; give it some `eot`.

    Attributes:
        steps: Linear models of a walk.
    """

    name = "spikefool"
    steps: int = 20

    def flipped(
        self, victim: Victim, clean: Tensor, label: Tensor, rng: ImageRng, budget: int
    ) -> tuple[Tensor, bool]:
        recording = _Recording(victim, clean, label, may_change(clean, self.only).flatten())
        flips = torch.zeros(0, dtype=torch.long, device=clean.device)
        fooled = not bool(recording.holds(flips)[0])
        if not fooled:
            ways = [recording.walk(self.steps, reach, budget) for reach in REACHES]
            flips, fooled = min(ways, key=lambda way: (not way[1], len(way[0])))
        return recording.frames(flips)[0], fooled


class _Recording:
    """One recording `[T, C, H, W]`, whose entries flip by their number in it."""

    def __init__(self, victim: Victim, clean: Tensor, label: Tensor, allowed: Tensor) -> None:
        self.victim, self.clean, self.label, self.allowed = victim, clean, label, allowed
        with torch.no_grad():
            self.classes = victim(clean[None]).shape[1]

    def walk(self, steps: int, reach: float, budget: int) -> tuple[Tensor, bool]:
        """Flips `[n]`, at most `budget` of them, and whether they change the answer."""
        flips = torch.zeros(0, dtype=torch.long, device=self.clean.device)
        gains, most = torch.zeros(0, device=self.clean.device), ROOM[0] * budget + ROOM[1]
        for _ in range(steps):
            more, gained = self.towards_boundary(flips, reach)
            room = most - len(flips)
            flips, gains = torch.cat([flips, more[:room]]), torch.cat([gains, gained[:room]])
            order = gains.argsort(stable=True)  # the least useful first
            flips, gains = flips[order], gains[order]
            if not bool(self.holds(flips)[0]):
                flips = self.needed(flips)
                break
            if not len(more) or len(flips) >= most:
                break
        flips = flips[max(0, len(flips) - budget) :]
        return flips, not bool(self.holds(flips)[0])

    def towards_boundary(self, flips: Tensor, reach: float) -> tuple[Tensor, Tensor]:
        """The fewest further flips that a linear model needs for another answer, and their gains.

        Args:
            flips: Entries that are flipped, `[n]`.
            reach: Multiple of the label's lead that they must undo.
        """
        x = self.frames(flips)
        with torch.enable_grad():
            leaf = x.expand(self.classes, *x.shape[1:]).detach().clone().requires_grad_()
            logits = self.victim(leaf)
            leads = logits.diagonal() - logits[:, self.label]
            (gradient,) = torch.autograd.grad(leads.sum(), leaf)
        gradient = torch.nan_to_num(gradient.flatten(1), nan=0.0, posinf=0.0, neginf=0.0)
        gain = (gradient * (1 - 2 * x.flatten())).clamp(min=0) * self.allowed
        gain[:, flips] = 0
        gain[self.label] = 0
        ordered, order = gain.sort(1, descending=True)
        short = (ordered.cumsum(1) <= -reach * leads.detach()[:, None]).sum(1)
        useful = (ordered > 0).sum(1)
        fewest = torch.where(short < useful, short + 1, torch.iinfo(torch.long).max)
        fewest[self.label] = torch.iinfo(torch.long).max
        nearest = int(fewest.argmin())
        if int(fewest[nearest]) > int(useful.max()):  # out of reach: go half as far as possible
            nearest = int((ordered.sum(1) / (-leads.detach()).clamp(min=1e-9)).argmax())
            fewest[nearest] = (useful[nearest] + 1) // 2
        count = int(fewest[nearest])
        return order[nearest, :count], ordered[nearest, :count]

    def needed(self, flips: Tensor) -> Tensor:
        """The flips that remain when parts that are not needed are taken back, the largest first.

        Parts that can each be spared are taken back together, as many as can be.

        Args:
            flips: Flips that change the answer, the least useful first, `[n]`.
        """
        size = len(flips)
        while len(flips) > 1:
            size = min(size, len(flips) // 2)
            parts = torch.arange(len(flips), device=flips.device) // size
            alone = parts != parts.unique()[:, None]
            spared = alone[~self.holds(flips, alone)]
            if len(spared):
                together = spared.cumprod(0).bool()
                spared = together[~self.holds(flips, together)]
            if len(spared):
                flips = flips[spared[-1]]
            elif size == 1:
                break
            else:
                size //= 2
        return flips

    @torch.no_grad()
    def holds(self, flips: Tensor, kept: Tensor | None = None) -> Tensor:
        """Whether the label is the answer under every part of the flips `[n]`, bool `[P]`.

        Args:
            flips: Entries that are flipped, `[n]`.
            kept: The flips of every part, bool `[P, n]`; one part of all if None.
        """
        frames = self.frames(flips, kept)
        return torch.cat([self.victim(x).argmax(1) for x in frames.split(BATCH)]) == self.label

    def frames(self, flips: Tensor, kept: Tensor | None = None) -> Tensor:
        """The frames under every part of the flips, as in `holds`, `[P, T, C, H, W]`."""
        if kept is None:
            kept = torch.ones(1, len(flips), dtype=torch.bool, device=flips.device)
        frames = self.clean.flatten().repeat(len(kept), 1)
        entries = frames[:, flips]
        frames[:, flips] = torch.where(kept, 1 - entries, entries)
        return frames.view(-1, *self.clean.shape)
