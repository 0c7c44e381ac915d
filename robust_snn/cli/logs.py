"""What a command says of its progress where there is no progress bar."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robust_snn.eval import Progress


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
    """Shows an evaluation's progress as log lines, one for every percent."""
    log = logging.getLogger("robust_snn.cli")
    shown = -1

    def show(now: Progress) -> None:
        nonlocal shown
        if (percent := int(100 * now.done)) == shown:
            return
        shown = percent
        left = "" if now.remaining is None else f", {now.remaining:.0f} s left"
        known = f", {now.found}" if now.found else ""
        text = f"{percent:3d}%  {now.doing}{left}{known}"
        log.info(text, extra={"progress": asdict(now)})

    return show
