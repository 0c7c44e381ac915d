"""Pages of the site that the program itself knows: its commands, suites, recipes, modes, models."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

Row = tuple[str, str]


def pages() -> dict[str, str]:
    """The text of every page in Markdown, by its address."""
    return {
        "reference/commands.md": _commands(),
        "reference/names.md": _names(),
        "reference/models.md": _models(),
        **{f"reference/api/{name}.md": _api(title, places) for name, title, places in API},
    }


API = (  # address, title, and what is shown there
    ("robust_snn", "robust_snn", ("robust_snn.foreign.adapt", "robust_snn.victim.Victim")),
    ("eval", "robust_snn.eval", ("robust_snn.eval.evaluate", "robust_snn.eval.sweep")),
    ("suites", "Suites", ("robust_snn.eval.protocol.suite",)),
    ("verdict", "The verdict", ("robust_snn.eval.scoring.verdict",)),
    ("diagnostics", "robust_snn.diagnostics", ("robust_snn.diagnostics.diagnosis",)),
    ("attacks", "robust_snn.attacks", ("robust_snn.attacks.gradient_descent",)),
    ("neurons", "robust_snn.neurons", ("robust_snn.neurons",)),
    ("gradients", "robust_snn.gradients", ("robust_snn.gradients.modes",)),
    (
        "adapters",
        "robust_snn.adapters",
        ("robust_snn.adapters.art", "robust_snn.adapters.autoattack"),
    ),
    ("errors", "Errors", ("robust_snn.utils.errors",)),
)


def _api(title: str, places: Iterable[str]) -> str:
    return f"# {title}\n\n" + "\n".join(f"::: {place}\n" for place in places)


def _commands() -> str:
    import typer.main

    from robust_snn.cli.app import app

    group: Any = typer.main.get_command(app)
    text = (
        "# Commands\n\nA command ends with 0 if it is done, with 2 after wrong input, with 1 "
        "otherwise; `diagnose` with 3 where a check fails, `verify` where it refuses. "
        "The same command resumes a killed run.\n"
    )
    for name in sorted(group.commands):
        command = group.commands[name]
        with group.make_context("robust-snn", [name], resilient_parsing=True) as above:
            context = command.context_class(command, info_name=name, parent=above)
            context.max_content_width = 100
            text += f"\n## robust-snn {name}\n\n```text\n{command.get_help(context)}\n```\n"
    return text


def _names() -> str:
    from robust_snn.attacks.registry import ATTACKS, EVENT_ATTACKS
    from robust_snn.eval.protocol.suite_files import shipped_suites
    from robust_snn.gradients import MODES, SURROGATES

    suites = files("robust_snn.eval.protocol") / "suites"
    recipes = files("robust_snn.training") / "recipes"
    recipe_names = sorted(entry.name.removesuffix(".yaml") for entry in recipes.iterdir())
    return "# Names\n" + "".join(
        _table(heading, rows)
        for heading, rows in (
            ("Suites", _first_comments(suites, shipped_suites())),
            ("Recipes", _first_comments(recipes, recipe_names)),
            ("Gradient modes", _docs(MODES)),
            ("Surrogates", _docs(SURROGATES)),
            ("Attacks on images", _docs(ATTACKS)),
            ("Attacks on events", _docs(EVENT_ATTACKS)),
        )
    )


def _models() -> str:
    import timm

    from robust_snn.models import zoo

    trained = set(zoo.trained())
    rows = [(name, "") for name in timm.list_models("snn_*") if name not in trained]
    rows += [(name, "trained; its card says how, and how robust it is") for name in sorted(trained)]
    return "# Models\n" + _table("timm.create_model", rows)


def _first_comments(folder: Any, names: Iterable[str]) -> list[Row]:
    """What the first comment of YAML files says, up to its first full stop or empty line."""
    rows = []
    for name in names:
        lines = []
        for line in (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
            if not line.startswith("# "):
                break
            lines.append(line[2:])
        rows.append((name, f"{' '.join(lines).split('. ')[0].rstrip('.')}."))
    return rows


def _docs(registry: Mapping[str, Any]) -> list[Row]:
    return [(name, (inspect.getdoc(cls) or "").split("\n")[0]) for name, cls in registry.items()]


def _table(heading: str, rows: Iterable[Row]) -> str:
    lines = "".join(f"| `{name}` | {_cell(about)} |\n" for name, about in rows)
    return f"\n## {heading}\n\n| name | what it is |\n|---|---|\n{lines}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
