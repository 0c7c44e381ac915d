"""The version of the package; a page of its own, so that a room need not import the package."""

__version__ = "0.2.0"
