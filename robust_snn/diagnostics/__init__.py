"""Signs of a masked gradient and of a weak attack, each of them a `Diagnostic`."""

from robust_snn.diagnostics.all_checks import cheap, full, measure_or_warn
from robust_snn.diagnostics.attack_sanity import compare_strength, must_not_rise
from robust_snn.diagnostics.clean_accuracy import clean_accuracy
from robust_snn.diagnostics.diagnosis import Diagnosis, diagnose
from robust_snn.diagnostics.diagnostic import Diagnostic
from robust_snn.diagnostics.finite_differences import finite_differences
from robust_snn.diagnostics.mode_agreement import gradient_cosines
from robust_snn.diagnostics.reached_neurons import reached_neurons

__all__ = [
    "Diagnosis",
    "Diagnostic",
    "cheap",
    "clean_accuracy",
    "compare_strength",
    "diagnose",
    "finite_differences",
    "full",
    "gradient_cosines",
    "measure_or_warn",
    "must_not_rise",
    "reached_neurons",
]
