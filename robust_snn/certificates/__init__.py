"""Certificates: what no attack can do to a network, the other end of the bracket."""

from robust_snn.certificates.bounds import Bounds, certify
from robust_snn.certificates.smoothing import ABSTAINS, Smoothed, parse_noise, smooth

__all__ = ["ABSTAINS", "Bounds", "Smoothed", "certify", "parse_noise", "smooth"]
