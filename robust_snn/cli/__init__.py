"""The `robust-snn` command: one file per command, which imports what it needs when it runs."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence

import typer

from robust_snn.cli import (  # noqa: F401  they join the app
    analyse,
    benchmark,
    certify,
    compare,
    console,
    demo,
    diagnose,
    doctor,
    evaluate,
    leaderboard,
    models,
    report,
    study,
    submit,
    train,
    verify,
)
from robust_snn.cli.app import app
from robust_snn.utils.errors import InputError, is_out_of_memory
from robust_snn.utils.interrupts import LINE, SIGNALS
from robust_snn.utils.plain_text import one_line

INTERRUPTED = 130  # what typer makes of Ctrl-C
WRONG_PATHS = (  # of the system; others are none of the user's
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)
PAIRS = ("--model-kwargs", "--set")  # options that take any number of name=value pairs


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line, and exits with 0 if done, 2 after wrong input, 1 otherwise."""
    if arguments is None:
        console.open_streams()
    code = _run(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # the process ends here, and what a library does then is no news
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _run(given: Sequence[str]) -> int:
    console.words.set(tuple(given))
    if "" in given:
        return _fail("an argument is empty; is a variable of the shell not set?", 2)
    try:
        code = app(args=joined(map(at_home, given)), prog_name="robust-snn", standalone_mode=False)
    except (InputError, ImportError) as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's usage errors
            place = getattr(error, "ctx", None)
            path = "robust-snn" if place is None else place.command_path
            return _fail(f"{error.format_message().rstrip('.')}; see {path} --help", 2)
        if is_out_of_memory(error):
            return _fail(f"{error}; use a smaller batch, --batch-size where there is one", 1)
        if type(error).__module__.startswith("robust_snn."):
            return _fail(str(error), 1)
        if isinstance(error, OSError):
            return _fail_of_system(error)
        traceback.print_exc()
        return 1
    if code == INTERRUPTED:
        return _fail(LINE, 1)
    return code if isinstance(code, int) else 0


def at_home(word: str) -> str:
    """An argument with the home folder for `~`, which shells leave in `--out=~/runs`."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return option + equals + os.path.expanduser(value) if value[:2] in ("~", "~/") else word


def joined(words: Iterable[str]) -> list[str]:
    """Makes one word of the pairs that follow an option for pairs, as in `--set lr=0.1 eot=2`."""
    result: list[str] = []
    open_ended = False
    for word in words:
        if open_ended and "=" in word and not word.startswith("-"):
            result[-1] += f" {word}"
            continue
        open_ended = bool(result) and result[-1] in PAIRS
        result.append(word)
    return result


def _fail(message: str, code: int) -> int:
    print(f"robust-snn: {one_line(message)}", file=sys.stderr)  # noqa: T201
    return code


def _fail_of_system(error: OSError) -> int:
    """A disk that is full, a path that cannot be: one line; a reader that left, as `head`: none."""
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which is flushed at exit
        return 1
    place = "" if error.filename is None else f" '{error.filename}'"
    code = 2 if place and error.errno in WRONG_PATHS else 1
    return _fail(f"{error.strerror or error}:{place}".rstrip(":"), code)
