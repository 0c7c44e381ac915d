"""`robust-snn doctor`."""

from __future__ import annotations

from robust_snn.cli.app import app
from robust_snn.cli.options import say


@app.command(epilog="Example: robust-snn doctor")
def doctor() -> None:
    """Show versions, and whether each backend of the spiking loop works here."""
    from robust_snn.cli.self_test import report

    say(report())
