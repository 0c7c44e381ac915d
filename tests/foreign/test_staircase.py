"""Step functions recognised by calling them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robust_snn.foreign.staircase import find_staircase

V = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
PER_CHANNEL = torch.tensor([0.2, 0.5, 0.9]).view(3, 1).expand(4, 3, 5).contiguous()

STEPS: dict[str, tuple[Callable[..., Tensor], tuple[Any, ...], tuple[float, ...]]] = {
    "outside": (lambda v: (v >= 0).float(), (V,), (0.0,)),
    "inside, strict": (lambda v: (v > 0.3).float(), (V,), (0.3,)),
    "bool": (lambda v: v > 0.3, (V,), (0.3,)),
    "argument": (lambda v, th, gamma: (v >= th).float(), (V, 0.4, 1.0), (0.4,)),
    "tensor argument": (lambda v, th: (v >= th).float(), (V, torch.tensor(0.5)), (0.5,)),
    "threshold of each channel": (lambda v, th: (v >= th).float(), (V, PER_CHANNEL), (0.0,)),
    "last argument": (lambda gamma, v: (v >= 0).float() * gamma, (2.0, V), (0.0,)),
    "integer levels": (lambda v: v.round().clamp(0, 3), (3 * V,), (0.5, 1.5, 2.5)),
    "ternary": (lambda v: (v > 0.5).float() - (v < -0.5).float(), (V,), (-0.5, 0.5)),
    "without a highest level": (
        lambda v: v.relu().floor(),
        (torch.linspace(0, 3.5, 60).view(4, 3, 5),),
        (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0),
    ),
    "silent": (lambda v: (v >= 15).float(), (V,), (15.0,)),
    "single precision inside": (lambda v: (v.float() >= 0.25).float(), (V,), (0.25,)),
}
OTHERS: dict[str, tuple[Callable[..., Tensor], tuple[Any, ...]]] = {
    "ReLU of spikes": (lambda v: v.clamp(min=0), ((V > 0).float(),)),
    "dropout": (lambda v: (torch.rand_like(v) > 0.5).float(), (V,)),
    "graded": (lambda v: v * (v > 0.5), (V,)),
    "neighbours": (lambda v: (v > v.mean(-1, keepdim=True)).float(), (V,)),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_found_with_its_threshold(name: str) -> None:
    function, arguments, edges = STEPS[name]
    out = function(*arguments)
    found = find_staircase(function, arguments, out)
    assert found is not None and found.edges == pytest.approx(edges, abs=1e-7)
    assert torch.equal(found(found.membrane(arguments)), out.float())


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_step_is_not_taken_for_one(name: str) -> None:
    function, arguments = OTHERS[name]
    assert find_staircase(function, arguments, function(*arguments)) is None


def test_a_threshold_that_stands_still_on_these_data_is_one() -> None:
    silent, still = V - 10, torch.ones_like(V)
    found = find_staircase(lambda v, th: (v >= th).float(), (silent, still), torch.zeros_like(V))
    assert found is not None and (found.threshold, found.edges) == (1, (0.0,))
    other = find_staircase(lambda v, _: (v >= 1).float(), (silent, still), torch.zeros_like(V))
    assert other is not None and (other.threshold, other.edges) == (None, (1.0,))


@settings(max_examples=50, deadline=None)
@given(threshold=st.floats(-3, 3), height=st.floats(0.1, 4), strict=st.booleans())
def test_any_threshold_and_height(threshold: float, height: float, strict: bool) -> None:
    def step(v: Tensor) -> Tensor:
        return height * ((v > threshold) if strict else (v >= threshold)).to(v.dtype)

    found = find_staircase(step, (V,), step(V))
    assert found is not None and found.edges[0] == pytest.approx(threshold, abs=1e-6)
    assert found.jumps[0] == pytest.approx(height, rel=1e-6)
