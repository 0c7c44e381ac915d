"""Results that others can check: a finished run as a folder, and its verification elsewhere."""

from __future__ import annotations

from robust_snn.eval.submission.submission_folder import (
    RefusedSubmission,
    Submission,
    load_submission,
    submit,
)
from robust_snn.eval.submission.verification import Verification, verify

__all__ = ["RefusedSubmission", "Submission", "Verification", "load_submission", "submit", "verify"]
