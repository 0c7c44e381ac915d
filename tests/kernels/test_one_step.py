"""What Numba computes for one step of neurons is what PyTorch computes."""

from __future__ import annotations

import pytest
import torch

from robust_snn.kernels.spiking import one_step
from robust_snn.kernels.spiking.adaptive_surrogates import SharpnessMemory, WidthBySpread
from robust_snn.kernels.spiking.rules import Surrogate
from robust_snn.kernels.spiking.surrogate_shapes import UNIT_SHAPES

pytestmark = pytest.mark.cpu_only  # on other devices there is no such pass

SHAPE = (3, 70, 9, 11)
SHARPNESS = {
    "a number": 3.5,
    "of channels": torch.rand(3, 70, 1, 1) + 0.5,
    "of samples": torch.rand(3, 1, 1, 1) + 0.5,
    "of channels of the batch": torch.rand(1, 70, 1, 1) + 0.5,
    "of neurons": torch.rand(SHAPE) + 0.5,
}


@pytest.fixture
def both(monkeypatch):
    """Runs something in one pass over memory, and operation by operation."""

    def run(function):
        assert one_step.in_one_pass(torch.randn(SHAPE))
        found = function()
        monkeypatch.setattr(one_step, "WORTH", 1 << 40)
        assert not one_step.in_one_pass(torch.randn(SHAPE))
        return found, function()

    with torch.no_grad():
        yield run


@pytest.mark.parametrize("sharpness", SHARPNESS.values(), ids=SHARPNESS)
@pytest.mark.parametrize("family", UNIT_SHAPES)
def test_slopes(family, sharpness, both):
    upstream, membrane = torch.randn(2, *SHAPE)
    surrogate = Surrogate(family, 1.0, scale=0.7, floor=0.01)
    found, expected = both(
        lambda: one_step.slope_product(upstream, membrane, 0.3, -2.0, surrogate, sharpness)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_widths(scope, both):
    z = torch.randn(4, *SHAPE)
    found, expected = both(lambda: WidthBySpread(scope).recursion(z).sharpness)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_statistics_have_the_same_bits(both):
    passes = torch.randn(3, 2, *SHAPE)

    def learn():
        memory = SharpnessMemory()
        return torch.stack([torch.stack(memory.update("layer", z, 0.9)) for z in passes])

    assert torch.equal(*both(learn))


def test_drives_have_the_same_bits(both):
    from robust_snn.foreign.recurrence import Recurrence
    from robust_snn.foreign.spike_exchanges import RateSoFar
    from robust_snn.foreign.staircase import Staircase
    from robust_snn.kernels import RateSlope

    membranes = torch.randn(3, *SHAPE)

    def slope():
        rule = RateSlope(0.5, 0.2, (0.3, 1.0))
        rates = RateSoFar(
            rule, Recurrence(0.9, -0.3, -0.9, 1.1, ()), Staircase(0, None, (0.2,), (-1.0, 2.0))
        )
        for membrane in membranes:
            rates.add(membrane, torch.where(membrane > 0.2, 2.0, -1.0))
        return torch.stack([rates._drive, rates._carried, rates.slope()])

    assert torch.equal(*both(slope))
