"""What may become of a case: a right answer, or one clean `InputError`, in time."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from unittest import mock

import typer

from robust_snn import cli
from robust_snn.utils.errors import InputError

SECONDS = float(os.environ.get("FUZZ_CASE_SECONDS", 60))  # of a case; a busy machine is slow
MEMORY = 2**31  # bytes that a case may take; none needs a hundredth
LONGEST = 4100


class Hang(BaseException):
    """A case took too long; no code that is tried catches it."""


class Passed(BaseException):
    """Raised where the work would begin: all checks are passed."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Ends what hangs, or takes more memory than is sensible."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    memory = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_taken() + MEMORY, memory[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, memory)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _taken() -> int:
    """Bytes of addresses that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def check_message(text: str) -> None:
    """A message is one bearable line that says something and leaves the terminal alone."""
    assert text.strip() and text.isprintable() and len(text) <= LONGEST, repr(text[:300])


def check_call(call: Callable[[], Any]) -> None:
    """Calls something; whatever it raises besides an `InputError` comes out of here."""
    with limited(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except (InputError, ImportError) as error:
            check_message(str(error))
        except Passed:
            pass


def check_command(words: list[str]) -> None:
    """Runs a command line in this process; it ends with 0, or with 2 and one line."""
    out, err = io.StringIO(), io.StringIO()
    tree = mock.patch.object(cli, "app", _commands())
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    code: Any = 0
    try:
        with tree, limited(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main(words)
            except SystemExit as left:
                code = left.code
            except Passed:
                pass
    finally:
        root.handlers = handlers
    said, complained = out.getvalue(), err.getvalue()
    assert code in (0, 2), f"exit code {code}: {complained[-2000:]}"
    assert "Traceback" not in complained, complained[-2000:]
    assert all(line.isprintable() for line in [*said.splitlines(), *complained.splitlines()])
    lines = [line for line in complained.splitlines() if line.startswith("robust-snn: ")]
    if code == 2:
        assert lines == complained.splitlines()[-1:], complained[-2000:]
        check_message(lines[0])


@cache
def _commands() -> Any:
    """The commands as typer parses them, which it would build anew for every case."""
    return typer.main.get_command(cli.app)


def for_seconds(seconds: float) -> Iterator[int]:
    """Numbers of cases, until the time is over."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield number
        number += 1
