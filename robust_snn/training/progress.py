"""How far a training is, and what it knows so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from robust_snn.training.folder import Epoch


@dataclass(frozen=True)
class Progress:
    """A moment of a training.

    Attributes:
        epoch: Epoch that runs now, from 1.
        epochs: Number of all epochs.
        done: Finished share of all steps, in [0, 1].
        remaining: Expected seconds that are left; None before the first step.
        last: The last finished epoch.
    """

    epoch: int
    epochs: int
    done: float
    remaining: float | None
    last: Epoch | None


Listener = Callable[[Progress], None]


@contextmanager
def listening(progress: bool | Listener) -> Iterator[Listener]:
    """A listener for a training's progress: the caller's own, a bar on stderr, or a deaf one."""
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield lambda _: None
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[known]}"),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=1, known="")
            yield lambda now: bar.update(
                task,
                completed=now.done,
                description=f"epoch {now.epoch} of {now.epochs}",
                known=_known(now),
            )


def _known(now: Progress) -> str:
    parts = [f"{now.done:.0%}"]
    if now.remaining is not None:
        parts.append(f"{timedelta(seconds=round(now.remaining))} left")
    if now.last is not None:
        parts.append(f"test accuracy {now.last.test_accuracy:.1%}")
    return ", ".join(parts)
