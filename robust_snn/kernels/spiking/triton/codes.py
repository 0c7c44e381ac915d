"""The codes of `kernels.spiking.codes` as Triton reads global names: compile-time constants."""

from __future__ import annotations

import triton.language as tl

from robust_snn.kernels.philox import Purpose
from robust_snn.kernels.spiking.codes import Randomness, Saved, Time

RECURSION = tl.constexpr(int(Time.RECURSION))
RATE_SLOPE = tl.constexpr(int(Time.RATE_SLOPE))
AVERAGE = tl.constexpr(int(Time.AVERAGE))

FIRED = tl.constexpr(int(Saved.FIRED))
MEAN_DRIVE = tl.constexpr(int(Saved.MEAN_DRIVE))
MEMBRANE = tl.constexpr(int(Saved.MEMBRANE))

NONE = tl.constexpr(int(Randomness.NONE))
DRAW = tl.constexpr(int(Randomness.DRAW))
MEAN = tl.constexpr(int(Randomness.MEAN))

GATE = tl.constexpr(int(Purpose.GATE))
SPIKE = tl.constexpr(int(Purpose.SPIKE))
