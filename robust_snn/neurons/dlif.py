"""LIF neurons with a trainable factor per time step."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from robust_snn.gradients import GradientMode
from robust_snn.neurons.lif import LIF
from robust_snn.neurons.stochastic_gate import StochasticGate
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import whole

FORMS = ("membrane", "input")


class DLIF(LIF):
    """LIF neurons with a trainable factor per time step (stable SNN, ICML 2024).

    The paper and its code differ, and the two forms are different neurons:

        "membrane" (paper)   v[t] = decay * factor[t] * u[t-1] + gain * current[t]
        "input" (code)       v[t] = decay * u[t-1] + gain * factor[t] * current[t]

    Args:
        steps: Number of time steps, one factor each; they start at 1.
        form: `"membrane"` or `"input"`.
        decay: Leak per step; 0.99 in the paper.

    The other arguments are those of `LIF`.

    Raises:
        InputError: If an argument is out of range or a name is not known.
    """

    @checked_types
    def __init__(
        self,
        steps: int,
        form: Literal["membrane", "input"] = "membrane",
        decay: float = 0.99,
        threshold: float = 1.0,
        reset: Literal["hard", "soft"] = "hard",
        gain: float = 1.0,
        v_reset: float = 0.0,
        gradient: str | GradientMode = "bptt",
        backend: str = "auto",
        gate: StochasticGate | None = None,
    ) -> None:
        super().__init__(decay, threshold, reset, gain, v_reset, gradient, backend, gate)
        if form not in FORMS:
            raise unknown("form of DLIF", form, FORMS)
        steps = whole(steps, "steps of DLIF", 1)
        self.form = form
        self.factor = nn.Parameter(torch.ones(steps))

    def gains(self, steps: int) -> tuple[Tensor | None, Tensor | None]:
        if steps != len(self.factor):
            raise InputError(
                f"these DLIF neurons have a factor for each of {len(self.factor)} steps, but the "
                f"input has {steps}; build the model with T={steps}"
            )
        return (self.factor, None) if self.form == "membrane" else (None, self.factor)

    def extra_repr(self) -> str:
        return f"steps={len(self.factor)}, form={self.form}, {super().extra_repr()}"
