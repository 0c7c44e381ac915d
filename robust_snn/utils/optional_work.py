"""Work that must not cost what was done before it, such as a picture of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from robust_snn.utils.errors import first_line
from robust_snn.utils.plain_text import one_line

_log = logging.getLogger("robust_snn")
T = TypeVar("T")


def if_possible(what: str, work: Callable[[], T]) -> T | None:
    """What some work returns; where it fails, None, and a log line says why.

    Args:
        what: What the line calls it, such as `"report"`.
        work: The work.
    """
    try:
        return work()
    except Exception as error:  # a library is missing, the disk is full, ...
        _log.warning("no %s: %s", what, one_line(str(error)) or type(error).__name__)
        return None


class Attempts:
    """Measures what a page can show, and keeps why the rest cannot be shown.

    Attributes:
        missing: What could not be measured, and why, as pairs.
    """

    def __init__(self) -> None:
        self.missing: list[tuple[str, str]] = []

    def __call__(self, what: str, work: Callable[[], T], empty: T) -> T:
        """What was measured; `empty`, with a log line, where that fails."""
        try:
            return work()
        except Exception as error:  # whatever a network of other people does
            _log.info("the page cannot show %r: %s", what, first_line(error))
            self.missing.append((what, first_line(error)))
            return empty
