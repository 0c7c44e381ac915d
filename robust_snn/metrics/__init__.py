"""Measures of spiking networks: pure functions over activity that one recorder collects."""

from robust_snn.metrics.activity import (
    Activity,
    LayerActivity,
    Synapse,
    firing_rates,
    mean_opening,
    record,
)
from robust_snn.metrics.code import (
    fano_factor,
    jpsth,
    prediction_similarity,
    psth,
)
from robust_snn.metrics.energy import Operations, energy, fan_out, operations, profile
from robust_snn.metrics.perturbation import (
    leak_gain,
    membrane_potential,
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

__all__ = [
    "Activity",
    "LayerActivity",
    "Operations",
    "Synapse",
    "energy",
    "event_drop",
    "fan_out",
    "fano_factor",
    "firing_rates",
    "flip_spikes",
    "hidden_flips",
    "jpsth",
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
    "spike_train_distance",
    "tasad",
]
