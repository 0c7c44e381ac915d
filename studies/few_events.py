"""Few moved events: attacks beside every choice, on networks so small that all can be tried.

    python studies/few_events.py

Recordings of 4 steps and 16 entries each, a network with 16 LIF neurons and random weights. Of 200
recordings the 20 that are neither sure nor on the edge are attacked.
"""

from __future__ import annotations

import itertools
import time

import torch
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.attacks import EVENT_ATTACKS
from robust_snn.neurons import LIF

STEPS, ENTRIES, RECORDINGS = 4, 16, 20
CASES = ((1, 1), (2, 1), (1, 3), (2, 3))  # moved events, steps of one
ATTACKS = {
    "retiming-search": ("retiming-search", "bptt", {}),
    "retiming": ("retiming", "bptt", {"steps": 20}),
    "retiming, PDSG": ("retiming", "pdsg", {"steps": 20}),
    "soft-retiming": ("soft-retiming", "bptt", {"steps": 20}),
    "soft-retiming, 5 starts": ("soft-retiming", "bptt", {"steps": 20, "restarts": 5}),
    "20 moves at random": ("retiming", "bptt", {"steps": 20, "guide": "random"}),
}


class Tiny(nn.Module):
    """16 LIF neurons and 3 classes, `[B, T, 2, 2, 4]` to `[B, 3]`."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(ENTRIES, 16), nn.Linear(16, 3)
        self.neurons = LIF(decay=0.8)
        with torch.no_grad():
            for layer in (self.enter, self.leave):
                layer.weight.mul_(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.neurons(self.enter(x.transpose(0, 1).flatten(2)))).mean(0)


def every_move(x: Tensor, most: int, jitter: int) -> Tensor:
    """All recordings after at most so many moves of different events, `[n, T, ...]`."""
    flat, last = x.flatten(1), len(x) - 1
    ways = [d for d in range(-jitter, jitter + 1) if d]
    moves = [(t, n, t + d) for t, n in flat.nonzero().tolist() for d in ways]
    moves = [move for move in moves if 0 <= move[2] <= last]
    found = []
    for count in range(1, most + 1):
        for chosen in itertools.combinations(moves, count):
            after = flat.clone()
            for before, n, to in chosen:
                after[before, n] -= 1
                after[to, n] += 1
            if after.min() >= 0 and after.max() <= 1:
                found.append(after.view(x.shape))
    return torch.stack(found)


@torch.no_grad()
def recordings(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, and recordings with its answers."""
    torch.manual_seed(seed)
    net, frames = Tiny(), (torch.rand(200, STEPS, 2, 2, 4) < 0.3).float()
    lead, answers = net(frames).topk(2)
    some = (lead[:, 0] - lead[:, 1]).argsort()[60 : 60 + 6 * RECORDINGS : 6]
    return net, frames[some], answers[some, 0]


def main() -> None:
    print("| seed | moves | steps | possible | " + " | ".join(ATTACKS) + " | seconds |")
    print("|---|" + "---|" * (len(ATTACKS) + 4), flush=True)
    for seed in (0, 1):
        net, frames, answers = recordings(seed)
        for moves, jitter in CASES:
            with torch.no_grad():
                rows = zip(frames, answers, strict=True)
                tried = [net(every_move(x, moves, jitter)).argmax(1) != y for x, y in rows]
            found, spent = [], []
            for name, mode, options in ATTACKS.values():
                attack = EVENT_ATTACKS[name](jitter=jitter, **options)
                start = time.process_time()
                made = attack(Victim(net, gradient=mode), frames, answers, eps=2 * moves)
                spent.append(f"{time.process_time() - start:.1f}")
                found.append(str(int(made.success.sum())))
            possible = sum(bool(wrong.any()) for wrong in tried)
            cells = [seed, moves, jitter, possible, *found, ", ".join(spent)]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
