"""A kind of case: how one is made from a seed, and how it is tried."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where cases are tried.

    Attributes:
        good: A folder of sound files, which no case changes.
        work: A folder of one case, empty.
    """

    good: Path
    work: Path


class Kind(NamedTuple):
    """A kind of case.

    Attributes:
        make: Makes a case, of values that `mutation.packed` takes.
        run: Tries a case; raises unless it ends as `outcome` demands.
    """

    make: Callable[[random.Random, Place], Any]
    run: Callable[[Any, Place], None]
