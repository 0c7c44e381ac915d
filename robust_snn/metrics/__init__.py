"""Measures of spiking networks: pure functions over activity that one recorder collects."""

from robust_snn.kernels.spiking.replay import membrane_potential
from robust_snn.metrics.activity import (
    Activity,
    LayerActivity,
    Synapse,
    firing_rates,
    mean_opening,
    record,
)
from robust_snn.metrics.energy import Operations, energy, fan_out, operations, profile
from robust_snn.metrics.energy_attack import EnergyAttack
from robust_snn.metrics.image_energy import ImageCosts, image_costs
from robust_snn.metrics.neural_code import (
    correlation,
    fano_factor,
    jpsth,
    jpsth_of_pairs,
    prediction_similarity,
    psth,
)
from robust_snn.metrics.perturbation import (
    leak_gain,
    mppd,
    ms_mppd,
    operator_norm,
    spike_train_distance,
    tasad,
)
from robust_snn.metrics.spike_noise import (
    event_drop,
    flip_spikes,
    hidden_flips,
)
from robust_snn.metrics.trials import Trials, repeat

__all__ = [
    "Activity",
    "EnergyAttack",
    "ImageCosts",
    "LayerActivity",
    "Operations",
    "Synapse",
    "Trials",
    "correlation",
    "energy",
    "event_drop",
    "fan_out",
    "fano_factor",
    "firing_rates",
    "flip_spikes",
    "hidden_flips",
    "image_costs",
    "jpsth",
    "jpsth_of_pairs",
    "leak_gain",
    "mean_opening",
    "membrane_potential",
    "mppd",
    "ms_mppd",
    "operations",
    "operator_norm",
    "prediction_similarity",
    "profile",
    "psth",
    "record",
    "repeat",
    "spike_train_distance",
    "tasad",
]
