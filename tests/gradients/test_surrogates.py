"""The catalogue against its formulas, integrals and degrees of vanishing."""

from __future__ import annotations

import math

import pytest
import torch

from helpers import assert_close_rms
from loops import BACKENDS, run
from robust_snn.gradients import SURROGATES, parse_mode
from robust_snn.kernels import Dynamics, Recursion
from robust_snn.kernels.spiking.codes import Shape
from robust_snn.kernels.spiking.surrogate_shapes import SHARES, UNIT_SHAPES, derivative

PI = math.pi
# Each surrogate by its text: the formula, and its integral; None where it has no finite one.
FORMULAS = {
    "triangle(gamma=0.5)": (lambda z: (0.5 - z.abs()).clamp(min=0) / 0.25, 1),
    "piecewise_quadratic(alpha=2)": (lambda z: (2 - 4 * z.abs()).clamp(min=0), 1),
    "rectangle(width=0.8)": (lambda z: (z.abs() < 0.4) / 0.8, 1),
    "atan(alpha=3)": (lambda z: 1.5 / (1 + (PI * 3 * z / 2) ** 2), 1),
    "sigmoid(alpha=4)": (lambda z: 4 * torch.sigmoid(4 * z) * torch.sigmoid(-4 * z), 1),
    "erf(alpha=2)": (lambda z: 2 / PI**0.5 * torch.exp(-((2 * z) ** 2)), 1),
    "gaussian(sigma=0.5)": (lambda z: 2 / (2 * PI) ** 0.5 * torch.exp(-((2 * z) ** 2) / 2), 1),
    "softsign(alpha=2)": (lambda z: 2 / (2 * (1 + 2 * z.abs()) ** 2), 1),
    "fast_sigmoid(slope=25)": (lambda z: 1 / (1 + 25 * z.abs()) ** 2, 2 / 25),
    "superspike(alpha=3)": (lambda z: 3 / (1 + z.abs()) ** 2, 6),
    "piecewise_exp(alpha=2)": (lambda z: torch.exp(-2 * z.abs()), 1),
    "exponential(gamma=2,peak=0.3)": (lambda z: 0.3 * torch.exp(-2 * z.abs()), 0.3),
    "log_abs(alpha=2)": (lambda z: 1 / (0.5 + z.abs()), None),
    "leaky_rectangle(width=0.5,leak=0.01)": (lambda z: torch.where(z.abs() < 0.5, 1.0, 0.01), None),
    "leaky_relu(slope=2,leak=0.1)": (lambda z: torch.where(z >= 0, 2.0, 0.1), None),
    "ste": (lambda z: torch.ones_like(z), None),
}
NORMALISED = [name for name in UNIT_SHAPES if name not in ("logarithm", "step")]


def _kernel(text):
    return parse_mode(f"bptt(surrogate={text})").surrogate.kernel()


def test_every_surrogate_has_a_formula():
    assert {text.split("(")[0] for text in FORMULAS} == set(SURROGATES)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("text", FORMULAS)
def test_formula(text, backend):
    """One step from rest: the gradient is the surrogate at `current - threshold`."""
    z = torch.linspace(-3.03, 3.07, 1001)
    rule = Recursion(_kernel(text))
    _, gradients = run((z + 1).view(1, 1, -1), torch.ones(1, 1, 1001), Dynamics(), rule, backend)
    assert_close_rms(gradients["current"].view(-1), FORMULAS[text][0]((z + 1) - 1), 2e-6)


@pytest.mark.parametrize("family", NORMALISED)
def test_unit_shapes_integrate_to_one(family):
    u = torch.linspace(-2000, 2000, 4_000_001, dtype=torch.float64)
    assert torch.trapezoid(UNIT_SHAPES[family].k(u), u).item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("text", FORMULAS)
def test_integrals(text):
    """Oracle 1: the integral over an axis of half-length L, whose tails go as 1 / L at most."""
    kernel = _kernel(text)
    z = torch.cat([-torch.logspace(4, -6, 200_001), torch.logspace(-6, 4, 200_001)]).double()
    integral = torch.trapezoid(derivative(z, kernel, kernel.sharpness), z).item()
    expected = FORMULAS[text][1]
    if expected is None:
        assert integral > 10
    else:
        assert integral == pytest.approx(expected, rel=2e-3)


def test_three_names_of_one_triangle():
    """Oracle 1: triangle(gamma), piecewise_quadratic(1 / gamma) and QGate(1 / gamma)."""
    for gamma in (0.25, 0.5, 1.0, 2.0):
        one = _kernel(f"triangle(gamma={gamma})")
        assert one == _kernel(f"piecewise_quadratic(alpha={1 / gamma})")


@pytest.mark.parametrize("family", sorted(SHARES))
@pytest.mark.parametrize("a", [0.2, 0.5, 0.6, 0.85, 0.9])
def test_shares_are_integrals_and_distances_their_inverse(family, a):
    x = SHARES[family].distance(a)
    assert SHARES[family].within(torch.tensor(x)).item() == pytest.approx(a, abs=1e-5)
    u = torch.linspace(-x, x, 200_001, dtype=torch.float64)
    assert torch.trapezoid(UNIT_SHAPES[family].k(u), u).item() == pytest.approx(a, abs=1e-4)


def test_every_shape_has_a_code():
    assert [shape.name.lower() for shape in Shape] == list(UNIT_SHAPES)


@pytest.mark.parametrize("text", FORMULAS)
def test_far_from_the_threshold_nothing_breaks(text):
    surrogate = _kernel(text)
    far = torch.tensor([-1e4, 1e4, -1e30, 1e30])
    assert derivative(far, surrogate, surrogate.sharpness).isfinite().all()


@pytest.mark.parametrize("text", FORMULAS)
def test_a_surrogate_has_a_derivative_of_its_own(text):
    z = torch.tensor([-0.71, -0.13, 0.07, 0.33, 1.4], dtype=torch.float64, requires_grad=True)
    surrogate = _kernel(text)
    assert torch.autograd.gradcheck(lambda z: derivative(z, surrogate, 1.0).sum() + 0 * z.sum(), z)
    assert torch.autograd.gradcheck(lambda z: derivative(z, surrogate, 0.8).sum() + 0 * z.sum(), z)
