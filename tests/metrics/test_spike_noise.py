"""Oracle 13: flips and dropped events."""

from __future__ import annotations

import math

import pytest
import torch

from robust_snn.errors import InputError
from robust_snn.metrics import drop_events, event_drop, flip_spikes, hidden_flips, record
from zoo import awake, images, narrow


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("kind", ["independent", "exact"])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.4])
def test_the_rate_after_flips(kind: str, beta: float) -> None:
    spikes = (torch.rand(10, 20, 100) < 0.2).float()
    flipped = flip_spikes(spikes, beta, generator(), kind)
    r = float(spikes.mean())
    sigma = (beta * (1 - beta) / spikes.numel()) ** 0.5
    assert abs(float(flipped.mean()) - (r * (1 - 2 * beta) + beta)) <= 5 * sigma + 1e-3
    assert float((flipped != spikes).float().mean()) == pytest.approx(beta, abs=5 * sigma + 1e-3)


def test_exact_flips_count_in_every_sample() -> None:
    spikes = (torch.rand(10, 6, 33) < 0.2).float()
    flipped = flip_spikes(spikes, 0.3, generator(), "exact")
    for sample in range(6):
        before, after = spikes[:, sample], flipped[:, sample]
        ones = int(before.sum())
        assert ((before == 1) & (after == 0)).sum() == math.floor(0.3 * ones)
        assert ((before == 0) & (after == 1)).sum() == math.floor(0.3 * (330 - ones))


def test_flipped_spikes_pass_no_gradient() -> None:
    spikes = (torch.rand(4, 2, 50) < 0.5).float().requires_grad_()
    flipped = flip_spikes(spikes, 0.3, generator())
    flipped.sum().backward()
    assert torch.equal(spikes.grad, (flipped == spikes).float())


@pytest.mark.parametrize("rho", [0.0, 0.25, 0.5, 1.0])
def test_dropped_events_are_counted(rho: float) -> None:
    frames = torch.poisson(torch.full((5, 4, 2, 8, 8), 0.5))
    kept = drop_events(frames, rho, generator())
    for before, after in zip(frames, kept, strict=True):
        entries = int((before != 0).sum())
        assert int((after != 0).sum()) == entries - math.floor(rho * entries)
    assert torch.equal(kept[kept != 0], frames[kept != 0])


def test_event_drop_uses_all_its_strategies() -> None:
    frames = torch.ones(200, 8, 2, 8, 8)
    dropped = event_drop(frames, 0.25, generator())
    removed = {float(1 - sample.mean()) for sample in dropped}
    assert removed == {0.0, 0.25, 0.0625}  # nothing, a quarter, 2 x 2 of 8 x 8 pixels
    assert torch.equal(frames, torch.ones_like(frames))


def test_hidden_flips_reach_the_next_layer_and_leave_nothing_behind() -> None:
    net, x = awake(narrow("snn_vgg5"), images("snn_vgg5", 4)), images("snn_vgg5")
    with torch.no_grad():
        clean = net(x)
        with hidden_flips(net, 0.2):
            damaged = net(x)
        assert not torch.equal(clean, damaged)
        with hidden_flips(net, 0.0), record(net):
            assert torch.equal(clean, net(x))
        assert torch.equal(clean, net(x))


def test_shares_outside_the_range_are_refused() -> None:
    for call in (flip_spikes, drop_events, event_drop):
        with pytest.raises(InputError, match=r"in \[0, 1\]"):
            call(torch.zeros(1, 1, 1, 1, 1), 1.5, generator())
    with pytest.raises(InputError, match="did you mean 'exact'"):
        flip_spikes(torch.zeros(1, 1), 0.5, generator(), "exactly")
