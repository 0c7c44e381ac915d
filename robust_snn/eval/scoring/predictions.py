"""The predictions behind a verdict, image by image: `results.npz` beside `verdict.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from robust_snn.utils.checked_files import DamagedFile, read_arrays, write_arrays
from robust_snn.utils.errors import InputError
from robust_snn.utils.places import place

NAME = "results.npz"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted classes on the report draws, for every image in order.

    Attributes:
        labels: `[N]`.
        clean: Those on the clean images, `[N, report]`.
        worst: Those on the worst version of every image, `[N, report]`.
        by: Row of the suite that made the worst version, `[N]`; -1 where the clean image is worst.
        attacks: Those under each attack alone, `[attacks, N, report]`.
    """

    labels: np.ndarray
    clean: np.ndarray
    worst: np.ndarray
    by: np.ndarray
    attacks: np.ndarray

    def save(self, folder: Path) -> None:
        """Writes them into the folder of their run, whole or not at all."""
        write_arrays(folder / NAME, asdict(self), compressed=True)

    def check(self) -> None:
        """Raises `ValueError` unless shapes and values fit each other."""
        count = len(self.labels)
        draws = self.clean.shape[1:]
        rows = len(self.attacks)
        shapes = {
            "labels": (count,),
            "clean": (count, *draws),
            "worst": (count, *draws),
            "by": (count,),
            "attacks": (rows, count, *draws),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype.kind not in "iu" or len(draws) != 1:
                raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {shape}")
            if array.size and array.min() < (-1 if name == "by" else 0):
                raise ValueError(f"{name} holds {array.min()}")
        if not count or not draws[0] or (self.by >= rows).any():
            raise ValueError("there are no images or draws, or attacks that are not there")

    @classmethod
    def load(cls, folder: str | Path) -> Predictions:
        """Reads the predictions of a finished run.

        Raises:
            InputError: If the folder has none that can be read.
        """
        path = place(folder) / NAME
        try:
            arrays = read_arrays(path, digested=False)
            found = cls(**{f.name: arrays[f.name] for f in fields(cls)})
            found.check()
            return found
        except FileNotFoundError:
            raise InputError(
                f"'{folder}' has no {NAME}; give the folder of a finished run"
            ) from None
        except (DamagedFile, KeyError, ValueError):
            raise InputError(
                f"'{path}' is damaged; delete it and start the evaluation again to restore it"
            ) from None
