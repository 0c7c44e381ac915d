"""Lists of raw events: binned as recordings are, attacked through the binning."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.attacks import EventTimes
from robust_snn.data import load_dataset
from robust_snn.data.events import event_lists, make_events, record_digits, to_frames
from robust_snn.eval import load_suite
from robust_snn.neurons import LIF, EventBinning

STEPS, SIDE = 4, 2


class Tiny(nn.Module):
    """Bins lists into 4 steps of 2 x 2 pixels, for 16 neurons and 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.bins = EventBinning(STEPS, SIDE, SIDE)
        self.enter, self.neurons, self.leave = nn.Linear(8, 16), LIF(decay=0.8), nn.Linear(16, 3)

    def forward(self, events: Tensor) -> Tensor:
        frames = self.bins(events).transpose(0, 1).flatten(2)
        mean: Tensor = self.leave(self.neurons(self.enter(frames))).mean(0)
        return mean


def random_lists(batch: int, events: int, seed: int = 0) -> Tensor:
    """Lists whose last event is none."""
    generator = torch.Generator().manual_seed(seed)
    lists = torch.rand(batch, 4, events, 1, generator=generator)
    lists[:, 3] = (torch.rand(batch, events, 1, generator=generator) < 0.5) / 2 + 0.5
    lists[:, :, -1] = 0
    return lists


def test_lists_are_binned_as_recordings_are() -> None:
    recordings = record_digits(load_dataset("digits", n=6), 6)
    frames = torch.from_numpy(np.stack([to_frames(each, 10, (16, 16)) for each in recordings]))
    lists = event_lists(recordings, (16, 16)).to(frames.device)
    assert lists.min() >= 0 and lists.max() <= 1
    counts = (EventBinning(10, 16, 16, binary=False)(lists) * 255).round().long()
    assert torch.equal(counts.sum(1), frames.sum(1))
    edges = (counts - frames).abs().sum((1, 2, 3, 4))  # twice the events on another side of an edge
    assert (edges <= 2 * 9).all() and edges.sum() < frames.sum() / 1000
    assert torch.equal(EventBinning(10, 16, 16)(lists), (counts > 0).float())


def test_gradients_lead_to_the_nearer_step() -> None:
    events = torch.tensor([0.45, 0.2, 0.2, 1.0]).view(1, 4, 1, 1).requires_grad_()
    frames = EventBinning(STEPS, SIDE, SIDE)(events)
    assert frames.nonzero().tolist() == [[0, 1, 1, 0, 0]]
    weight = torch.arange(1.0, 5.0).view(1, 4, 1, 1, 1) ** 2  # 1, 4, 9, 16
    (frames * weight).sum().backward()
    assert events.grad is not None
    slope = events.grad.flatten().tolist()  # 0.45 lies between the middles of steps 1 and 2
    assert slope[:3] == pytest.approx([4 * (9 - 4), 0, 0])
    assert slope[3] == pytest.approx(0.7 * 4 + 0.3 * 9)


def test_against_every_choice_of_steps() -> None:
    """Of the lists that moves by a quarter can fool, gradients and random moves fool nearly all."""
    torch.manual_seed(1)
    net, lists = Tiny(), random_lists(60, 6)
    with torch.no_grad():
        for layer in (net.enter, net.leave):
            layer.weight.mul_(3)
    labels, possible = net(lists).argmax(1), []
    for one, label in zip(lists, labels, strict=True):
        tries = itertools.product((-0.25, 0.0, 0.25), repeat=5)
        every = one.expand(3**5, -1, -1, -1).clone()
        every[:, 0, :5, 0] = (every[:, 0, :5, 0] + torch.tensor(list(tries))).clamp(0, 1)
        possible.append(bool((net(every).argmax(1) != label).any()))
    found = {}
    for guide in ("gradient", "random"):
        attack = EventTimes(steps=30, restarts=4, guide=guide)
        found[guide] = attack(Victim(net), lists, labels, eps=0.25).success
    assert not (torch.stack(list(found.values())) & ~torch.tensor(possible)).any()
    assert found["gradient"].sum() >= 0.8 * sum(possible) and sum(possible) > 10


@pytest.mark.parametrize("guide", ["gradient", "random"])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"events": 2}])
def test_what_moves_conserve(guide: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net, lists = Tiny(), random_lists(20, 6)
    attack = EventTimes(steps=4, restarts=2, guide=guide, **options)
    made = attack(Victim(net), lists, net(lists).argmax(1), eps=0.1).images
    moved = (made - lists)[:, 0, :, 0]
    assert torch.equal(made[:, 1:], lists[:, 1:]) and (moved[:, -1] == 0).all()
    assert 0 < moved.abs().max() <= 0.1 + 1e-6 and made.min() >= 0 and made.max() <= 1
    assert "causal" not in options or (moved >= 0).all()
    assert (moved != 0).sum(1).max() <= options.get("events", 5)


def test_the_suite_runs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, lists = Tiny().eval(), random_lists(12, 6)
    labels = net(lists).argmax(1)
    verdict = robust_snn.evaluate(net, lists, labels, suite="events-lists", eps=0.25, out=tmp_path)
    assert [row.name for row in verdict.attacks] == [
        row.name for row in load_suite("events-lists").attacks
    ]
    assert verdict.robust.accuracy < 1


def test_what_is_no_list_is_refused() -> None:
    net, frames = nn.Sequential(nn.Flatten(), nn.Linear(72, 2)), torch.rand(1, 2, 6, 6)
    with pytest.raises(InputError, match="lists of events"):
        EventTimes()(Victim(net), frames, torch.tensor([0]), eps=0.1)
    with pytest.raises(InputError, match="lists of events"):
        EventBinning(2, 2, 2)(frames)
    for at in range(4):
        nowhere = torch.full((1, 4, 2, 1), 0.5)
        nowhere[0, at, 1] = torch.nan if at % 2 else torch.inf
        with pytest.raises(InputError, match="NaN or infinite"):
            EventBinning(2, 2, 2)(nowhere)
    with pytest.raises(InputError, match="did you mean 'gradient'"):
        EventTimes(guide="gradients")
    long = make_events(np.array([0, 1 << 30]), *np.zeros((2, 2), np.int64), np.ones(2, bool))
    with pytest.raises(InputError, match="cut it"):
        event_lists([long], (4, 4))
    with pytest.raises(InputError, match="columns 0..3"):
        event_lists([make_events(*np.array([[0], [9], [0], [1]]))], (4, 4))
