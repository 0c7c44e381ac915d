"""`robust-snn models`."""

from __future__ import annotations

from robust_snn.cli.app import app
from robust_snn.cli.options import say


@app.command(epilog="Example: robust-snn models")
def models() -> None:
    """List the spiking models with their number of parameters."""
    import timm
    import torch
    from rich.table import Table

    import robust_snn  # noqa: F401  registers the models

    table = Table("model", "parameters")
    table.columns[1].justify = "right"
    with torch.device("meta"):
        for name in timm.list_models("snn_*"):
            net = timm.create_model(name)
            table.add_row(name, f"{sum(p.numel() for p in net.parameters()):,}")
    say(table)
