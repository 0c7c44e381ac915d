"""The picture of several models' robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.eval.sweep import Point
from robust_snn.utils.figures import new_figure


def plot_curves(curves: Mapping[str, Sequence[Point]], about: Verdict, path: Path) -> None:
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
        (line,) = axes.plot(eps, [p.robust.accuracy for p in points], marker="o", label=name)
        axes.fill_between(eps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(
        xlabel=f"eps ({about.threat['norm']}, pixels in [0, 1])",
        ylabel="robust accuracy, 95% interval",
        title=f"{about.data['n']} images of {about.data['name']}, suite {about.suite}",
        ylim=(-0.02, 1.02),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
