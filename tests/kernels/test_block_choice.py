"""The neurons of a block: measured once where it can matter, and no result depends on them."""

from __future__ import annotations

import pytest
import torch

from robust_snn.gradients import parse_mode
from robust_snn.kernels import Dynamics, Gate, NoisyFiring, measurements, spiking_loop
from robust_snn.kernels.measurements import cache_file
from robust_snn.kernels.spiking.numba import block_choice as module
from robust_snn.kernels.spiking.numba.block_choice import BLOCK, SIZES

pytestmark = pytest.mark.cpu_only

DYNAMICS = Dynamics(decay=0.5)
SHAPE = (5, 901)  # a block and a piece of another, of no whole number of vectors
KEYS = torch.arange(2)
LAYERS = {
    "bptt": ("bptt", {}),
    "rate": ("bptr", {}),
    "mean drive": ("rga", {}),
    "compact": ("bptt(save=compact)", {}),
    "gate": ("bptt", {"gate": Gate(torch.full(SHAPE, 0.5), KEYS)}),
    "noise": ("bptt", {"noise": NoisyFiring("gaussian", 0.5, KEYS)}),
    "affine": ("bptt", {"affine": (torch.ones(5), torch.zeros(5))}),
}


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """What measurements find, one after the other, in a cache folder that is empty at first."""
    found: list[list[float]] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measurements, "_known", {})
    monkeypatch.setattr(module, "WORTH", 1)
    monkeypatch.setattr(module, "TASKS", 0)

    def least_seconds(work, before):
        for run in work:
            before()
            run()
        return found.pop(0)

    monkeypatch.setattr(module, "least_seconds", least_seconds)
    return found


def _layer(mode, options):
    generator = torch.Generator().manual_seed(0)
    current, upstream = torch.randn(2, 3, 2, *SHAPE, generator=generator)
    leaves = [current.requires_grad_()]
    if "affine" in options:
        leaves += [x.clone().requires_grad_() for x in options["affine"]]
        options = {"affine": tuple(leaves[1:])}
    spikes = spiking_loop(current, DYNAMICS, parse_mode(mode).rule(DYNAMICS), **options)
    return [spikes.detach(), *torch.autograd.grad(spikes, leaves, upstream)]


@pytest.mark.parametrize("name", LAYERS)
def test_no_bit_depends_on_the_block(name, timed, monkeypatch):
    found = []
    for seconds in ([1.0, 2.0], [2.0, 1.0]):
        timed[:] = [seconds] * 4
        monkeypatch.setattr(measurements, "_known", {})
        cache_file().unlink(missing_ok=True)
        found += [_layer(*LAYERS[name]), _layer(*LAYERS[name])]  # measuring, and measured
        assert set(module.measured_here()) == {SIZES[seconds.index(1.0)]}
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    "seconds, block", [([1.0, 0.9], SIZES[1]), ([1.0, 0.99], BLOCK), ([1.0, 1.1], BLOCK)]
)
def test_another_block_must_win_clearly(seconds, block, timed):
    timed += [seconds] * 2
    _layer("bptt", {})
    assert dict(module.measured_here()) == {block: 2}  # forward and backward


def test_nothing_is_measured_where_nothing_can_be_gained(timed, monkeypatch):
    monkeypatch.setattr(module, "WORTH", 1 << 30)
    _layer("bptt", {})
    monkeypatch.setattr(module, "WORTH", 1)
    monkeypatch.setattr(module, "TASKS", 4)  # two blocks are too few for any thread
    _layer("bptt", {})
    assert not module.measured_here()
