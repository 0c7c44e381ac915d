"""What a paper reports for the model at hand, to compare with what its suite measures here.

The numbers lie in `suites/published/SUITE.csv`: the first line says where they come from, then one
row per line of the paper's table, in percent, with a column per attack of the suite.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from robust_snn.data import DATASETS
from robust_snn.eval.protocol.suite_files import load_suite
from robust_snn.eval.scoring.verdict import Verdict

_WORDS = ("table", "setting", "data", "model")


@dataclass(frozen=True)
class PublishedRow:
    """A line of a paper's table.

    Attributes:
        table: The table in the paper.
        setting: What the line is called there.
        values: PublishedResults fractions by column, `clean` and the attacks of the suite.
    """

    table: str
    setting: str
    values: dict[str, float]


@dataclass(frozen=True)
class PublishedResults:
    """The lines of a paper's tables about one model, and where they come from."""

    source: str
    rows: tuple[PublishedRow, ...]


def published_results(verdict: Verdict) -> PublishedResults | None:
    """What the paper of a verdict's suite reports for its architecture and data, if anything.

    A verdict does not know how a net was trained, so all lines about its architecture are given. A
    file of images counts as CIFAR where the number of classes agrees. Under another radius, norm or
    setting than the paper's, draws aside, there is nothing to compare.
    """
    suite, _, changed = verdict.suite.partition("(")
    table = files("robust_snn.eval.protocol") / "suites" / "published" / f"{suite}.csv"
    if not table.is_file() or not re.fullmatch(r"(draws=\d+\))?", changed):
        return None
    asked = load_suite(suite)
    if (verdict.threat["norm"], verdict.threat["eps"]) != (asked.norm, asked.eps):
        return None
    source, *lines = table.read_text(encoding="utf-8").splitlines()
    rows = tuple(_row(line) for line in csv.DictReader(lines) if _about(line, verdict))
    return PublishedResults(source.lstrip("# "), rows) if rows else None


def _about(line: Mapping[str, str], verdict: Verdict) -> bool:
    name, classes = verdict.data["name"], verdict.model["kwargs"].get("num_classes")
    same_data = name == line["data"] or (
        name not in DATASETS and classes == DATASETS[line["data"]].classes
    )
    return same_data and line["model"] == verdict.model["name"]


def _row(line: Mapping[str, Any]) -> PublishedRow:
    values = {
        key: round(float(value) / 100, 6)
        for key, value in line.items()
        if key not in _WORDS and value
    }
    return PublishedRow(line["table"], line["setting"], values)
