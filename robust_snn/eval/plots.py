"""Pictures of verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from robust_snn.errors import missing_extra
from robust_snn.eval.verdict import Verdict


def plot_curves(curves: Mapping[str, Sequence[Verdict]], path: Path) -> None:
    """Draws robust accuracy against eps with its 95 % interval, one curve per model.

    Args:
        curves: Verdicts of each model, by increasing eps.
        path: Where the PNG goes.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "report") from error
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, verdicts in curves.items():
        clean = verdicts[0].clean
        points = [(0.0, clean.accuracy, clean.ci)]
        points += [(v.threat["eps"], v.robust.accuracy, v.robust.ci) for v in verdicts]
        eps, accuracy, intervals = zip(*points, strict=True)
        low, high = zip(*intervals, strict=True)
        (line,) = axes.plot(eps, accuracy, marker="o", label=name)
        axes.fill_between(eps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    first = next(iter(curves.values()))[0]
    axes.set(
        xlabel=f"eps ({first.threat['norm']}, pixels in [0, 1])",
        ylabel="robust accuracy, 95 % interval",
        title=f"{first.data['n']} images of {first.data['name']}, suite {first.suite}",
        ylim=(-0.02, 1.02),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
