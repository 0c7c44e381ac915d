"""Initial weights of a backbone."""

from __future__ import annotations

from torch import nn

# Firing rate of a spiking layer whose currents have zero mean and unit variance.
RATE = 0.15


def init_weights(module: nn.Module) -> None:
    """Normal weights that keep currents near unit variance when `RATE` of the inputs spike.

    A deep spiking network then fires in every layer before any training, also while batch norm
    still has its initial statistics; He initialisation, made for ReLU, leaves it silent.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        fan_in = module.weight[0].numel()
        nn.init.normal_(module.weight, std=(RATE * fan_in) ** -0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
