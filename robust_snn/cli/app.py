"""The `robust-snn` command line itself, which every command joins."""

from __future__ import annotations

import gc
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from robust_snn.utils.errors import InputError
from robust_snn.utils.interrupts import raising
from robust_snn.utils.version import __version__

_URL = re.compile(r"\w{2,}:/")  # of which a path has lost a slash


class Command(TyperCommand):
    """A command that loads the libraries when it runs, so that its help is there at once."""

    def invoke(self, ctx: Any) -> Any:
        if self.callback is not None:
            _refuse_urls(self.callback, ctx.params)
        with _nothing_collected():
            importlib.import_module("robust_snn.models")
        with raising():
            return super().invoke(ctx)


def _refuse_urls(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raises `InputError` if a URL stands where only a path of this machine can.

    Args:
        function: The function of a command, whose annotations say what is a path.
        given: What a person typed, by the name of the argument.
    """
    for name, hint in get_type_hints(function).items():
        value = given.get(name)
        texts = value if isinstance(value, list | tuple) else [value]
        for text in map(str, texts if _has_path(hint) else ()):
            if _URL.match(text):
                raise InputError(
                    f"{name.replace('_', '-')} takes a path of this machine, not '{text}': copy it "
                    "here first (URLs serve evaluate's --out and --pilot, report, compare, submit)"
                )


def _has_path(hint: Any) -> bool:
    return hint is Path or any(map(_has_path, get_args(hint)))


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """What is made meanwhile stays; no garbage collection walks it, now, later or at the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class App(typer.Typer):
    """Commands that load the libraries when they run, and whose help ends in an example."""

    def command(self, *names: Any, **settings: Any) -> Callable[[Any], Any]:
        settings["epilog"] = f"\b\n{settings['epilog']}"  # not wrapped: it is there to be copied
        return super().command(*names, cls=Command, **settings)


app = App(
    help="Find out whether a spiking neural network is really robust to adversarial examples.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"robust-snn {__version__}")
        raise typer.Exit


@app.callback()
def show_help(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
