"""Spiking neurons and stochastic gates as thin modules that keep nothing between calls."""

from robust_snn.neurons.dlif import DLIF
from robust_snn.neurons.encoder import FirstEncoder, LatencyEncoder, PhaseEncoder, PoissonEncoder
from robust_snn.neurons.event_binning import EventBinning
from robust_snn.neurons.event_filters import (
    BackgroundActivityFilter,
    HotPixelFilter,
    RefractoryFilter,
)
from robust_snn.neurons.evolving_leak_lif import EvolvingLeakLIF
from robust_snn.neurons.homeostatic_lif import HomeostaticLIF
from robust_snn.neurons.integer_lif import IntegerLIF
from robust_snn.neurons.known_noise import with_known_noise
from robust_snn.neurons.layer_constants import layer_constants
from robust_snn.neurons.lif import LIF
from robust_snn.neurons.noise_families import NOISES, parse_noise
from robust_snn.neurons.noise_source import (
    NoisyModule,
    number_layers,
    set_noise,
)
from robust_snn.neurons.noisy_lif import NoisyLIF
from robust_snn.neurons.norm import (
    KeepsTimeNorms,
    NormSpike,
    TimeBatchNorm2d,
    each_step,
    over_time,
)
from robust_snn.neurons.pass_settings import (
    PassSettings,
    change_settings,
    current_settings,
    fused_norm,
    gradient_mode,
    keyed,
    one_pass,
    use_settings,
)
from robust_snn.neurons.random_leak_lif import RandomLeakLIF
from robust_snn.neurons.stochastic_gate import StochasticGate

__all__ = [
    "DLIF",
    "LIF",
    "NOISES",
    "BackgroundActivityFilter",
    "EventBinning",
    "EvolvingLeakLIF",
    "FirstEncoder",
    "HomeostaticLIF",
    "HotPixelFilter",
    "IntegerLIF",
    "KeepsTimeNorms",
    "LatencyEncoder",
    "NoisyLIF",
    "NoisyModule",
    "NormSpike",
    "PassSettings",
    "PhaseEncoder",
    "PoissonEncoder",
    "RandomLeakLIF",
    "RefractoryFilter",
    "StochasticGate",
    "TimeBatchNorm2d",
    "change_settings",
    "current_settings",
    "each_step",
    "fused_norm",
    "gradient_mode",
    "keyed",
    "layer_constants",
    "number_layers",
    "one_pass",
    "over_time",
    "parse_noise",
    "set_noise",
    "use_settings",
    "with_known_noise",
]
