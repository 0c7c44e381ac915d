"""The unit of work: one attack on one shard of images, and how shards add up to a worst case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from robust_snn.eval.scoring.noise_draws import harder


@dataclass(frozen=True)
class ShardResult:
    """One attack on one shard, or the clean images of a shard. `A` is the number of attacked
    images.

    Attributes:
        positions: Rows of the shard that were attacked, `[A]`.
        images: The adversarial images, float32 `[A, C, H, W]`; empty for the clean images.
        select: Accuracy on the select draws, `[A]`.
        margin: Margin on the select draws, `[A]`.
        predictions: Answers on the report draws, `[A, report]`.
        claimed_robust: What the attack itself takes for robust, `[A]`.
        forwards: Images passed forwards by the attack.
        backwards: Images passed backwards by the attack.
        seconds: Time, scoring included.
        warnings: What the library complained about.
    """

    positions: np.ndarray
    images: np.ndarray
    select: np.ndarray
    margin: np.ndarray
    predictions: np.ndarray
    claimed_robust: np.ndarray
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    @classmethod
    def join(cls, parts: Sequence[ShardResult]) -> ShardResult:
        """The piece that smaller batches make together."""
        values: dict[str, Any] = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)
            if f.name not in ("forwards", "backwards", "seconds", "warnings")
        }
        for name in ("forwards", "backwards", "seconds"):
            values[name] = sum(getattr(part, name) for part in parts)
        values["warnings"] = tuple(text for part in parts for text in part.warnings)
        return cls(**values)

    def arrays(self) -> dict[str, np.ndarray]:
        """The piece as named arrays, to be stored."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> ShardResult:
        """The piece that `arrays` describe.

        Raises:
            KeyError: If one is missing.
        """
        values: dict[str, Any] = {f.name: arrays[f.name] for f in fields(cls)}
        values |= {key: int(values[key]) for key in ("forwards", "backwards")}
        values["seconds"] = float(values["seconds"])
        values["warnings"] = tuple(map(str, values["warnings"]))
        return cls(**values)


class WorstCase:
    """The worst version met so far of every image in a shard.

    The select draws decide: fewest correct draws first, then the smaller margin. The clean image is
    a version like any other, so an attack never helps. An image without a correct select draw is
    broken and not attacked again.

    Attributes:
        select: Accuracy of the worst version on the select draws, `[n]`.
        margin: Its margin there, `[n]`.
        predictions: Its answers on the report draws, `[n, report]`.
        by: Row of the suite that made it, `[n]`; -1 where the clean image is the worst.
    """

    def __init__(self, clean: ShardResult) -> None:
        self.select = clean.select.copy()
        self.margin = clean.margin.copy()
        self.predictions = clean.predictions.copy()
        self.by = np.full(len(clean.select), -1, np.int16)

    @property
    def robust_so_far(self) -> np.ndarray:
        """Rows that are not broken."""
        return np.flatnonzero(self.select > 0)

    @property
    def all(self) -> np.ndarray:
        """All rows."""
        return np.arange(len(self.select))

    def update(self, piece: ShardResult, row: int = 0) -> np.ndarray:
        """Takes in an attack, which is a row of the suite.

        Returns:
            The report answers of the shard under this attack, `[n, report]`. Images that it did not
            attack, being broken, stand as the worst version so far.
        """
        at = piece.positions
        alone = self.predictions.copy()
        alone[at] = piece.predictions
        worse = harder(piece.select, piece.margin, self.select[at], self.margin[at])
        self.select[at[worse]] = piece.select[worse]
        self.margin[at[worse]] = piece.margin[worse]
        self.predictions[at[worse]] = piece.predictions[worse]
        self.by[at[worse]] = row
        return alone
