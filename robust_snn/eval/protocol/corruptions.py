"""Random corruptions as rows of a suite: nothing is searched for, and every score is that of a
fresh corruption of the image, or of the spikes inside the network.

    - {name: drop-0.05, implementation: corruption, attack: event-drop, options: {rho: 0.05}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from robust_snn.data.common_corruptions import KINDS as COMMON
from robust_snn.data.common_corruptions import SEVERITIES, corrupted
from robust_snn.kernels import derive_seed, sample_keys
from robust_snn.metrics import event_drop, hidden_flips
from robust_snn.metrics.spike_noise import KINDS, MIXED, STRATEGIES, check_share
from robust_snn.utils.argument_types import check_fields
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.values import whole
from robust_snn.victim import Victim

LEVELS = range(1, SEVERITIES + 1)


@dataclass(frozen=True)
class EventDrop:
    """Removed events, see `robust_snn.metrics.event_drop`."""

    draws_together: ClassVar[int] = 1
    rho: float
    strategy: str = MIXED

    def __post_init__(self) -> None:
        check_fields(self)
        check_share("rho", self.rho)
        if self.strategy not in (MIXED, *STRATEGIES):
            raise unknown("strategy of EventDrop", self.strategy, (MIXED, *STRATEGIES))

    def check_images(self, x: Tensor) -> None:
        """Refuses samples that are no event frames."""
        if x.ndim != 5:
            raise InputError(f"EventDrop needs event frames [B, T, C, H, W], got {tuple(x.shape)}")

    def logits(self, victim: Victim, x: Tensor, keys: Tensor, *draw: Any) -> Tensor:
        """Logits of one corruption of every sample, `[B, K]`."""
        self.check_images(x)
        return victim.sample(event_drop(x, self.rho, keys, self.strategy), *draw)


@dataclass(frozen=True)
class SpikeFlip:
    """Flipped spikes of every hidden layer, see `robust_snn.metrics.hidden_flips`."""

    draws_together: ClassVar[int] = 1
    beta: float
    kind: Literal["independent", "exact"] = "independent"

    def __post_init__(self) -> None:
        check_fields(self)
        check_share("beta", self.beta)
        if self.kind not in KINDS:
            raise unknown("kind of flips", self.kind, KINDS)

    def check_images(self, x: Tensor) -> None:
        """Takes any samples: spikes flip, not they."""

    def logits(self, victim: Victim, x: Tensor, keys: Tensor, *draw: Any) -> Tensor:
        """Logits under one corruption of the spikes of every sample, `[B, K]`."""
        with hidden_flips(victim.net, self.beta, keys, self.kind):
            return victim.sample(x, *draw)


@dataclass(frozen=True)
class CommonCorruption:
    """Corruptions of ImageNet-C, see `robust_snn.data.common_corruptions`.

    Attributes:
        kind: Which.
        severity: 1 to 5; if None, the draws take all five in turn, so that five draws, or ten,
            are the mean over severities that the benchmark reports.
    """

    kind: str
    severity: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.kind not in COMMON:
            raise unknown("kind of common corruption", self.kind, COMMON)
        if self.severity is not None and whole(self.severity, "severity") not in LEVELS:
            raise InputError(f"severity must be from 1 to {SEVERITIES}, got {self.severity}")

    @property
    def draws_together(self) -> int:
        return SEVERITIES if self.severity is None else 1

    def check_images(self, x: Tensor) -> None:
        """Corrupts one, so that wrong images, and a library that is not there, are refused."""
        corrupted(x[:1], self.kind, 1, [0])

    def logits(
        self, victim: Victim, x: Tensor, keys: Tensor, ids: Tensor, draw: int, purpose: str
    ) -> Tensor:
        """Logits of one corruption of every image, `[B, K]`."""
        severity = LEVELS[draw % SEVERITIES] if self.severity is None else self.severity
        damaged = corrupted(x, self.kind, severity, keys.tolist())
        return victim.sample(damaged, ids, draw, purpose)


Corruption = EventDrop | SpikeFlip | CommonCorruption
CORRUPTIONS: dict[str, type[Corruption]] = {
    "event-drop": EventDrop,
    "spike-flip": SpikeFlip,
    "common": CommonCorruption,
}


def corruption(name: str, options: Mapping[str, Any]) -> Corruption:
    """The corruption that a row names.

    Raises:
        InputError: If its name or an option is not known, or has a wrong value.
    """
    if name not in CORRUPTIONS:
        raise unknown("corruption", name, CORRUPTIONS)
    kind = CORRUPTIONS[name]
    known = tuple(field.name for field in fields(kind))
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    if known[0] not in options:
        raise InputError(f"{name} needs '{known[0]}'")
    return kind(**options)


class Corrupted(Victim):
    """A victim whose every sample is corrupted afresh, by a stream of its own.

    Args:
        victim: The victim.
        damage: The corruption of each sample.
    """

    def __init__(self, victim: Victim, damage: Corruption) -> None:
        super().__init__(victim.net, gradient=victim.gradient, seed=victim.seed)
        self.whole, self.damage = victim, damage

    @torch.no_grad()
    def samples(self, x: Tensor, ids: Tensor, draws: range, purpose: str = "report") -> Tensor:
        seed, at = derive_seed(self.seed, "corruption", purpose), ids.to(x.device)
        each = [
            self.damage.logits(self.whole, x, sample_keys(seed, at, draw), ids, draw, purpose)
            for draw in draws
        ]
        return torch.stack(each)
