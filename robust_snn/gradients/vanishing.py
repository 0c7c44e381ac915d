"""How much of a surrogate lies near the threshold: the theory behind ASSG.

For a shape `k` of integral one, `G(x)` is its integral over `[-x, x]`: the share of the derivative
that a neuron at distance `x` has already lost, its degree of vanishing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

# `omega(A)` with `G(omega) = A`, for the unit shapes of `kernels.spiking.surrogate_shapes`.
OMEGA: dict[str, Callable[[float], float]] = {
    "atan": lambda a: 2 / math.pi * math.tan(math.pi * a / 2),
    "rectangle": lambda a: a / 2,
    "triangle": lambda a: 1 - math.sqrt(1 - a),
    "sigmoid": lambda a: 2 * math.atanh(a),
    "gaussian": lambda a: NormalDist().inv_cdf((1 + a) / 2) / math.sqrt(2),  # erfinv(a)
    "softsign": lambda a: a / (1 - a),
    "exponential": lambda a: -math.log(1 - a),
}
