"""Signs of a masked gradient and of a weak attack, each of them a `Diagnostic`."""

from robust_snn.diagnostics.attack_sanity import compare_strength, must_not_rise
from robust_snn.diagnostics.diagnose import cheap, full
from robust_snn.diagnostics.diagnostic import Diagnostic
from robust_snn.diagnostics.input_gradients import gradient_cosines, input_gradient

__all__ = [
    "Diagnostic",
    "cheap",
    "compare_strength",
    "full",
    "gradient_cosines",
    "input_gradient",
    "must_not_rise",
]
