"""Diagnostics of gradient masking: functions of a victim and a few images, each a `Finding`."""

from robust_snn.diagnostics.attack_sanity import (
    accuracy,
    against_noise,
    order,
    over_eps,
    over_steps,
    rises,
)
from robust_snn.diagnostics.diagnose import diagnose
from robust_snn.diagnostics.diagnostic import Finding
from robust_snn.diagnostics.input_gradients import (
    agreement,
    batch_mates,
    finite_differences,
    input_gradient,
    slopes,
    vanishing,
)
from robust_snn.diagnostics.stochasticity import convergence, fixed_noise

__all__ = [
    "Finding",
    "accuracy",
    "against_noise",
    "agreement",
    "batch_mates",
    "convergence",
    "diagnose",
    "finite_differences",
    "fixed_noise",
    "input_gradient",
    "order",
    "over_eps",
    "over_steps",
    "rises",
    "slopes",
    "vanishing",
]
