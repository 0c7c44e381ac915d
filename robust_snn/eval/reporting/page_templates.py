"""The Jinja2 templates of pages, and how they show numbers."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from robust_snn.eval.reporting.terminal import radius_text
from robust_snn.gradients import parse_mode
from robust_snn.utils.errors import missing_extra
from robust_snn.utils.figures import new_figure
from robust_snn.utils.optional_work import if_possible
from robust_snn.utils.plain_text import plain
from robust_snn.utils.share_texts import percent, points, points_span, span, wider


def template(name: str) -> Any:
    """A template of this room; every string that it prints is escaped, and plain.

    Raises:
        ImportError: If Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise missing_extra("jinja2", "report") from error
    loader = PackageLoader("robust_snn.eval.reporting")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["span"] = span
    environment.filters["points"] = points
    environment.filters["points_span"] = points_span
    environment.filters["wider"] = _wider
    environment.filters["radius"] = radius_text
    environment.filters["at"] = _at
    environment.filters["amount"] = with_prefix
    return environment.get_template(name)


def check_page(name: str) -> None:
    """Says before the work what would keep a page with figures from being written after it.

    Raises:
        ImportError: If Jinja2 or Matplotlib is not installed.
    """
    new_figure(1, 1)
    template(name)


def say_if_no_page(name: str) -> None:
    """Says before the work that it will end without a page, and why; the work is done anyway."""
    if_possible(f"{name} at the end", lambda: check_page(name))


def is_newest(page: Path, numbers: Path) -> bool:
    """Whether there is a page and it was written after the file of the numbers on it."""
    return page.exists() and page.stat().st_mtime >= numbers.stat().st_mtime


def _wider(interval: tuple[float, float]) -> str:
    return " to ".join(wider(interval))


def page_script(*names: str) -> tuple[str, str]:
    """Scripts of this room as one, and the hash by which a page's policy allows it."""
    folder = files(__package__) / "templates"
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return script, f"sha256-{digest}"


def with_prefix(value: float) -> str:
    """A number with a prefix for thousands and thousandths, such as `5.40 M` or `12.7 µ`."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}".rstrip()
    return f"{value / 1e-9:.3g} n" if value else "0"


def _plain(value: Any) -> Any:
    """A text of strangers without control characters; markup of this room as it is."""
    return plain(value) if type(value) is str else value


def _at(value: Any, axis: str) -> str:
    """A value of an axis as text."""
    if axis == "gradient":
        return parse_mode(str(value)).brief
    return radius_text(float(value)) if axis == "eps" else str(value)
