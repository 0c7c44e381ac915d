"""The recursion of a neuron, from the membranes of its steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robust_snn.foreign.recurrence import Traces, Unrecognised, fit

DECAY, THRESHOLD = 0.75, 0.5


def run(currents: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Distances to the threshold and spikes of a neuron that is reset to zero."""
    v, distances, spikes = torch.zeros_like(currents[0]), [], []
    for current in currents:
        v = DECAY * v + current
        distances.append(v - THRESHOLD)
        spikes.append((v >= THRESHOLD).to(v.dtype))
        v = v * (1 - spikes[-1])
    return distances, spikes


CURRENTS = torch.rand(4, 8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_constants_of_a_leaky_neuron_are_found() -> None:
    distances, spikes = run(CURRENTS)
    found = fit(Traces(distances, spikes, [[current] for current in CURRENTS[1:]], (), ()))
    assert (found.decay, found.threshold) == pytest.approx((DECAY, THRESHOLD), abs=1e-5)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_membrane_that_is_not_finite_has_no_recursion(value: float) -> None:
    currents = CURRENTS.clone()
    currents[:, 0, 0] = value
    distances, spikes = run(currents)
    with pytest.raises(Unrecognised, match="NaN or infinite"):
        fit(Traces(distances, spikes, [[current] for current in currents[1:]], (), ()))


def test_a_membrane_that_is_never_reset_has_no_recursion() -> None:
    membrane, distances = torch.zeros_like(CURRENTS[0]), []
    for current in CURRENTS:
        membrane = DECAY * membrane + current
        distances.append(membrane - THRESHOLD)
    spikes = [(distance >= 0).double() for distance in distances]
    with pytest.raises(Unrecognised, match="do not reset"):
        fit(Traces(distances, spikes, [[current] for current in CURRENTS[1:]], (), ()))
