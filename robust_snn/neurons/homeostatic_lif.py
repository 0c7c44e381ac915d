"""LIF neurons with thresholds that keep their membranes on course (HoSNN, arXiv 2308.10373)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from robust_snn.gradients import GradientMode
from robust_snn.kernels import Homeostasis
from robust_snn.kernels.spiking.replay import membrane_potential
from robust_snn.neurons.lif import LIF, steps_of
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import number, whole

MOMENTUM = 0.1  # of the usual membranes, as batch norm's


class HomeostaticLIF(LIF):
    """LIF neurons whose threshold rises with a membrane that is above its usual course.

        threshold[t] = threshold[t-1] + rate * (v[t] - usual[t]),   threshold[0] = threshold
        s[t] = [v[t] >= threshold[t]]

    These are the TA-LIF neurons of HoSNN (Geng and Li, arXiv 2308.10373, with code): `rate` is
    trained per neuron, and `usual`, the paper's neural dynamic signature, is the mean membrane of
    each neuron at each step.

    Differences: the paper measures the signature once, on clean images, with a trained LIF network
    whose weights it then takes over. Here it is a running mean over the batches of a training, as
    batch norm's statistics are; train on clean images first to have theirs. The gradient follows
    the threshold through time, where the code has a rule of its own for `rate` and none for the
    membrane. The reset is the paper's, and there are no synaptic currents.

    Args:
        shape: Shape of the layer for one sample, such as `(C, H, W)`.
        steps: Number of time steps.
        rate: Initial rate of every neuron, at least 0.
        decay: Leak per step.
        threshold: Firing threshold at the start.
        reset: `"hard"` or `"soft"`, which subtracts the threshold of the start.

    The other arguments are those of `LIF`.

    Raises:
        InputError: If an argument is out of range or a name is not known.
    """

    bounded = False
    usual: Tensor

    @checked_types
    def __init__(
        self,
        shape: tuple[int, ...],
        steps: int,
        rate: float = 0.1,
        decay: float = 0.5,
        threshold: float = 1.0,
        reset: Literal["hard", "soft"] = "hard",
        gain: float = 1.0,
        v_reset: float = 0.0,
        gradient: str | GradientMode = "bptt",
        backend: str = "auto",
    ) -> None:
        super().__init__(decay, threshold, reset, gain, v_reset, gradient, backend)
        steps = whole(steps, "steps of homeostatic neurons", 1)
        if number(rate, "rate of homeostasis") < 0:
            raise InputError(f"rate of homeostasis must be at least 0, got {rate:g}")
        self.rate = nn.Parameter(torch.full(shape, rate))
        self.register_buffer("usual", torch.zeros(steps, *shape))

    def forward(
        self,
        current: Tensor,
        steps: int | None = None,
        affine: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        steps = steps_of(current, steps)
        # a backward pass reads them after they have moved
        usual = self.usual.clone() if self.training else self.usual
        spikes = self.fire(current, steps, affine, homeostasis=Homeostasis(self.rate, usual))
        if self.training:
            self._observe(current, spikes)
        return spikes

    @torch.no_grad()
    def _observe(self, current: Tensor, spikes: Tensor) -> None:
        """Moves the usual membranes towards the mean of this batch."""
        d = self.dynamics
        drive = (d.gain * current).expand(spikes.shape).to(self.usual.dtype)
        v = membrane_potential(
            drive, spikes, d.decay, threshold=d.unit, reset=d.reset, v_reset=d.v_reset
        )
        mean = v.mean(1)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        self.usual.lerp_(mean, MOMENTUM)

    def clamp_(self) -> None:
        """Keeps the rates at or above 0 after an optimiser step."""
        with torch.no_grad():
            self.rate.clamp_(min=0)

    def extra_repr(self) -> str:
        return f"neurons={tuple(self.rate.shape)}, {super().extra_repr()}"
