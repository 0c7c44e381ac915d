"""What a report shows beyond the verdict: the record that the end of a run saves.

The results in a run's folder hold no labels, and its configuration no weights. So the end of a run,
which has both, measures what a page will show later and saves it as `evidence.npz`;
`report_measures` measures.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from robust_snn.diagnostics.margin_curve import MarginCurve
from robust_snn.utils.checked_files import read_arrays, write_arrays
from robust_snn.utils.errors import InputError

REPORT_DATA_FILE = "evidence.npz"


@dataclass(frozen=True)
class Pictures:
    """Images with one attacked version each. `G` images.

    Attributes:
        ids: Index in the evaluated set, `[G]`.
        clean: `[G, C, H, W]`.
        adversarial: The version that an attack found, `[G, C, H, W]`.
        answers: The class that the victim predicts most often for that version, `[G]`.
        attacks: Number of the attack in the suite, `[G]`; -1 where no attack changed the image.
    """

    ids: np.ndarray
    clean: np.ndarray
    adversarial: np.ndarray
    answers: np.ndarray
    attacks: np.ndarray

    @classmethod
    def none(cls) -> Pictures:
        """No pictures."""
        images = np.empty((0, 1, 1, 1), np.float32)
        return cls(np.array([], int), images, images, np.array([], int), np.array([], int))


@dataclass(frozen=True)
class Raster:
    """Spikes of some neurons on one image and on its attacked version, under the same noise.

    Attributes:
        image: Index in the evaluated set; -1 where nothing was recorded.
        spikes: Whether a neuron fired, clean and attacked, bool `[2, R, T]`.
        layers: Number of every neuron's spiking layer, from 1 on, ascending, `[R]`.
    """

    image: int
    spikes: np.ndarray
    layers: np.ndarray

    @classmethod
    def none(cls) -> Raster:
        """No record."""
        return cls(-1, np.empty((2, 0, 0), bool), np.array([], int))


@dataclass(frozen=True)
class Masking:
    """What shows a masked gradient. Everything may be missing.

    Attributes:
        gradient: The gradient mode of `margin`, `steps` and `draws`.
        margin: Distances and the three curves of a `MarginCurve`, `[4, P]`.
        steps: Steps, and robust accuracy on the images that were sampled, `[2, P]`.
        draws: Draws, and the cosine of two gradients of so many, `[2, P]`.
        tried: Gradient modes that the choice of an adaptive suite's attacks tried.
        tried_accuracies: Robust accuracy that a short attack with each leaves.
        tried_images: Number of images of them, none of which is scored.
    """

    gradient: str
    margin: np.ndarray
    steps: np.ndarray
    draws: np.ndarray
    tried: np.ndarray
    tried_accuracies: np.ndarray
    tried_images: int

    @classmethod
    def none(cls) -> Masking:
        """Nothing was measured."""
        none = np.empty((2, 0))
        return cls("", np.empty((4, 0)), none, none, np.array([], str), np.empty(0), 0)

    @property
    def margin_curve(self) -> MarginCurve | None:
        """The margin along the gradient, where it was measured."""
        return MarginCurve(*map(tuple, self.margin.tolist())) if self.margin.size else None


PARTS = {"pictures": Pictures, "survivors": Pictures, "raster": Raster, "masking": Masking}


@dataclass(frozen=True)
class ReportData:
    """What a report shows of a run. `N` images, `L` layers, `M` gradient modes.

    Attributes:
        labels: `[N]`.
        clean: Share of the report draws that are right, without an attack, `[N]`.
        robust: The same for the worst version, `[N]`.
        pictures: Broken images, those of the first attacks first.
        survivors: Images that no attack broke, those nearest to it first.
        raster: Spikes on one image.
        masking: What shows a masked gradient.
        layers: Names of the spiking layers, `[L]`; empty where no neuron is ours.
        rates: Spikes per neuron and step, on clean and on attacked images, `[2, L]`.
        costs: Spikes, spike operations, multiplications and joules per image, on clean and on
            attacked images, `[2, 4]`.
        modes: Gradient modes, `[M]`; those that reach no neuron are `own`, all together.
        cosines: Mean cosine of the input gradients under every two modes, `[M, M]`; NaN where they
            are bitwise the same.
        sampled: Images that activity and gradients are measured on.
        missing: What could not be measured, and why, `[_, 2]`.
    """

    labels: np.ndarray
    clean: np.ndarray
    robust: np.ndarray
    pictures: Pictures
    survivors: Pictures
    raster: Raster
    masking: Masking
    layers: np.ndarray
    rates: np.ndarray
    costs: np.ndarray
    modes: np.ndarray
    cosines: np.ndarray
    sampled: int
    missing: np.ndarray

    def save(self, path: Path, address: str = "") -> None:
        """Writes it, whole or not at all, with the address of its run."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in PARTS}
        for name, kind in PARTS.items():
            part = getattr(self, name)
            arrays |= {f"{name}.{f.name}": getattr(part, f.name) for f in fields(kind)}
        write_arrays(path, {**arrays, "address": address})

    @classmethod
    def load(cls, path: Path, address: str | None = None) -> ReportData | None:
        """Reads it; None where there is none, as after older runs, or of those in `address`.

        Args:
            path: The file.
            address: Of the run that it must belong to, if that is known; a run that grows gets
                another one.

        Raises:
            InputError: If the file is damaged.
        """
        try:
            values: dict[str, Any] = read_arrays(path, digested=address is not None)
            if address is None:  # a page of a finished run, perhaps of an earlier version
                values = {**_earlier(), **values}
            if address is not None and str(values["address"]) != address:
                return None
            rest = {f.name: values[f.name] for f in fields(cls) if f.name not in PARTS}
            parts = {name: _part(kind, name, values) for name, kind in PARTS.items()}
            return cls(**parts, **{**rest, "sampled": int(rest["sampled"])})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot read '{path}': {error}; start the run again") from None


def _earlier() -> dict[str, Any]:
    """What the records of earlier versions have not got."""
    found: dict[str, Any] = {}
    for name, part in (
        ("survivors", Pictures.none()),
        ("raster", Raster.none()),
        ("masking", Masking.none()),
    ):
        found |= {f"{name}.{f.name}": getattr(part, f.name) for f in fields(part)}
    return {**found, "missing": np.array([["The rest", "an earlier version made this run"]])}


def _part(kind: type[Any], name: str, values: dict[str, Any]) -> Any:
    plain: dict[str, Any] = {"int": int, "str": str}
    return kind(
        **{
            f.name: plain.get(str(f.type), np.asarray)(values[f"{name}.{f.name}"])
            for f in fields(kind)
        }
    )
