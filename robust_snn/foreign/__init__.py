"""Other people's networks as victims: the one `adapt`, and the libraries whose neurons it knows."""

from robust_snn.foreign.foreign_net import ForeignSNN, Library, adapt, overriding, register

__all__ = ["ForeignSNN", "Library", "adapt", "overriding", "register"]
