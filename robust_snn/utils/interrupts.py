"""Ctrl-C and SIGTERM: a command ends by one line, and a worker by none."""

from __future__ import annotations

import os
import signal
import sys
import time
from _thread import interrupt_main, start_new_thread
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LINE = "interrupted; start the same command again to resume"


def is_command() -> bool:
    """Whether this process is the command `robust-snn` itself, and not a worker of it."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""  # `pathlib` loads for milliseconds
    return (
        name in ("robust-snn", "robust-snn.exe") and "--multiprocessing-fork" not in sys.orig_argv
    )


def leave_while_loading() -> None:
    """Until `raising` takes over, lets the command end at once: while libraries load, nothing else
    is under way. Other programs, and workers, keep what they do on a signal."""
    if is_command():
        for number in SIGNALS:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, f"robust-snn: {LINE}\n".encode())
    os._exit(1)


@contextmanager
def raising() -> Iterator[None]:
    """While inside, either signal raises `KeyboardInterrupt`; in other threads nothing changes.

    One that comes while Python runs what can raise nothing, such as a weak reference's callback or
    `__del__`, is raised again right after.
    """
    with _handled(signal.default_int_handler), _raised_again():
        yield


@contextmanager
def _raised_again() -> Iterator[None]:
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            start_new_thread(_interrupt, ())  # no `Thread`: its locks may be held right here
        else:
            before(lost)

    if not _can_handle():
        yield
        return
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt() -> None:
    time.sleep(0.01)  # until the callback is over
    interrupt_main()


@contextmanager
def deferred() -> Iterator[None]:
    """While inside, signals wait, for what must not be left half done; processes that are started
    hear of no Ctrl-C, which a terminal sends to them too."""
    if not _can_handle() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    came: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        with _handled(lambda number, frame: came.append(number)):
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for number in came[:1]:
        signal.raise_signal(number)


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    if not _can_handle():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _can_handle() -> bool:
    import threading  # here, since it loads for milliseconds in which no signal is handled yet

    return threading.current_thread() is threading.main_thread()
