"""Every test of this room runs on every device."""

from devices import on_every_device  # noqa: F401  a fixture
