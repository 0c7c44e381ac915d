"""A search for few flips of binary event frames, which needs no gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robust_snn.attacks.events.event_frames import may_change
from robust_snn.attacks.events.recording_flips import BATCH, TIE, RecordingFlips
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.victim import Victim

PARENTS = 1024  # sets of flips to which one more is added


@dataclass(frozen=True, kw_only=True)
class FlipSearch(RecordingFlips):
    """Tries single flips, then pairs, and so on up to `eps` flips; the best set is returned.

    Every single flip is tried, or as many of them, chosen at random, as half of the passes. A
    larger set is one that was tried and one more flip; those are tried that should come closest to
    a wrong answer if a flip changed the logits as it did alone. Where the passes suffice for every
    set, the answer is exact: 10,000 are enough for 3 flips of 32 entries, 2 of 140, 1 of 10,000.

    A deterministic victim is asked no more once it is wrong. A noisy one answers under frozen
    noise, so that flips are compared under the same draws, until no pass is left; give it some
    `eot`.

    Attributes:
        steps: Forward passes for a recording.
    """

    name = "flip-search"
    steps: int = 10_000

    def flipped(
        self, victim: Victim, clean: Tensor, label: Tensor, rng: ImageRng, budget: int
    ) -> tuple[Tensor, bool]:
        order = rng.uniform("flips").flatten().argsort(stable=True)
        order = order[may_change(clean, self.only).flatten()[order]]

        @torch.no_grad()
        def leads(sets: Tensor) -> Tensor:
            parts = [_flipped(clean, order[part]) for part in sets.split(BATCH)]
            return torch.cat([leads_over_others(victim(part), label) for part in parts])

        entries = len(order)
        to_the_end = victim.stochastic
        best, lead = search_sets(leads, entries, min(budget, entries), self.steps, to_the_end)
        return _flipped(clean, order[best[None]])[0], lead < 0


def search_sets(
    leads: Callable[[Tensor], Tensor], entries: int, budget: int, passes: int, to_the_end: bool
) -> tuple[Tensor, float]:
    """The set of at most `budget` of the entries whose flips leave the label the smallest lead.

    Args:
        leads: From sets `[n, size]` to the label's leads over the other classes, `[n, K - 1]`;
            infinite where a set is not allowed.
        entries: Number of entries.
        budget: Flips, at most.
        passes: Sets that are tried, at most.
        to_the_end: Whether the search goes on where the answer is wrong.

    Returns:
        The set `[size]`, and its smallest lead.
    """
    best = torch.zeros(0, dtype=torch.long)
    start = leads(best[None])
    lead, singles = float(start.min()), passes if budget == 1 else max(1, passes // 2)
    sets = torch.arange(min(entries, singles))[:, None]
    changes = found = start
    for size in range(1, budget + 1):
        if size > 1:
            sets = _larger(sets, found, changes, passes // (budget + 1 - size))
        if not len(sets) or (lead < 0 and not to_the_end):
            break
        passes -= len(sets)
        found = leads(sets)
        if size == 1:
            # what cannot be alone may be beside another, and nobody knows what it changes there
            changes = (found - start).where(found.isfinite(), 0.0)
        hardest = int(found.amin(1).argmin())
        if float(found[hardest].min()) < lead:
            best, lead = sets[hardest], float(found[hardest].min())
    return best, lead


def _larger(sets: Tensor, found: Tensor, changes: Tensor, count: int) -> Tensor:
    """Sets with one more flip that should leave the label the smallest leads, `[count, size + 1]`.

    Args:
        sets: Sets that were tried, `[n, size]`.
        found: Their leads, `[n, K - 1]`.
        changes: Change of the leads by each flip alone, `[N, K - 1]`.
        count: How many sets, at most.
    """
    parents = found.amin(1).argsort(stable=True)[:PARENTS]
    expected = torch.full((len(parents), len(changes)), torch.inf)
    for lead, change in zip(found[parents].T, changes.T, strict=True):
        expected = torch.minimum(expected, (lead[:, None] + change).float())
    expected.scatter_(1, sets[parents], torch.inf)  # no flip twice
    most = min(expected.numel(), count * (sets.shape[1] + 1))  # a set has a parent per flip
    promising = expected.flatten().topk(most, largest=False)
    chosen = promising.indices[promising.values.isfinite()]
    parent, flip = chosen // len(changes), chosen % len(changes)
    larger = torch.cat([sets[parents[parent]], flip[:, None]], 1).sort(1).values
    first = np.unique(larger.numpy(), axis=0, return_index=True)[1]
    return larger[np.sort(first)[:count]]


def leads_over_others(logits: Tensor, label: Tensor) -> Tensor:
    """By how much the label is ahead of every other class, `[n, K - 1]`; a tie is as answered."""
    leads = (logits[:, label, None] - logits).double().cpu()
    tie = torch.where(logits.argmax(1) == label, TIE, -TIE).cpu()
    others = torch.arange(leads.shape[1]) != int(label)
    return torch.where(leads == 0, tie[:, None].double(), leads)[:, others]


def _flipped(clean: Tensor, sets: Tensor) -> Tensor:
    """The frames after every set of flips, `[n, T, C, H, W]`."""
    frames = clean.flatten().repeat(len(sets), 1)
    flips = sets.to(clean.device)
    return frames.scatter(1, flips, 1 - frames.gather(1, flips)).view(-1, *clean.shape)
