"""Diagnostics of gradient masking: functions of a victim and a few images, each a `Finding`."""

from robust_snn.attacks.diagnostics.behaviour import (
    accuracy,
    against_noise,
    order,
    over_eps,
    over_steps,
    rises,
)
from robust_snn.attacks.diagnostics.diagnose import diagnose
from robust_snn.attacks.diagnostics.finding import Finding
from robust_snn.attacks.diagnostics.gradients import (
    agreement,
    batch_mates,
    finite_differences,
    input_gradient,
    slopes,
    vanishing,
)
from robust_snn.attacks.diagnostics.noise import convergence, fixed_noise

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
