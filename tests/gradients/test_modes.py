"""What every gradient mode of the table keeps to; a row tests one."""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close_rms
from loops import BACKENDS, COMPILED, run
from robust_snn.gradients import MODES, parse_mode
from robust_snn.kernels import Dynamics

TEXTS = [
    "bptt(surrogate=triangle(gamma=1),detach_reset=false)",
    "bptt(surrogate=atan(alpha=2),detach_reset=true)",
    "ste",
    "bptr",
    "rga(gamma=0.2,beta=2)",
    "hart(gamma=1)",
    "pdsg(scope=sample)",
    "assg(family=atan,a=0.85,relax=1.5,beta=0.9)",
    "activation(relu)",
    "activation(qcfs(levels=8))",
]
DYNAMICS = Dynamics(0.9, threshold=0.8)


def test_every_mode_has_a_row() -> None:
    assert {text.split("(")[0] for text in TEXTS} == set(MODES)


@pytest.mark.parametrize("text", TEXTS)
def test_a_mode_is_printed_as_it_is_read(text: str) -> None:
    assert str(parse_mode(text)) == text
    assert parse_mode(text.split("(")[0]).name == text.split("(")[0]


def _pass(text: str, backend: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    current, upstream = torch.randn(2, 5, 3, 2, 7, 7, generator=generator)
    spikes, gradients = run(current, upstream, DYNAMICS, parse_mode(text).rule(DYNAMICS), backend)
    return spikes, gradients["current"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("text", [text for text in TEXTS if not text.startswith("activation")])
def test_a_mode_changes_no_spike_and_passes_a_gradient(text: str, backend: str) -> None:
    spikes, gradient = _pass(text, backend)
    assert torch.equal(spikes, _pass("bptr", "torch")[0])
    assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("text", TEXTS)
def test_a_backend_gives_the_gradient_of_the_reference(text: str, backend: str) -> None:
    assert_close_rms(_pass(text, backend)[1], _pass(text, "torch")[1])
