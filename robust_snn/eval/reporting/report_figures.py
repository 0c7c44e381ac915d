"""Figures of reports: SVG in a data URI, which needs no file beside the page, and one PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_snn.eval.reporting.terminal import radius_text
from robust_snn.eval.scoring.curves import CurvePoint
from robust_snn.eval.scoring.verdict import Interval, Verdict
from robust_snn.gradients import parse_mode
from robust_snn.utils.errors import missing_extra
from robust_snn.utils.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, CLEAN, ROBUST = "#1f2933", "#2f6db3", "#b3451f"
LINES = ("#2f6db3", "#2e7d4f", "#8a5300", "#7a4fa3", "#00798c", "#a12a5e", "#5c6670")
MARKS = "os^Dv<>P"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "robust_snn",
}
FIGURE_WIDTH = 5.6  # inches; still readable when a phone shrinks it
MOST_CLASSES = 20
LONGEST = 22  # letters of a label


def attacks(verdict: Verdict) -> str:
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
        axes.plot([value], [at], "o", color=colour, label=label, mfc=None if alone else "white")
        if claimed is not None:
            label = first("claimed by the attack")
            axes.plot([claimed], [at], "x", color=INK, label=label)
    axes.set_yticks(range(len(rows)), [short_label(name) for name, *_ in rows])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("accuracy; bars are 95% intervals")
    percent_axis(axes.xaxis)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return figure_uri(figure)


def curve(axis: str, points: Sequence[CurvePoint]) -> str:
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
        colours = [LINES[n % len(LINES)] for n in range(len(names))]
        series += [
            (name, colour, [p.attacks[name] for p in points])
            for name, colour in zip(names, colours, strict=True)
        ]
    for number, (name, colour, estimates) in enumerate(series):
        values = np.array([estimate.value for estimate in estimates])
        low, high = np.array([estimate.ci for estimate in estimates]).T
        form = f"{MARKS[number % len(MARKS)]}{'-' if numeric else ''}"
        width, order = (2.5, 3) if number == 0 else (1.3, 2)
        shift = 0 if numeric else 0.08 * (number - (len(series) - 1) / 2)
        x = [value + shift for value in at]
        axes.plot(
            x,
            values,
            form,
            linewidth=width,
            zorder=order,
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
    return figure_uri(figure)


def classes(names: Sequence[str], clean: Sequence[float], robust: Sequence[float]) -> str:
    """Accuracy by class, without attack and in the worst case; of many, the extremes."""
    figure, axes = new_axes(0.9 + 0.3 * len(names))
    at = np.arange(len(names))
    axes.barh(at - 0.19, clean, 0.36, color=CLEAN, label="no attack")
    axes.barh(at + 0.19, robust, 0.36, color=ROBUST, label="worst case")
    axes.set_yticks(at, [short_label(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("accuracy")
    percent_axis(axes.xaxis)
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return figure_uri(figure)


def activity(layers: Sequence[str], clean: Sequence[float], attacked: Sequence[float]) -> str:
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
    return figure_uri(figure)


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
    return _data("image/png", buffer.getvalue())


def new_axes(height: float) -> tuple[Figure, Axes]:
    """A figure of a page, so many inches high, and its axes."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "report") from error
    with rc_context(STYLE):
        figure = Figure(figsize=(FIGURE_WIDTH, height), layout="constrained")
        return figure, figure.subplots()


def figure_uri(figure: Figure) -> str:
    """A figure as SVG in a data URI."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return _data("image/svg+xml", buffer.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def percent_axis(axis: Any) -> None:
    """Shows shares on an axis as percentages."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def short_label(text: str) -> str:
    """Text that leaves room for the data, and that matplotlib does not read as mathematics."""
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return short.replace("$", r"\$")
