"""Text forms: what is printed can be read, and what cannot be read says why."""

from __future__ import annotations

import copy
import pickle

import pytest

from robust_snn.gradients import MODES, SURROGATES, parse_mode
from robust_snn.gradients.activations import QCFS
from robust_snn.gradients.modes import Activation
from robust_snn.kernels import Dynamics
from robust_snn.utils.errors import InputError


@pytest.mark.parametrize("name", sorted(MODES))
def test_default_modes_round_trip(name):
    mode = parse_mode(name)
    assert parse_mode(str(mode)) == mode
    assert pickle.loads(pickle.dumps(mode)) == mode == copy.deepcopy(mode)
    mode.rule(Dynamics())


@pytest.mark.parametrize("name", sorted(SURROGATES))
def test_surrogates_round_trip_inside_a_mode(name):
    mode = parse_mode(f"bptt(surrogate={name})")
    assert parse_mode(str(mode)) == mode


@pytest.mark.parametrize(
    "text",
    [
        "bptt(surrogate=triangle(gamma=1),detach_reset=false)",
        "bptr",
        "rga(gamma=0.2,beta=2)",
        "hart(gamma=1)",
        "pdsg(scope=sample)",
        "pdsg(scope=batch)",
        "assg(family=atan,a=0.85,relax=1.5,beta=0.9)",
        "ste",
        "activation(relu)",
        "activation(qcfs(levels=8))",
        "bptt(surrogate=exponential(gamma=2,peak=0.3),detach_reset=true)",
        "bptt(surrogate=triangle(gamma=1),detach_reset=false,save=compact)",
    ],
)
def test_documented_forms_print_as_they_read(text):
    assert str(parse_mode(text)) == text


def test_shorthands():
    assert str(parse_mode(" bptt ( detach_reset = true ) ")).endswith("detach_reset=true)")
    assert parse_mode("activation(qcfs)") == Activation(QCFS(8))
    assert parse_mode("activation(function=qcfs(levels=4))") == Activation(QCFS(4))


@pytest.mark.parametrize(
    "text, message",
    [
        ("bptp", "unknown gradient mode 'bptp': did you mean 'bpt"),
        ("bptt(surogate=atan)", "did you mean 'surrogate'"),
        ("bptt(surrogate=atn)", "did you mean 'atan'"),
        ("bptt(surrogate=relu)", "unknown surrogate 'relu'"),
        ("bptt(surrogate=atan(gamma=1))", "unknown argument of atan 'gamma'"),
        ("bptt(surrogate=triangle(gamma=0))", "gamma of triangle must be positive, got 0"),
        ("bptt(surrogate=triangle(gamma=nan))", "gamma of triangle must be positive, got nan"),
        ("bptt(detach_reset=1)", "detach_reset of bptt must be true or false, got '1'"),
        ("bptt(detach_reset=true,detach_reset=true)", "given twice"),
        ("rga(beta=1)", "beta of rga must be above 1"),
        ("rga(gamma=-1)", "gamma of rga must be positive"),
        ("hart(gamma=wide)", "gamma of hart must be a number, got 'wide'"),
        ("pdsg(scope=images)", "unknown scope of pdsg 'images'"),
        ("assg(family=relu)", "unknown family of assg 'relu'"),
        ("assg(a=1)", "a of assg must be below 1"),
        ("activation(qcfs(levels=0))", "levels of qcfs must be positive"),
        ("activation(qcfs(levels=1.5))", "levels of qcfs must be a whole number"),
        ("bptt(", "expected the form"),
        ("bptt)", "expected the form"),
        ("bptt(surrogate)", "expected the form"),
        ("bptr();import os", "expected the form"),
        ("", "expected the form"),
    ],
)
def test_what_cannot_be_read(text, message):
    with pytest.raises(InputError) as error:
        parse_mode(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "brief"),
    [
        ("bptt", "bptt"),
        ("bptt(surrogate=triangle(gamma=1),detach_reset=true)", "bptt(detach_reset=true)"),
        ("bptt(surrogate=atan)", "bptt(surrogate=atan)"),
        ("activation(qcfs(levels=4))", "activation(qcfs(levels=4))"),
    ],
)
def test_brief_leaves_defaults_out(text, brief):
    mode = parse_mode(text)
    assert mode.brief == brief
    assert parse_mode(brief) == mode
