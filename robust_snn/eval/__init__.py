"""Evaluation: a worst case over attacks, with intervals, on noise that no attack has seen."""

from __future__ import annotations

from robust_snn.eval.evaluate import estimate, evaluate
from robust_snn.eval.execution.progress import Progress
from robust_snn.eval.protocol.suite import AttackSpec, Draws, Suite
from robust_snn.eval.protocol.suite_files import load_suite, shipped_suites
from robust_snn.eval.protocol.threat_model import ConstraintViolation
from robust_snn.eval.scoring.compare import Comparison, compare
from robust_snn.eval.scoring.curves import load_curves
from robust_snn.eval.scoring.predictions import Predictions
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.eval.sweep import sweep
from robust_snn.utils.errors import FolderError

__all__ = [
    "AttackSpec",
    "Comparison",
    "ConstraintViolation",
    "Draws",
    "FolderError",
    "Predictions",
    "Progress",
    "Suite",
    "Verdict",
    "compare",
    "estimate",
    "evaluate",
    "load_curves",
    "load_suite",
    "shipped_suites",
    "sweep",
]
