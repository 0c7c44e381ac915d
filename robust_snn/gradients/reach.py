"""Which neurons of a network a gradient mode reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from robust_snn.gradients.modes import GradientMode


@dataclass(frozen=True)
class Reach:
    """Which neurons of a network a gradient mode reaches.

    Attributes:
        neurons: Names of the neurons, or spike functions, whose gradient the mode decides.
        missed: Why not, by the names of the others.
        refusal: Why the network cannot run under the mode at all, and what to do; None where it
            can.
    """

    neurons: tuple[str, ...] = ()
    missed: Mapping[str, str] = field(default_factory=dict)
    refusal: str | None = None


@runtime_checkable
class TakesModes(Protocol):
    """A module that knows which of the neurons inside it a gradient mode reaches."""

    def takes(self, mode: GradientMode) -> Reach: ...
