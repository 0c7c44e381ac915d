"""The unit of work, one attack on one shard of images, and the worst case over attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from robust_snn.eval.scoring.noise_draws import harder


@dataclass(frozen=True)
class ShardResult:
    """One attack on one shard, or the clean images of a shard, both scored.

    `A` is the number of attacked images; for the clean images it is all of them.

    Attributes:
        positions: Rows of the shard that were attacked, `[A]`.
        images: The adversarial images, float32 `[A, C, H, W]`; empty for the clean images, and
            where the result was read.
        select: Accuracy on the select draws, `[A]`.
        margin: Margin on the select draws, `[A]`.
        predictions: Predicted classes on the report draws, `[A, report]`.
        tied: Whether the label has the best logit there and another class too, bool `[A, report]`.
        claimed_robust: Which images the attack says it did not break, bool `[A]`.
        forwards: Images passed forwards by the attack.
        backwards: Images passed backwards by the attack.
        seconds: Time, scoring included.
        warnings: Warnings of the attack's library.
        costs: Joules, spike operations and steps of an inference, `[A, 3]`, if they are measured.
        device: Name of what it was computed on; "" where it was made before that was kept.
    """

    positions: np.ndarray
    images: np.ndarray
    select: np.ndarray
    margin: np.ndarray
    predictions: np.ndarray
    tied: np.ndarray
    claimed_robust: np.ndarray
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    costs: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    device: str = ""

    @classmethod
    def join(cls, parts: Sequence[ShardResult]) -> ShardResult:
        """The result of a shard that was attacked in smaller batches."""
        if len(parts) == 1:
            return parts[0]
        values: dict[str, Any] = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)
            if f.name not in ("forwards", "backwards", "seconds", "warnings", "device")
        }
        for name in ("forwards", "backwards", "seconds"):
            values[name] = sum(getattr(part, name) for part in parts)
        values["warnings"] = tuple(text for part in parts for text in part.warnings)
        return cls(**values, device=parts[0].device)

    def arrays(self) -> dict[str, np.ndarray]:
        """The fields as arrays by name, to be stored, without the images."""
        named = (f.name for f in fields(self) if f.name != "images")
        return {name: np.asarray(getattr(self, name)) for name in named}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> ShardResult:
        """The result that was stored as `arrays`.

        Raises:
            KeyError: If one is missing.
            ValueError: If one is no number that should be.
        """
        apart = ("images", "device")
        values: dict[str, Any] = {
            f.name: arrays[f.name] for f in fields(cls) if f.name not in apart
        }
        values["device"] = str(arrays.get("device", ""))
        values |= {key: int(values[key]) for key in ("forwards", "backwards")}
        values["seconds"] = float(values["seconds"])
        values["warnings"] = tuple(map(str, values["warnings"]))
        return cls(**values, images=np.empty(0, np.float32))

    def flaw(
        self, positions: np.ndarray, select: int, report: int, classes: int | None
    ) -> str | None:
        """What cannot be in a result for these images, draws and classes, if something is."""
        count = len(positions)
        shapes = {
            "select": (count,),
            "margin": (count,),
            "predictions": (count, report),
            "tied": (count, report),
            "claimed_robust": (count,),
        }
        kinds = {"select": "f", "margin": "f", "predictions": "i"}
        for name, shape in shapes.items():
            array, kind = getattr(self, name), kinds.get(name, "b")
            if array.shape != shape or array.dtype.kind != kind:
                return f"{name} is {array.dtype} {array.shape}, expected {shape}"
        if not np.array_equal(self.positions, positions):
            return "it is of other images"
        hits = self.select * select
        if (
            not (np.abs(hits - hits.round()) < 1e-6).all()
            or not np.isin(hits.round(), np.arange(select + 1)).all()
        ):
            return "select is no share of the draws"
        if self.costs.shape not in ((0, 3), (count, 3)) or not np.isfinite(self.costs).all():
            return f"costs are {self.costs.shape} or not finite"
        if not np.isfinite(self.margin).all():
            return "margin is not finite"
        most = np.inf if classes is None else classes - 1
        if not ((self.predictions >= 0) & (self.predictions <= most)).all():
            return "predictions are no classes"
        numbers = (self.forwards, self.backwards, self.seconds)
        return None if all(0 <= n < np.inf for n in numbers) else "a cost is negative"


@dataclass(frozen=True)
class FinishedShard:
    """All results of one shard, without the adversarial images.

    Attributes:
        clean: The clean images.
        attacks: One per attack of the suite; None where no image was left to attack, or the attack
            was dropped.
    """

    clean: ShardResult
    attacks: tuple[ShardResult | None, ...]


class WorstCase:
    """The worst version so far of every image in a shard.

    The select draws decide: fewest correct draws first, then the smaller margin. The clean image is
    a version like any other, so an attack never helps.

    Args:
        clean: The result on the clean images, `n` of them.

    Attributes:
        select: Accuracy of the worst version on the select draws, `[n]`.
        margin: Its margin there, `[n]`.
        predictions: Its predicted classes on the report draws, `[n, report]`.
        tied: Whether the label and another class have the best logit there, bool `[n, report]`.
        by: Row of the suite that made it, `[n]`; -1 where the clean image is the worst.
    """

    def __init__(self, clean: ShardResult) -> None:
        self.select = clean.select.copy()
        self.margin = clean.margin.copy()
        self.predictions = clean.predictions.copy()
        self.tied = clean.tied.copy()
        self.by = np.full(len(clean.select), -1, np.int16)

    def unbroken(self, share: float) -> np.ndarray:
        """Positions of the images that are right in more than a share of the select draws."""
        return np.flatnonzero(self.select > share)

    @property
    def positions(self) -> np.ndarray:
        """Positions of all images."""
        return np.arange(len(self.select))

    def update(self, result: ShardResult, row: int = 0) -> np.ndarray:
        """Takes an attack into the worst case.

        Args:
            result: What the attack made of the images at `result.positions`.
            row: Its row of the suite.

        Returns:
            Predictions on the report draws under this attack alone, `[n, report]`; for images that
            it did not attack, because they were broken, those of the worst case before it.
        """
        at = result.positions
        alone = self.predictions.copy()
        alone[at] = result.predictions
        worse = harder(result.select, result.margin, self.select[at], self.margin[at])
        self.select[at[worse]] = result.select[worse]
        self.margin[at[worse]] = result.margin[worse]
        self.predictions[at[worse]] = result.predictions[worse]
        self.tied[at[worse]] = result.tied[worse]
        self.by[at[worse]] = row
        return alone
