"""The stochastic synaptic gate of StoG (Ding et al., AAAI 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robust_snn.errors import InputError
from robust_snn.kernels import Gate, open_gates
from robust_snn.neurons.noise import NoisyModule

LOWEST, HIGHEST = 0.1, 1.0


class StochasticGate(NoisyModule):
    """Lets each spike pass with a probability of its neuron, drawn anew per step and sample.

        out[t] = s[t] * g[t],   g[t] ~ Bernoulli(p),   p = clip(probability, 0.1, 1)

    The gate stays active in `eval()`. It is not rescaled by `1 / p`. The parameter starts below 1:
    the paper starts at 1, where a gate never closes.

    Args:
        shape: Shape of the layer for one sample, such as `(C, H, W)`.
        probability: Initial opening probability, in [0.1, 1].

    Raises:
        InputError: If the probability is outside [0.1, 1].
    """

    def __init__(self, shape: tuple[int, ...], probability: float = 0.95) -> None:
        super().__init__()
        if not LOWEST <= probability <= HIGHEST:
            raise InputError(f"gate probability must be in [0.1, 1], got {probability:g}")
        self.probability = nn.Parameter(torch.full(shape, probability))

    @property
    def opening(self) -> Tensor:
        """Opening probability per neuron, `[*shape]`.

        The gradient passes the clip, so that a gate that stands at 1 can still learn to close;
        `clamp_` after each optimiser step makes that projected gradient descent.
        """
        clipped = self.probability.detach().clamp(LOWEST, HIGHEST)
        return self.probability + (clipped - self.probability.detach())

    @property
    def stochastic(self) -> bool:
        return bool((self.probability < HIGHEST).any())

    def spec(self, batch: int) -> Gate:
        """The gate in the kernels' terms, with the keys of this call."""
        opening = self.opening
        keys, mean = self.draw(batch, opening.device)
        return Gate(opening, keys, self.layer, mean)

    def clamp_(self) -> None:
        """Brings the parameter back into [0.1, 1] after an optimiser step."""
        with torch.no_grad():
            self.probability.clamp_(LOWEST, HIGHEST)

    def forward(self, spikes: Tensor) -> Tensor:
        """Maps spikes `[T, B, *shape]` to the spikes that pass, `[T, B, *shape]`."""
        steps, batch = spikes.shape[:2]
        gate = self.spec(batch)
        gates = open_gates(gate.probability, gate.keys, steps, gate.layer, gate.mean)
        return spikes * gates.to(spikes.dtype)

    def extra_repr(self) -> str:
        return f"shape={tuple(self.probability.shape)}"
