"""Published neurons, step by step: every backend reproduces their spikes and gradients."""

from __future__ import annotations

import re

import pytest
import torch

from helpers import assert_close_rms
from loops import BACKENDS, run
from robust_snn.kernels import Bptr, Bptt, Dynamics, Surrogate


def _check(traces, key, dynamics, rule, backend, **arguments):
    spikes, gradients = run(
        traces["input"], traces["grad_spikes"], dynamics, rule, backend, **arguments
    )
    assert torch.equal(spikes, traces[f"{key}/spikes"].float())
    assert_close_rms(gradients["current"], traces[f"{key}/grad_input"])
    return gradients


@pytest.mark.parametrize("backend", BACKENDS)
def test_rat(backend, golden):
    traces = golden("rat_hart_stable")
    for key in {name.split("/")[0] for name in traces if name.startswith("rat.")}:
        values = dict(re.findall(r"(\w+)=([\d.]+)", key))
        rule = Bptr()
        if "bptt" in key:
            rule = Bptt(Surrogate("triangle", 1 / float(values["gamma"])))
        _check(traces, key, Dynamics(decay=float(values["decay"])), rule, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_stable_dlif(backend, golden):
    traces = golden("rat_hart_stable")
    key = "stable.dlif(decay=0.99,gamma=1.0)"
    gradients = _check(
        traces,
        key,
        Dynamics(decay=0.99),
        Bptt(Surrogate("triangle", 1.0)),
        backend,
        build=lambda p: {"input_gain": p["gain"]},
        parameters={"gain": traces["stable.dlif.p"]},
    )
    assert_close_rms(gradients["gain"], traces[f"{key}/grad_p"])
