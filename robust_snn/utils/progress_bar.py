"""One progress bar for long work: what runs, what is left, and what is known so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from robust_snn.utils.plain_text import plain


class ProgressReport(Protocol):
    """What a bar shows: the `Progress` of an evaluation, of a training, ..."""

    @property
    def done(self) -> float:
        """Finished share, in [0, 1]."""

    @property
    def remaining(self) -> float | None:
        """Expected seconds that are left; None while nobody can tell."""

    @property
    def doing(self) -> str:
        """What runs now."""

    @property
    def known(self) -> str:
        """What is known so far, or nothing."""


R = TypeVar("R", bound=ProgressReport)


@contextmanager
def progress_listener(progress: bool | Callable[[R], None]) -> Iterator[Callable[[R], None]]:
    """What to call with every report of progress.

    Args:
        progress: The caller's own function, True for a bar on stderr, False for nothing at all.
    """
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield lambda _: None
    else:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[known]}", markup=False),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=1, known="")
            yield lambda now: bar.update(
                task, completed=now.done, description=plain(now.doing), known=_known(now)
            )


def _known(now: ProgressReport) -> str:
    left = "" if now.remaining is None else f"{timedelta(seconds=round(now.remaining))} left"
    return ", ".join(part for part in (f"{now.done:.0%}", left, now.known) if part)
