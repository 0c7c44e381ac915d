"""Surrogate derivatives and gradient modes, read from and printed as text.

A mode or surrogate is a row of `MODES` or `SURROGATES`; their classes are in `modes` and
`surrogates`.
"""

from robust_snn.gradients.modes import BPTT, MODES, GradientMode, Own, parse_mode
from robust_snn.gradients.reach import Reach, TakesModes
from robust_snn.gradients.surrogates import SURROGATES, SurrogateFunction

__all__ = [
    "BPTT",
    "MODES",
    "SURROGATES",
    "GradientMode",
    "Own",
    "Reach",
    "SurrogateFunction",
    "TakesModes",
    "parse_mode",
]
