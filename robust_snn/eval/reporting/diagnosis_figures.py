"""Figures of a diagnosis, each as SVG in a data URI."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robust_snn.diagnostics import Diagnosis
from robust_snn.diagnostics.margin_curve import MarginCurve
from robust_snn.eval.reporting.report_figures import (
    CLEAN,
    INK,
    LINES,
    ROBUST,
    figure_uri,
    new_axes,
    percent_axis,
    short_label,
)
from robust_snn.eval.reporting.terminal import radius_text
from robust_snn.gradients import parse_mode


def by_mode(diagnosis: Diagnosis) -> str:
    """Robust accuracy that a short attack with each gradient mode leaves."""
    results = diagnosis.results
    figure, axes = new_axes(0.9 + 0.3 * len(results))
    colours = [ROBUST if r.gradient == diagnosis.gradient else CLEAN for r in results]
    axes.barh(range(len(results)), [r.accuracy for r in results], 0.7, color=colours)
    for at, result in enumerate(results):
        axes.text(result.accuracy + 0.01, at, f"{result.accuracy:.0%}", va="center", fontsize=9)
    axes.set_yticks(range(len(results)), [_brief(r.gradient) for r in results])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("robust accuracy; the judged mode is red")
    percent_axis(axes.xaxis)
    return figure_uri(figure)


def agreement(modes: Sequence[str], cosines: Sequence[Sequence[float | None]]) -> str:
    """Cosines of the input gradients under every two modes, as a heat map."""
    figure, axes = new_axes(1.2 + 0.42 * len(modes))
    values = np.array([[np.nan if c is None else c for c in row] for row in cosines], float)
    axes.imshow(np.nan_to_num(values, nan=1.0), cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = "same" if np.isnan(value) else f"{value:.2f}"
        colour = "white" if np.isnan(value) or abs(value) > 0.6 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    at = range(len(modes))
    axes.set_yticks(at, [f"{n + 1}. {_brief(mode)}" for n, mode in enumerate(modes)])
    axes.set_xticks(at, [str(n + 1) for n in at])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure_uri(figure)


def margin(curve: MarginCurve) -> str:
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
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return figure_uri(figure)


def curve(name: str, points: Sequence[tuple[float, float]]) -> str:
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
    return figure_uri(figure)


def _brief(mode: str) -> str:
    """A mode as a label: `bptt sigmoid` for `bptt(surrogate=sigmoid)`."""
    return short_label(parse_mode(mode).brief.replace("(surrogate=", " ").rstrip(")"))
