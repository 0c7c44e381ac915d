"""Figures that need no display, for everything that draws."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robust_snn.utils.atomic_files import write_whole
from robust_snn.utils.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, extra: str = "report") -> Figure:
    """An empty figure of some inches.

    Raises:
        ImportError: If matplotlib is not installed; it names the extra that has it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", extra) from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Writes a figure in the format that the suffix of its path says, whole or not at all."""
    form = path.suffix.removeprefix(".") or "png"
    write_whole(path, lambda file: figure.savefig(file, format=form, dpi=dpi))
