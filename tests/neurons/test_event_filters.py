"""Filters of camera noise: what each drops, and that attacks run through them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robust_snn import InputError, Victim
from robust_snn.attacks import EventPGD
from robust_snn.neurons import BackgroundActivityFilter, HotPixelFilter, RefractoryFilter

FILTERS = [BackgroundActivityFilter(1), HotPixelFilter(2), RefractoryFilter(2)]
each = pytest.mark.parametrize("stage", FILTERS, ids=lambda stage: type(stage).__name__)


def events(*at: tuple[int, int, int], steps: int = 6) -> Tensor:
    """One recording with events of the first polarity at `(t, y, x)`."""
    frames = torch.zeros(1, steps, 2, 5, 5)
    for t, y, x in at:
        frames[0, t, 0, y, x] = 1
    return frames


@pytest.mark.parametrize(
    ("stage", "given", "kept"),
    [
        (BackgroundActivityFilter(1), [(0, 2, 2)], []),
        (BackgroundActivityFilter(1), [(0, 2, 2), (1, 2, 3)], [(1, 2, 3)]),
        (BackgroundActivityFilter(1), [(0, 2, 2), (2, 2, 3)], []),
        (BackgroundActivityFilter(0), [(3, 0, 0), (3, 1, 1)], [(3, 0, 0), (3, 1, 1)]),
        (HotPixelFilter(2), [(0, 1, 1), (3, 1, 1), (5, 0, 0)], [(0, 1, 1), (3, 1, 1), (5, 0, 0)]),
        (HotPixelFilter(2), [(0, 1, 1), (3, 1, 1), (5, 1, 1), (5, 0, 0)], [(5, 0, 0)]),
        (RefractoryFilter(2), [(t, 1, 1) for t in range(6)], [(0, 1, 1), (3, 1, 1)]),
        (RefractoryFilter(1), [(0, 1, 1), (1, 1, 2), (2, 1, 1)], [(0, 1, 1), (1, 1, 2), (2, 1, 1)]),
    ],
)
def test_what_stays(
    stage: nn.Module, given: list[tuple[int, int, int]], kept: list[tuple[int, int, int]]
) -> None:
    assert torch.equal(stage(events(*given)), events(*kept))


@each
def test_only_events_are_dropped_and_causally(stage: nn.Module) -> None:
    frames = (torch.rand(8, 6, 2, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    out = stage(frames)
    assert ((out == frames) | (out == 0)).all() and 0 < out.sum() < frames.sum()
    if not isinstance(stage, HotPixelFilter):  # whose mask is the recording's
        assert torch.equal(stage(frames[:, :3]), out[:, :3])
    with pytest.raises(InputError, match="event frames"):
        stage(frames[:, 0])


@each
def test_attacks_know_the_filter(stage: nn.Module) -> None:
    """They insert what passes: no gradient points to entries whose events would be dropped."""
    torch.manual_seed(0)
    net = nn.Sequential(stage, nn.Flatten(), nn.Linear(300, 4)).eval()
    frames = (torch.rand(64, 6, 2, 5, 5) < 0.15).float()
    labels = net(frames).argmax(1)
    plain = EventPGD(steps=10)(Victim(net[1:]), frames, labels, eps=3).images
    aware = EventPGD(steps=10)(Victim(net), frames, labels, eps=3).images
    wrong = [(net(images).argmax(1) != labels).sum() for images in (plain, aware)]
    assert wrong[1] > wrong[0]
