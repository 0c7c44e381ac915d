"""LIF neurons with integer spikes (spike-driven transformer V3, TPAMI 2025)."""

from __future__ import annotations

from dataclasses import replace

from robust_snn.gradients import BPTT, GradientMode
from robust_snn.gradients.surrogates import Rectangle
from robust_snn.neurons.lif import LIF
from robust_snn.neurons.stochastic_gate import StochasticGate
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.values import whole


class IntegerLIF(LIF):
    """LIF neurons whose spike is the membrane, rounded and clipped to 0, ..., D.

        v[t] = decay * u[t-1] + gain * current[t]
        s[t] = clip(round(v[t]), 0, D),   u[t] = v[t] - s[t]

    These are the neurons of spike-driven transformers V2.5 and V3 (Yao et al., TPAMI 2025; Luo et
    al., ECCV 2024), which a chip replays as up to D binary spikes. With one step, as in V3's code,
    nothing leaks. A half rounds up; in the code it rounds to even.

    A gradient mode sees the distance to the nearest of the D thresholds 0.5, 1.5, ..., so that the
    default, a rectangle of width 1, is the paper's straight-through estimator: slope 1 within
    `[0, D]`, and 0 outside. `"ste"` is 1 everywhere.

    Args:
        levels: Largest spike D.
        decay: Leak per step.
        gain: Factor on the current.
        gradient: Gradient mode; the straight-through estimator if left out.
        backend: `"auto"`, `"triton"`, `"numba"` or `"torch"`.
        gate: Stochastic gate on the outgoing spikes.

    Raises:
        InputError: If an argument is out of range or a name is not known.
    """

    bounded = False

    @checked_types
    def __init__(
        self,
        levels: int = 4,
        decay: float = 1.0,
        gain: float = 1.0,
        gradient: str | GradientMode | None = None,
        backend: str = "auto",
        gate: StochasticGate | None = None,
    ) -> None:
        straight_through = gradient or BPTT(Rectangle())
        super().__init__(
            decay,
            threshold=0.5,
            reset="soft",
            gain=gain,
            gradient=straight_through,
            backend=backend,
            gate=gate,
        )
        levels = whole(levels, "levels of integer spikes", 1)
        self.dynamics = replace(self.dynamics, drop=1.0, levels=levels)

    def extra_repr(self) -> str:
        return f"levels={self.dynamics.levels}, {super().extra_repr()}"
