"""Other people's networks as victims: the one `adapt`, and the libraries whose neurons it knows."""

from robust_snn.foreign.adapt import adapt, adapt_to
from robust_snn.foreign.adaptation import adaptation
from robust_snn.foreign.cpu_building import building_on_cpu
from robust_snn.foreign.foreign_net import ForeignSNN
from robust_snn.foreign.function_net import FunctionNet, as_network
from robust_snn.foreign.library import Library, Unreadable, overriding, register

__all__ = [
    "ForeignSNN",
    "FunctionNet",
    "Library",
    "Unreadable",
    "adapt",
    "adapt_to",
    "adaptation",
    "as_network",
    "building_on_cpu",
    "overriding",
    "register",
]
