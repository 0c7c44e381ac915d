"""Figures of a report, one PNG of a demo, and pictures of images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from robust_snn.eval.reporting.charts import (
    CLEAN,
    GRID,
    INK,
    LINES,
    MARKS,
    PAPER,
    ROBUST,
    Chart,
    chart,
    legend_above,
    name_rows,
    new_axes,
    percent_axis,
    short_label,
)
from robust_snn.eval.reporting.terminal import radius_text
from robust_snn.eval.scoring.curves import CurvePoint
from robust_snn.eval.scoring.intervals import Estimate
from robust_snn.eval.scoring.verdict import Interval, Verdict
from robust_snn.gradients import parse_mode
from robust_snn.utils.figures import new_figure, save_figure

MOST_CLASSES = 20


def attacks(verdict: Verdict) -> Chart:
    """Accuracy without attack, under or after every attack, and in the worst case.

    An attack that met all images stands alone, with what it claims; of another one, its hollow dot
    is what is left after it and those above.
    """
    clean = verdict.clean
    rows: list[tuple[str, float, Interval, float | None, bool]]
    rows = [("no attack", clean.accuracy, clean.ci, None, True)]
    for attack in verdict.attacks:
        alone = verdict.is_alone(attack)
        value, ci = (attack.accuracy, attack.ci) if alone else attack.worst_so_far
        rows.append((attack.name, value, ci, attack.claimed if alone else None, alone))
    rows += [("worst case", verdict.robust.accuracy, verdict.robust.ci, None, True)]
    figure, axes = new_axes(0.9 + 0.34 * len(rows))
    known: set[str] = set()

    def first(text: str) -> str | None:
        fresh = text not in known
        known.add(text)
        return text if fresh else None

    for at, (_, value, (low, high), claimed, alone) in enumerate(rows):
        colour = ROBUST if at == len(rows) - 1 else CLEAN
        axes.plot([low, high], [at, at], color=colour, linewidth=5, alpha=0.3)
        label = first("measured" if alone else "after the attacks above")
        axes.plot([value], [at], "o", color=colour, label=label, mfc=None if alone else PAPER)
        if claimed is not None:
            label = first("claimed by the attack")
            axes.plot([claimed], [at], "x", color=INK, label=label)
    labels = [short_label(name) for name, *_ in rows]
    name_rows(axes, labels, "accuracy; bars are 95% intervals")
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="x", alpha=0.3)
    legend_above(figure, 3)
    head = ["attack", "accuracy", "low", "high", "claimed", "met all images"]
    table = [(name, value, *ci, claimed, alone) for name, value, ci, claimed, alone in rows]
    return chart("attacks", figure, head, table)


def spending(verdict: Verdict) -> Chart:
    """What is left after every attack, over the passes that were spent by then."""
    images = verdict.data["n"]
    passes = [(row.forwards + row.backwards) / images for row in verdict.attacks]
    spent = [0.0, *accumulate(passes)]
    clean = Estimate(verdict.clean.accuracy, verdict.clean.ci)
    left = [clean, *(Estimate(*row.worst_so_far) for row in verdict.attacks)]
    figure, axes = new_axes(3.0)
    low, high = np.array([estimate.ci for estimate in left]).T
    axes.plot(spent, [estimate.value for estimate in left], "o-", color=ROBUST, ms=4)
    axes.fill_between(spent, low, high, color=ROBUST, alpha=0.2, linewidth=0)
    axes.set(xlabel="passes per image, all attacks so far", ylabel="accuracy", ylim=(-0.02, 1.02))
    percent_axis(axes.yaxis)
    axes.grid(alpha=0.3)
    names = ["none", *(row.name for row in verdict.attacks)]
    rows = [(n, s, e.value, *e.ci) for n, s, e in zip(names, spent, left, strict=True)]
    return chart("passes", figure, ["after", "passes per image", "accuracy", "low", "high"], rows)


def curve(axis: str, points: Sequence[CurvePoint]) -> Chart:
    """Accuracy along an axis of a sweep: worst case and every attack, with intervals."""
    figure, axes = new_axes(3.7)
    numeric = axis != "gradient"
    at = [float(point.value) for point in points] if numeric else list(range(len(points)))
    words = {"eot": "noise draws"}.get(axis, axis)
    if axis == "eps" and all("/" in radius_text(value) or value == 0 for value in at):
        at, words = [value * 255 for value in at], "eps × 255"
    names = [name for name in points[0].attacks if all(name in p.attacks for p in points)]
    series = [("worst case", ROBUST, [point.robust for point in points])]
    if len(names) > 1:
        series += [
            (name, LINES[n % len(LINES)], [p.attacks[name] for p in points])
            for n, name in enumerate(names)
        ]
    for number, (name, colour, estimates) in enumerate(series):
        low, high = np.array([estimate.ci for estimate in estimates]).T
        shift = 0 if numeric else 0.08 * (number - (len(series) - 1) / 2)
        x = [value + shift for value in at]
        axes.plot(
            x,
            [estimate.value for estimate in estimates],
            f"{MARKS[number % len(MARKS)]}{'-' if numeric else ''}",
            linewidth=2.5 if number == 0 else 1.3,  # the worst case before all others
            zorder=3 if number == 0 else 2,
            color=colour,
            label=short_label(name),
            markersize=5,
        )
        if numeric and number == 0:
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        elif not numeric:
            axes.vlines(x, low, high, color=colour, alpha=0.5)
    if not numeric:
        axes.set_xlim(-0.5, len(points) - 0.5)
        axes.set_xticks(at, [short_label(parse_mode(str(p.value)).brief) for p in points])
    axes.set(xlabel=words, ylabel="accuracy", ylim=(-0.02, 1.02))
    percent_axis(axes.yaxis)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    table = [
        (point.value, name, estimate.value, *estimate.ci)
        for name, _, estimates in series
        for point, estimate in zip(points, estimates, strict=True)
    ]
    return chart(f"over-{axis}", figure, [axis, "attack", "accuracy", "low", "high"], table)


def classes(names: Sequence[str], clean: Sequence[Estimate], robust: Sequence[Estimate]) -> Chart:
    """Accuracy by class, without attack and in the worst case; of many, the extremes."""
    figure, axes = new_axes(0.9 + 0.34 * len(names))
    at = np.arange(len(names))
    series = ((clean, CLEAN, "no attack", -0.19), (robust, ROBUST, "worst case", 0.19))
    for estimates, colour, label, shift in series:
        values = [estimate.value for estimate in estimates]
        low, high = np.array([estimate.ci for estimate in estimates]).T
        axes.barh(at + shift, values, 0.34, color=colour, label=label)
        axes.hlines(at + shift, low, high, color=INK, linewidth=1)
    name_rows(axes, [short_label(name) for name in names], "accuracy; lines are 95% intervals")
    axes.set_xlim(0, 1.02)
    legend_above(figure, 2)
    rows = [
        (name, label, estimate.value, *estimate.ci)
        for estimates, _, label, _ in series
        for name, estimate in zip(names, estimates, strict=True)
    ]
    return chart("classes", figure, ["class", "images", "accuracy", "low", "high"], rows)


def activity(layers: Sequence[str], clean: Sequence[float], attacked: Sequence[float]) -> Chart:
    """Firing rate by layer, on clean and on attacked images."""
    figure, axes = new_axes(2.8)
    from matplotlib.ticker import MaxNLocator

    at = np.arange(1, len(layers) + 1)
    axes.plot(at, clean, "o-", color=CLEAN, label="clean images")
    axes.plot(at, attacked, "s--", color=ROBUST, label="attacked images")
    axes.set(xlabel="spiking layer", ylabel="spikes per neuron and step")
    axes.set_ylim(0, 1.1 * max([*clean, *attacked, 1e-9]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    rows = list(zip(layers, clean, attacked, strict=True))
    return chart("rates", figure, ["layer", "clean", "attacked"], rows)


def rasters(spikes: np.ndarray, layers: np.ndarray) -> Chart:
    """Spikes of the same neurons on an image and on its attacked version.

    Args:
        spikes: `[2, R, T]`, clean and attacked.
        layers: Number of the layer of every neuron, ascending, `[R]`.
    """
    figure, axes = new_axes(1.2 + 0.035 * len(layers))
    only = (spikes[0] & ~spikes[1], spikes[1] & ~spikes[0], spikes.all(0))
    kinds = (("clean only", CLEAN), ("attacked only", ROBUST), ("both", GRID))
    for (label, colour), fired in zip(kinds, only, strict=True):
        row, step = np.nonzero(fired)
        x = np.stack([step + 0.7, step + 1.3, np.full(len(step), np.nan)], 1).ravel()  # one path
        axes.plot(x, row.repeat(3), "-", color=colour, label=label, linewidth=1.8)
    for edge in np.flatnonzero(np.diff(layers)):
        axes.axhline(edge + 0.5, color=GRID, linewidth=0.8)
    middles = [float(np.flatnonzero(layers == layer).mean()) for layer in np.unique(layers)]
    axes.set_yticks(middles, [str(layer) for layer in np.unique(layers)])
    axes.tick_params(axis="y", length=0)
    axes.set_xticks(range(1, spikes.shape[2] + 1))
    axes.set_xlim(0.5, spikes.shape[2] + 0.5)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set(xlabel="time step", ylabel="neurons, by spiking layer")
    legend_above(figure, 3)
    rows = [
        (int(layers[row]), int(row), int(step) + 1, *map(int, spikes[:, row, step]))
        for row, step in np.argwhere(spikes.any(0))
    ]
    return chart("raster", figure, ["layer", "neuron", "step", "clean", "attacked"], rows)


def save_robustness_curves(
    curves: Mapping[str, Sequence[CurvePoint]], about: Verdict, path: Path
) -> None:
    """Draws robust accuracy against eps with its 95 % interval, one curve per model.

    Args:
        curves: Points over eps by model.
        about: A verdict, for the words around the curves.
        path: Where the PNG goes.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    for name, points in curves.items():
        eps = [point.value for point in points]
        low, high = zip(*(point.robust.ci for point in points), strict=True)
        (line,) = axes.plot(eps, [p.robust.value for p in points], marker="o", label=name)
        axes.fill_between(eps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(
        xlabel=f"eps ({about.threat['norm']}, pixels in [0, 1])",
        ylabel="robust accuracy, 95% interval",
        title=f"{about.data['n']} images of {about.data['name']}, suite {about.suite}",
        ylim=(-0.02, 1.02),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path, dpi=150)


def picture(image: np.ndarray) -> str:
    """An image `[C, H, W]` in [0, 1] as a PNG of its own size, in a data URI.

    Two channels, the polarities of events, become red and blue.
    """
    from PIL import Image

    shade = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    if len(shade) == 2:
        shade = np.stack([shade[0], np.zeros_like(shade[0]), shade[1]])
    shade = shade[0] if len(shade) == 1 else shade[:3].transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(shade).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
