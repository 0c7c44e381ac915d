"""Published neurons, step by step: every backend reproduces their spikes and gradients."""

from __future__ import annotations

import re

import pytest
import torch

from helpers import assert_close_rms
from loops import BACKENDS, run
from robust_snn.gradients import parse_mode
from robust_snn.gradients.modes import ASSG
from robust_snn.kernels import Dynamics, LayerStatistics, SharpnessMemory

# Mode names in the traces of SNN-RAT and HART, whose widths are the same argument everywhere.
RATE_FAMILY = {"bptr": "bptr", "rga": "rga", "hart": "hart(gamma={gamma})"}


def _names(traces, prefix):
    return sorted({name.split("/")[0] for name in traces if name.startswith(prefix)} - {prefix})


def _check(traces, key, dynamics, mode, backend, inputs, statistics=None, **arguments):
    # a trace [T, N] is one sample of N neurons; an interpreted kernel costs time per sample
    tensors = (traces[name] for name in inputs)
    current, upstream = (t[:, None] if t.dim() == 2 else t for t in tensors)
    rule = parse_mode(mode).rule(dynamics, statistics)
    spikes, gradients = run(current, upstream, dynamics, rule, backend, **arguments)
    recorded = traces[f"{key}/grad_input"]
    assert torch.equal(spikes.view_as(recorded), traces[f"{key}/spikes"].float())
    assert_close_rms(gradients["current"].view_as(recorded), recorded)
    return gradients


@pytest.mark.parametrize("prefix", ["rat.", "hart."])
@pytest.mark.parametrize("backend", BACKENDS)
def test_rat_and_hart(backend, prefix, golden):
    traces = golden("rat_hart_stable")
    for key in _names(traces, prefix):
        values = dict(re.findall(r"(\w+)=([\d.]+)", key))
        mode = re.split(r"[.(]", key)[1]
        text = RATE_FAMILY.get(mode, "bptt(surrogate=triangle(gamma={gamma}))").format(**values)
        dynamics = Dynamics(decay=float(values["decay"]))
        _check(traces, key, dynamics, text, backend, ("input", "grad_spikes"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_stable_dlif(backend, golden):
    traces = golden("rat_hart_stable")
    key = "stable.dlif(decay=0.99,gamma=1.0)"
    gradients = _check(
        traces,
        key,
        Dynamics(decay=0.99),
        "bptt",
        backend,
        ("input", "grad_spikes"),
        build=lambda p: {"input_gain": p["gain"]},
        parameters={"gain": traces["stable.dlif.p"]},
    )
    assert_close_rms(gradients["gain"], traces[f"{key}/grad_p"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_spikingjelly(backend, golden):
    traces = golden("pdsg_spikingjelly_assg")
    form = r"decay_input=(\w+),reset=(\w+),detach_reset=(\w+),surrogate=(.+)\)$"
    names = _names(traces, "sj.lif")
    assert len(names) == 32
    for key in names:
        scaled, reset, detach, surrogate = re.search(form, key).groups()
        dynamics = Dynamics(decay=0.5, gain=0.5 if scaled == "True" else 1.0, reset=reset)
        mode = f"bptt(surrogate={surrogate},detach_reset={detach.lower()})"
        _check(traces, key, dynamics, mode, backend, ("sj.input", "sj.grad_spikes"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_pdsg(backend, golden):
    traces = golden("pdsg_spikingjelly_assg")
    key = "pdsg(lif tau=2 decay_input=False)"
    inputs = ("pdsg.input", "pdsg.grad_spikes")
    _check(traces, key, Dynamics(decay=0.5), "pdsg(scope=batch)", backend, inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_assg_carries_its_statistics(backend, golden):
    traces = golden("pdsg_spikingjelly_assg")
    mode = ASSG(a=0.85)  # the recorded code writes half of it
    statistics = LayerStatistics(SharpnessMemory(), "layer")
    for k in range(3):
        key = f"assg(a=0.425,relax=1.5,beta=0.9,decay=0.5,detach_reset=True)[{k}]"
        inputs = (f"assg.input[{k}]", "assg.grad_spikes")
        _check(traces, key, Dynamics(decay=0.5), mode, backend, inputs, statistics)
