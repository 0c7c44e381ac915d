"""A plugin of pytest that points a library's own tests at our networks and adapters.

`run.py` loads it with the library's name in `ROBUST_SNN_PEER`. Its module prepares the library
before a test is imported, and the failures that are expected of it are marked as such: a test that
fails without being listed fails the run, and so does one that is listed and passes.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

PEER = os.environ["ROBUST_SNN_PEER"]
EXPECTED = Path(__file__).with_name("expected_failures.yaml")
_library = import_module(f"peer_{PEER}")


def pytest_configure(config: pytest.Config) -> None:
    getattr(_library, "configure", lambda _: None)(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    keeps = getattr(_library, "keeps", lambda _: True)
    config.hook.pytest_deselected(items=[item for item in items if not keeps(item)])
    items[:] = filter(keeps, items)
    expected = yaml.safe_load(EXPECTED.read_text(encoding="utf-8"))[PEER]
    reasons = {f"*{pattern}": row["why"] for row in expected for pattern in row["tests"]}
    for item in items:
        for pattern, why in reasons.items():
            if fnmatchcase(item.nodeid, pattern):
                item.add_marker(pytest.mark.xfail(reason=why, strict=True))
                break
