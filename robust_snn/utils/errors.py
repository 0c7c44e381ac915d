"""Errors that tell a user what was expected, what came and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from robust_snn.utils.plain_text import one_line

NAMED = 80  # characters of a name that came
LISTED, SHOWN = 64, 8  # known names that are all listed; of more, so many, the nearest
OUT_OF_MEMORY = (  # the last three are oneDNN's
    *("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed"),
    *("could not create a memory", "could not create a primitive", "could not execute a primitive"),
)


class InputError(ValueError):
    """A wrong argument, file or value given by the user.

    The message is one line without control characters, whatever names and files it quotes. The
    command line prints it alone and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def unknown(kind: str, name: object, choices: Iterable[str]) -> InputError:
    """Builds the error for a name that no registry row has, with the nearest match.

    Args:
        kind: What the name should have been, such as `"gradient mode"`.
        name: The name that came.
        choices: Every known name.
    """
    known, name = sorted(choices), f"{name!s:.{NAMED}}"
    spelled = {choice.lower(): choice for choice in known}
    near = get_close_matches(str(name).lower(), spelled, n=SHOWN, cutoff=0.5)
    hint = f"did you mean '{spelled[near[0]]}'? " if near else ""
    shown = known if len(known) <= LISTED else [spelled[each] for each in near] or known[:SHOWN]
    more = f" and {len(known) - len(shown)} more" if len(shown) < len(known) else ""
    return InputError(f"unknown {kind} '{name}': {hint}known: {', '.join(shown)}{more}")


class FolderError(RuntimeError):
    """A folder could not be read or written in the middle of what resumes there."""


@contextmanager
def resumable(folder: Path, what: str) -> Iterator[None]:
    """Turns an error of the disk into one that says how to go on.

    Args:
        folder: The folder that is written to.
        what: What goes on when it is started again, such as `"training"`.

    Raises:
        FolderError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise FolderError(
            f"cannot read or write '{folder}': {error.strerror or error}; what is finished is "
            f"safe: repair this and start the same {what} again to resume"
        ) from None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice, on a GPU, on a CPU or in a library."""
    import torch

    text = str(error).lower()  # on the CPU, and inside libraries, it has no class of its own
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in text for words in OUT_OF_MEMORY
    )


def first_line(error: Exception) -> str:
    """An error in one line, with its type where the message alone would puzzle."""
    text, kind = str(error).strip().split("\n")[0], type(error).__name__
    return text if isinstance(error, InputError) else f"{kind}: {text}" if text else kind


def is_of_system(error: Exception) -> bool:
    """Whether an error, or what it was raised from, is the system's: a full disk, no permission."""
    both = (error, error.__cause__)
    return any(isinstance(each, OSError) and each.errno is not None for each in both)


def reason_of(error: Exception, hint: str = "") -> str:
    """Why something failed: what the system says, or else a library, and then a hint.

    Args:
        error: What was raised.
        hint: What to do about content that is wrong, such as `"; is it complete?"`.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = "" if isinstance(error, KeyError) else " ".join(str(error).split())
    return f"{text or first_line(error):.120}{hint}"


def missing_extra(library: str, extra: str) -> ImportError:
    """Builds the error for an optional library that is not installed."""
    return ImportError(
        f'{library} is not installed; install it with: pip install "robust-snn[{extra}]"'
    )
