"""The `robust-snn` command line itself, which every command joins."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Find out whether a spiking neural network is really robust to adversarial examples.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
