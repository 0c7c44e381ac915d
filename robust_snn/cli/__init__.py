"""The `robust-snn` command: one file per command, which imports what it needs when it runs."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import typer

from robust_snn.cli import (  # noqa: F401  they join the app
    analyse,
    benchmark,
    compare,
    console,
    demo,
    diagnose,
    doctor,
    evaluate,
    leaderboard,
    models,
    report,
    train,
)
from robust_snn.cli.app import app
from robust_snn.utils.errors import InputError

INTERRUPTED = 130  # what typer makes of Ctrl-C
PAIRS = ("--model-kwargs", "--set")  # options that take any number of name=value pairs


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line, and exits with 0 if done, 2 after wrong input, 1 otherwise."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    console.words.set(tuple(given))
    try:
        code = app(args=joined(given), prog_name="robust-snn", standalone_mode=False)
    except (InputError, ImportError) as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's usage errors
            return _fail(f"{error.format_message().rstrip('.')}; see robust-snn --help", 2)
        if type(error).__name__ == "OutOfMemoryError":
            return _fail(f"{error}; use a smaller batch, --batch-size where there is one", 1)
        if type(error).__module__.startswith("robust_snn."):
            return _fail(str(error), 1)
        traceback.print_exc()
        return 1
    if code == INTERRUPTED:
        return _fail("interrupted; start the same command again to go on", 1)
    return code if isinstance(code, int) else 0


def joined(words: Sequence[str]) -> list[str]:
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
    print(" ".join(f"robust-snn: {message}".split()), file=sys.stderr)  # noqa: T201
    return code
