"""What commands write: results on stdout; progress on stderr, as a bar or as log lines."""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from robust_snn.utils.plain_text import plain

if TYPE_CHECKING:
    from robust_snn.eval import Progress

WIDE = 160  # columns of a table in a file or pipe, where no name is cut
NARROW = 80  # and on a terminal at least: one that has fewer breaks the lines
words: ContextVar[tuple[str, ...]] = ContextVar("words")  # of the command line


def command() -> str:
    """The command that runs now, as one would type it."""
    return shlex.join(["robust-snn", *words.get()])


def open_streams() -> None:
    """Lets streams be written to whatever they are: closed ones (`>&-`) lead nowhere.

    What the encoding of stdout lacks is spelled out as `\\xfc`, as Python does on stderr.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(what: Any) -> None:
    """Prints a text or a table of rich on stdout; control characters in it are spelled out."""
    from rich.console import Console

    from robust_snn.utils.plain_renderable import PlainRenderable

    fitted = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(
        width=None if fitted else WIDE,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=isinstance(what, str),
    )
    console.width = max(console.width, NARROW)
    console.print(PlainRenderable(what))


def start_logging(quiet: bool, log_json: bool = False) -> bool:
    """Sets up the log; returns whether a progress bar is shown in its place.

    Args:
        quiet: Log lines even on a terminal.
        log_json: Log lines as JSON.
    """
    bar = sys.stderr.isatty() and not quiet and not log_json
    # a bar shows what the log lines say, and they would tear it apart
    ours = logging.StreamHandler()
    ours.setFormatter(PlainLines("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[ours])
    if log_json:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
    logging.getLogger("robust_snn").setLevel(logging.WARNING if bar else logging.INFO)
    return bar


class PlainLines(logging.Formatter):
    """Lines without control characters, whatever names they quote."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, message, and `progress` where a line reports it."""

    def format(self, record: logging.LogRecord) -> str:
        tree = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if (now := getattr(record, "progress", None)) is not None:
            tree["progress"] = now
        return json.dumps(tree)


def log_lines() -> Callable[[Progress], None]:
    """Shows an evaluation's progress as log lines, one for every percent and untimed stretch."""
    log = logging.getLogger("robust_snn.cli")
    shown = -1, ""

    def show(now: Progress) -> None:
        nonlocal shown
        percent = int(100 * now.done)
        stretch = now.doing if now.remaining is None else ""
        if (percent, stretch) == shown:
            return
        shown = percent, stretch
        left = "" if now.remaining is None else f", {now.remaining:.0f} s left"
        known = f", {now.known}" if now.known else ""
        text = f"{percent:3d}%  {now.doing}{left}{known}"
        log.info(text, extra={"progress": asdict(now)})

    return show
