"""What rich shows, with the control characters in it spelled out."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from robust_snn.utils.plain_text import plain


class PlainRenderable:
    """Shows something of rich; its colours stay, but nothing else in it is for the terminal.

    Args:
        what: A text, a table or anything else that rich shows.
    """

    def __init__(self, what: RenderableType) -> None:
        self.what = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.what, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)
