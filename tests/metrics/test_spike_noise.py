"""Oracle 13: flips and dropped events."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from robust_snn.kernels import sample_keys
from robust_snn.metrics import event_drop, flip_spikes, hidden_flips, record
from robust_snn.utils.errors import InputError
from zoo import awake, images, narrow


def keys(count: int) -> torch.Tensor:
    return sample_keys(1, torch.arange(count))


@pytest.mark.parametrize("kind", ["independent", "exact"])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.4])
def test_the_rate_after_flips(kind: str, beta: float) -> None:
    spikes = (torch.rand(10, 20, 100) < 0.2).float()
    flipped = flip_spikes(spikes, beta, keys(20), kind)
    r = float(spikes.mean())
    sigma = (beta * (1 - beta) / spikes.numel()) ** 0.5
    assert abs(float(flipped.mean()) - (r * (1 - 2 * beta) + beta)) <= 5 * sigma + 1e-3
    assert float((flipped != spikes).float().mean()) == pytest.approx(beta, abs=5 * sigma + 1e-3)


def test_exact_flips_count_in_every_sample() -> None:
    spikes = (torch.rand(10, 6, 33) < 0.2).float()
    flipped = flip_spikes(spikes, 0.3, keys(6), "exact")
    for sample in range(6):
        before, after = spikes[:, sample], flipped[:, sample]
        ones = int(before.sum())
        assert ((before == 1) & (after == 0)).sum() == math.floor(0.3 * ones)
        assert ((before == 0) & (after == 1)).sum() == math.floor(0.3 * (330 - ones))


def test_flipped_spikes_pass_no_gradient() -> None:
    spikes = (torch.rand(4, 2, 50) < 0.5).float().requires_grad_()
    flipped = flip_spikes(spikes, 0.3, keys(2))
    flipped.sum().backward()
    assert torch.equal(spikes.grad, (flipped == spikes).float())


@pytest.mark.parametrize("rho", [0.0, 0.25, 0.5, 1.0])
def test_dropped_events_are_counted(rho: float) -> None:
    frames = torch.poisson(torch.full((5, 4, 2, 8, 8), 0.5))
    kept = event_drop(frames, rho, keys(5), "random")
    for before, after in zip(frames, kept, strict=True):
        entries = int((before != 0).sum())
        assert int((after != 0).sum()) == entries - math.floor(rho * entries)
    assert torch.equal(kept[kept != 0], frames[kept != 0])


def test_event_drop_uses_all_its_strategies() -> None:
    frames = torch.ones(200, 8, 2, 8, 8)
    dropped = event_drop(frames, 0.25, keys(200))
    removed = {float(1 - sample.mean()) for sample in dropped}
    assert removed == {0.0, 0.25, 0.0625}  # nothing, a quarter, 2 x 2 of 8 x 8 pixels
    assert torch.equal(frames, torch.ones_like(frames))


def test_hidden_flips_reach_the_next_layer_and_leave_nothing_behind() -> None:
    net, x = awake(narrow("snn_vgg5"), images("snn_vgg5", 4)), images("snn_vgg5")
    with torch.no_grad():
        clean = net(x)
        with hidden_flips(net, 0.2, keys(len(x))):
            damaged = net(x)
        assert not torch.equal(clean, damaged)
        with hidden_flips(net, 0.0, keys(len(x))), record(net):
            assert torch.equal(clean, net(x))
        assert torch.equal(clean, net(x))


def test_shares_outside_the_range_are_refused() -> None:
    for call in (flip_spikes, event_drop):
        with pytest.raises(InputError, match=r"in \[0, 1\]"):
            call(torch.zeros(1, 1, 1, 1, 1), 1.5, keys(1))
    with pytest.raises(InputError, match="did you mean 'exact'"):
        flip_spikes(torch.zeros(1, 1), 0.5, keys(1), "exactly")
    with pytest.raises(InputError, match="did you mean 'area'"):
        event_drop(torch.zeros(1, 1, 1, 1, 1), 0.5, keys(1), "areas")
    with (
        pytest.raises(InputError, match="Linear has no layer"),
        hidden_flips(nn.Linear(2, 2), 0.1, keys(1)),
    ):
        pass


@pytest.mark.parametrize(("strategy", "power"), [("time", 1), ("area", 2)])
@pytest.mark.parametrize("rho", [0.25, 0.5])
def test_windows_have_the_right_mean_size(strategy: str, power: int, rho: float) -> None:
    dropped = event_drop(torch.ones(2000, 7, 1, 5, 5), rho, keys(2000), strategy)
    assert float((dropped == 0).float().mean()) == pytest.approx(rho**power, rel=0.06)


@pytest.mark.parametrize("strategy", ["mixed", "random", "area"])
def test_a_sample_is_damaged_alike_in_any_batch(strategy: str) -> None:
    frames = (torch.rand(6, 4, 2, 8, 8) < 0.4).float()
    whole, rows = event_drop(frames, 0.4, keys(6), strategy), torch.tensor([4, 1])
    assert torch.equal(event_drop(frames[rows], 0.4, keys(6)[rows], strategy), whole[rows])
    spikes = frames.transpose(0, 1)
    for kind in ("independent", "exact"):
        flipped = flip_spikes(spikes, 0.2, keys(6), kind)
        part = flip_spikes(spikes[:, rows], 0.2, keys(6)[rows], kind)
        assert torch.equal(part, flipped[:, rows])
