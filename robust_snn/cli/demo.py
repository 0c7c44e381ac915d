"""`robust-snn demo`: what attacks claim, what fresh noise says, and the worst case.

Two narrow networks of the package, one deterministic and one with stochastic gates, were trained on
scikit-learn's digits, adversarially, and get the same attacks. Everything lies in one folder, so a
second run continues or repeats it.
"""

from __future__ import annotations

import shlex
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robust_snn.cli import options
from robust_snn.cli.app import app
from robust_snn.cli.console import say, start_logging
from robust_snn.utils.optional_work import if_possible
from robust_snn.utils.user_files import check_output_folder

if TYPE_CHECKING:
    from rich.table import Table

    from robust_snn.eval import Verdict

MODELS = ("snn_vgg5.digits", "snn_vgg5_stog.digits")
EPS = 0.1
CURVE = (0.0, EPS, 2 * EPS)
IMAGES = 48


@app.command(epilog="Example: robust-snn demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo.")] = Path("runs/demo"),
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Attack two small networks on digits. A table shows what attacks claim, and what holds."""
    options.set_threads(threads)
    check_output_folder(out, "the demo")
    _say_what_is_missing()
    say(render_demo(run_demo(out, progress=start_logging(quiet))))
    for page in sorted(out.glob("*/verdict/report.html")):
        say(f"report in {page}")


def _say_what_is_missing() -> None:
    """Says before the work which of its results need a library that is not installed."""
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        say(
            f"{' and '.join(missing)} not installed: there will be no pages and pictures, only the "
            'table; they come with: pip install "robust-snn[report]"'
        )


def run_demo(out: str | Path, *, progress: bool = False) -> dict[str, Verdict]:
    """Attacks both networks, and draws accuracy against eps.

    Args:
        out: Folder for verdicts, a report per network and the picture `accuracy.png`.
        progress: Whether to show progress bars.

    Returns:
        The verdict of each model at `EPS`.
    """
    from robust_snn.data import load_dataset
    from robust_snn.eval import sweep
    from robust_snn.eval.reporting.report_figures import save_robustness_curves
    from robust_snn.foreign import adapt
    from robust_snn.models import zoo

    out = Path(out)
    verdicts, curves = {}, {}
    command = shlex.join(["robust-snn", "demo", "--out", str(out)])
    data = load_dataset("digits", split="test", n=IMAGES)
    for model in MODELS:
        folder = out / model / "verdict"
        verdicts[model], by_axis = sweep(
            adapt(model, pretrained=True),
            data.images,
            data.labels,
            {"eps": CURVE},
            suite="demo",
            out=folder,
            eps=EPS,
            model_info={"name": model, "kwargs": dict(zoo.card(model)["model"]["kwargs"])},
            data_info={"name": data.name, "split": data.split},
            progress=progress,
            report={"command": command, "classes": data.classes},
        )
        curves[model] = by_axis["eps"]
    draw = partial(save_robustness_curves, curves, verdicts[MODELS[0]], out / "accuracy.png")
    if_possible("picture", draw)
    return verdicts


def render_demo(verdicts: dict[str, Verdict]) -> Table:
    """One table of what each attack claims and what fresh noise says."""
    from rich.table import Table

    from robust_snn.eval import load_suite
    from robust_snn.utils.share_texts import percent

    table = Table(
        title=f"{IMAGES} test digits, Linf eps = {EPS:g}; short attacks, for demonstration only",
        caption="claimed: share of the images that the attack says it could not break.\n"
        "measured: accuracy on the same images under fresh noise, and its 95% interval.\n"
        "pgd is ours, apgd-ce and square are AutoAttack's; for square, steps are queries.",
    )
    for column in ("network", "attack", "gradient", "steps", "EOT", "claimed", "measured"):
        table.add_column(column)
    rows = {row.name: row for row in load_suite("demo").attacks}
    for model, verdict in verdicts.items():
        clean = _measured(verdict.clean.accuracy, verdict.clean.ci)
        table.add_row(model, "none", "", "", "", "", clean)
        for attack in verdict.attacks:
            row = rows[attack.name]
            table.add_row(
                "",
                row.attack,
                row.gradient or "",
                str(row.steps),
                str(attack.eot),
                percent(attack.claimed),
                _measured(attack.accuracy, attack.ci),
            )
        worst = _measured(verdict.robust.accuracy, verdict.robust.ci)
        table.add_row("", "worst case", "", "", "", "", worst, style="bold", end_section=True)
    return table


def _measured(accuracy: float, interval: tuple[float, float]) -> str:
    from robust_snn.utils.share_texts import percent, tenths

    return f"{percent(accuracy)} ({'-'.join(tenths(interval))})"
