"""A search for few moves of events in time, which needs no gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robust_snn.attacks.events.flip_search import leads_over_others, search_sets
from robust_snn.attacks.events.recording_flips import BATCH, RecordingAttack
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.utils.values import whole
from robust_snn.victim import Victim


@dataclass(frozen=True, kw_only=True)
class RetimingSearch(RecordingAttack):
    """Tries single moves, then pairs, and so on up to `eps // 2` moves, as `FlipSearch` does flips.

    The threat is that of `Retiming`, on binary frames. Where the passes suffice for every set of
    moves, the answer is exact.

    Attributes:
        steps: Forward passes for a recording.
        jitter: Steps that one event may move, either way.
        delay: Steps that all events of a recording may move together; no limit if None.
    """

    name = "retiming-search"
    steps: int = 10_000
    jitter: int = 1
    delay: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.jitter, "jitter", 1)
        if self.delay is not None:
            whole(self.delay, "delay", 1)

    def flipped(
        self, victim: Victim, clean: Tensor, label: Tensor, rng: ImageRng, budget: int
    ) -> tuple[Tensor, bool]:
        moves = _single_moves(clean, self.jitter)
        order = rng.uniform("moves").flatten()[moves[:, 0]].argsort(stable=True)
        moves = moves[order]

        @torch.no_grad()
        def leads(sets: Tensor) -> Tensor:
            return torch.cat([of_part(moves[part]) for part in sets.split(BATCH)])

        def of_part(chosen: Tensor) -> Tensor:
            frames = _moved(clean, chosen)
            fine = ((frames == 0) | (frames == 1)).flatten(1).all(1)
            if self.delay is not None:
                fine &= chosen[..., 2].abs().sum(1) <= self.delay
            found = leads_over_others(victim(frames.clamp(0, 1)), label)
            return found.where(fine.cpu()[:, None], torch.inf)

        best, lead = search_sets(
            leads, len(moves), min(budget // 2, len(moves)), self.steps, victim.stochastic
        )
        return _moved(clean, moves[best[None]])[0], lead < 0


def _single_moves(clean: Tensor, jitter: int) -> Tensor:
    """Every move of an event inside the recording, as entries and steps, `[moves, 3]`."""
    line = clean[0].numel()
    at = clean.flatten().nonzero()[:, 0]
    steps = torch.tensor([d for d in range(-jitter, jitter + 1) if d], device=clean.device)
    start, step = at.repeat(len(steps)), steps.repeat_interleave(len(at))
    to = start + step * line
    inside = (to >= 0) & (to < clean.numel())
    return torch.stack((start, to, step), 1)[inside]


def _moved(clean: Tensor, sets: Tensor) -> Tensor:
    """The frames after every set of moves `[n, size, 3]`, `[n, T, C, H, W]`; illegal ones too."""
    frames = clean.flatten().repeat(len(sets), 1)
    one = torch.ones_like(sets[..., 0], dtype=frames.dtype)
    frames = frames.scatter_add(1, sets[..., 0], -one).scatter_add(1, sets[..., 1], one)
    return frames.view(-1, *clean.shape)
