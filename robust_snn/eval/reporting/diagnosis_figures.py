"""Figures of a masked gradient, on the pages of a diagnosis and of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robust_snn.diagnostics.margin_curve import MarginCurve
from robust_snn.eval.reporting.charts import (
    CLEAN,
    INK,
    LINES,
    ROBUST,
    Chart,
    chart,
    name_rows,
    new_axes,
    percent_axis,
    short_label,
)
from robust_snn.eval.reporting.terminal import radius_text
from robust_snn.gradients import parse_mode

BLACK = "#000000"  # on cells whose colours no page changes


def by_mode(modes: Sequence[str], accuracies: Sequence[float], judged: str = "") -> Chart:
    """Robust accuracy that a short attack with each gradient mode leaves; the judged one is red."""
    figure, axes = new_axes(0.9 + 0.3 * len(modes))
    colours = [ROBUST if mode == judged else CLEAN for mode in modes]
    axes.barh(range(len(modes)), accuracies, 0.7, color=colours)
    for at, accuracy in enumerate(accuracies):
        axes.text(accuracy + 0.01, at, f"{accuracy:.0%}", va="center", fontsize=9)
    told = "; the judged mode is red" if judged in modes else ""
    name_rows(axes, [_brief(mode) for mode in modes], f"robust accuracy{told}")
    axes.set_xlim(0, 1.08)
    rows = list(zip(modes, accuracies, strict=True))
    return chart("modes", figure, ["gradient mode", "robust accuracy"], rows)


def agreement(modes: Sequence[str], cosines: Sequence[Sequence[float | None]]) -> Chart:
    """Cosines of the input gradients under every two modes, as a heat map."""
    figure, axes = new_axes(1.2 + 0.42 * len(modes))
    values = np.array([[np.nan if c is None else c for c in row] for row in cosines], float)
    shades = np.nan_to_num(values, nan=1.0)
    axes.pcolormesh(shades, cmap="RdBu", vmin=-1, vmax=1, edgecolors="none")
    for (row, column), value in np.ndenumerate(values):
        text = "same" if np.isnan(value) else f"{value:.2f}"
        colour = "white" if np.isnan(value) or abs(value) > 0.6 else BLACK
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8, color=colour)
    at = range(len(modes))
    middles = [n + 0.5 for n in at]
    axes.set_yticks(middles, [f"{n + 1}. {_brief(mode)}" for n, mode in enumerate(modes)])
    axes.set_xticks(middles, [str(n + 1) for n in at])
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    rows = [
        (a, b, None if np.isnan(values[i, j]) else values[i, j])
        for i, a in enumerate(modes)
        for j, b in enumerate(modes)
    ]
    return chart("cosines", figure, ["mode", "other mode", "cosine"], rows)


def margin(curve: MarginCurve) -> Chart:
    """The mean margin along the gradient, and what the gradient promises."""
    figure, axes = new_axes(3.2)
    x = curve.distances
    axes.plot(x, curve.along, "o-", color=ROBUST, label="along the gradient, measured", ms=4)
    axes.plot(x, curve.promised, ":", color=INK, label="as the gradient promises")
    axes.plot(x, curve.random, "s-", color=CLEAN, label="along random directions", ms=4)
    low, high = min(*curve.along, *curve.random), max(*curve.along, *curve.random)
    room = 0.25 * (high - low) or 1.0
    axes.set_ylim(low - room, high + room)
    axes.set(xlabel="distance from the images", ylabel="margin of the best other class")
    axes.locator_params(axis="x", nbins=5)  # more would touch
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    head = ["distance", "along", "promised", "random"]
    rows = list(zip(x, curve.along, curve.promised, curve.random, strict=True))
    return chart("margin", figure, head, rows)


def curve(name: str, points: Sequence[tuple[float, float]]) -> Chart:
    """Robust accuracy, or the cosine over draws, by what an attack may do."""
    figure, axes = new_axes(2.6)
    x, y = zip(*points, strict=True)
    places = list(range(len(x))) if name == "eps" else list(x)
    axes.plot(places, y, "o-", color=LINES[0], ms=4)
    if name == "eps":  # its last radius is far from the others
        axes.set_xticks(places, [radius_text(value) for value in x])
    axes.set(xlabel=name, ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    if name == "draws":
        axes.set_ylabel("cosine of two gradients")
    else:
        axes.set_ylabel("robust accuracy")
        percent_axis(axes.yaxis)
    head = [name, "cosine" if name == "draws" else "robust accuracy"]
    return chart(f"check-{name.replace(' ', '-')}", figure, head, points)


def _brief(mode: str) -> str:
    """A mode as a label: `bptt sigmoid` for `bptt(surrogate=sigmoid)`."""
    text = parse_mode(mode).brief
    if "(surrogate=" in text:
        text = text.replace("(surrogate=", " ").removesuffix(")")
    return short_label(text)
