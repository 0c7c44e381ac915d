"""Evaluation: a worst case over attacks, with intervals, on noise that no attack has seen."""

from __future__ import annotations

from robust_snn.eval.compare import Comparison, compare
from robust_snn.eval.constraints import ConstraintViolation
from robust_snn.eval.folder import FolderError
from robust_snn.eval.progress import Progress
from robust_snn.eval.results import Results
from robust_snn.eval.runner import evaluate
from robust_snn.eval.suite import Attack, Draws, Suite, load_suite, shipped
from robust_snn.eval.sweep import load_curves, sweep
from robust_snn.eval.verdict import Verdict

__all__ = [
    "Attack",
    "Comparison",
    "ConstraintViolation",
    "Draws",
    "FolderError",
    "Progress",
    "Results",
    "Suite",
    "Verdict",
    "compare",
    "evaluate",
    "load_curves",
    "load_suite",
    "shipped",
    "sweep",
]
