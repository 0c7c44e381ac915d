"""Text of strangers as one harmless line: no line breaks, and nothing that a terminal obeys."""

from __future__ import annotations

LONGEST = 4000  # characters of a message; more is no help, and a file may hold anything


def plain(text: str) -> str:
    """The text with every character that does not print spelled out, such as `\\x1b`.

    Escape sequences, marks that turn the direction of a line and the halves of file names that are
    no UTF-8 are among them. Line breaks stay; see `one_line`.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else _spelled(letter) for letter in text
    )


def one_line(text: str) -> str:
    """The text on one plain line of bearable length; runs of white space become single spaces."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
