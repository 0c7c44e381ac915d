"""Moved events: budgets kept, no event lost, and the best moves made."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.attacks import Retiming, changed_entries
from robust_snn.attacks.events.retiming import later, move

SHAPE = (5, 2, 4, 4)  # T, C, H, W


def events(kind: str, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if kind == "binary":
        return (torch.rand(count, *SHAPE, generator=generator) < 0.3).float()
    return torch.randint(0, 4, (count, *SHAPE), generator=generator).float() / 255


def moved(before: Tensor, after: Tensor) -> tuple[int, int, int]:
    """Events that moved, steps in total and at most, when events of a pixel keep their order."""
    steps = torch.arange(len(before))
    shifts = []
    for old, new in zip(before.flatten(1).T, after.flatten(1).T, strict=True):
        shifts.append(steps.repeat_interleave(new.long()) - steps.repeat_interleave(old.long()))
    apart = torch.cat(shifts).abs()
    changed = (before - after).abs().sum() / 2
    return int(changed), int(apart.sum()), int(apart.max())


def best_moves(before: Tensor, use: Tensor, jitter: int, moves: int) -> Tensor:
    gains = {d: use - later(use, d) for d in range(-jitter, jitter + 1) if d and abs(d) < 5}
    return move(before, gains, 1, moves, None)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), 5))


@pytest.mark.parametrize("kind", ["binary", "counts"])
@pytest.mark.parametrize("guide", ["gradient", "random"])
@pytest.mark.parametrize(("eps", "jitter", "delay"), [(21, 1, None), (200, 2, 7), (200, 3, None)])
def test_budgets_hold_and_no_event_is_lost(
    kind: str, guide: str, eps: int, jitter: int, delay: int | None
) -> None:
    frames, net = events(kind), linear()
    labels = net(frames).argmax(1)
    attack = Retiming(jitter=jitter, delay=delay, guide=guide, steps=4)
    result = attack(Victim(net), frames, labels, eps=eps).images
    unit = 1 if kind == "binary" else 255
    before, after = frames * unit, result * unit
    assert torch.allclose(after, after.round(), atol=1e-4) and after.min() >= 0
    assert after.max() <= (1 if kind == "binary" else 255)
    before, after = before.round(), after.round()
    assert torch.equal(before.sum(1), after.sum(1))
    assert 0 < changed_entries(frames, result).max() <= eps
    assert ((frames == result) == (before == after)).all()
    for old, new in zip(before, after, strict=True):
        changed, total, farthest = moved(old, new)
        assert changed <= eps // 2 and farthest <= jitter
        assert delay is None or total <= delay


@pytest.mark.parametrize("jitter", [1, 3])
def test_one_move_is_the_best_of_all(jitter: int) -> None:
    before = events("binary")
    use = torch.randn(before.shape, generator=torch.Generator().manual_seed(2))
    after = best_moves(before, use, jitter, 1)
    lines, worth = before.flatten(2), use.flatten(2)
    for row, (old, value) in enumerate(zip(lines, worth, strict=True)):
        gains = [
            float(value[b, n] - value[a, n])
            for a, b, n in product(range(5), range(5), range(old.shape[1]))
            if 0 < abs(a - b) <= jitter and old[a, n] == 1 and old[b, n] == 0
        ]
        gained = ((after - before) * use)[row].sum()
        assert float(gained) == pytest.approx(max(gains), abs=1e-5)


def test_many_moves_come_near_the_best_order() -> None:
    """Without budgets, the events of a pixel go to its best bins."""
    before = events("binary")
    use = torch.randn(before.shape, generator=torch.Generator().manual_seed(3))
    after = best_moves(before, use, 5, 1000)
    count = before.sum(1, keepdim=True)
    place = use.argsort(1, descending=True).argsort(1)
    best = (use * (place < count)).sum() - (use * before).sum()
    assert float((use * (after - before)).sum()) > 0.95 * float(best)


def test_gradients_beat_chance() -> None:
    frames, net = events("binary", 40), linear()
    labels = net(frames).argmax(1)
    successes = [
        int(Retiming(guide=guide)(Victim(net), frames, labels, eps=6).success.sum())
        for guide in ("gradient", "random")
    ]
    assert successes[0] > successes[1]


def test_still_events_stay() -> None:
    """Neither one step nor a full recording leaves anything to move."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(32, 5))
    for frames in (torch.ones(2, 1, 2, 4, 4), torch.zeros(2, 1, 2, 4, 4)):
        result = Retiming()(Victim(net), frames, torch.tensor([0, 1]), eps=9)
        assert torch.equal(result.images, frames)
