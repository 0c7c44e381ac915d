"""A page with the published numbers beside ours, from whatever a folder of trainings holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from networks import NETS, PUBLISHED_EPOCHS, Net

from robust_snn.eval import Predictions
from robust_snn.eval.reporting.published import published_results
from robust_snn.eval.scoring.intervals import accuracy_estimate
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.utils.atomic_files import write_text

TABLES = {
    "stog-table1": "Table 1, eps = 8/255",
    "stog-table2": "Table 2, eps = 4/255",
    "adaptive-small": "Worst case of `adaptive-small`, eps = 8/255; nothing is published",
}


@dataclass(frozen=True)
class Measured:
    """What a suite found on the blocks of images that are finished.

    Attributes:
        images: Number of images.
        right: Right answers `[N, draws]`, by column: `clean`, the attacks of a paper's suite, or
            `worst` where the attacks were chosen.
        published: Published accuracies in the same setting, by column.
    """

    images: int
    right: dict[str, np.ndarray]
    published: dict[str, float]

    def cell(self, column: str) -> str:
        """Accuracy in percent, its 95 % interval, and the published one."""
        estimate = accuracy_estimate(self.right[column])
        low, high = (100 * bound for bound in estimate.ci)
        theirs = self.published.get(column)
        found = f"{100 * estimate.value:.1f} ({low:.0f}-{high:.0f})"
        return found if theirs is None else f"{found} / {100 * theirs:.1f}"


def measured(folder: Path, net: Net) -> Measured | None:
    """What is in the folder of a suite; None if no block of images is finished."""
    blocks = [path.parent for path in sorted(folder.glob("*-*/verdict.json"))]
    if not blocks:
        return None
    verdict = Verdict.load(blocks[0] / "verdict.json")
    found: dict[str, list[np.ndarray]] = {}
    for block in blocks:
        answers = Predictions.load(block)
        columns = {"clean": answers.clean, "worst": answers.worst}
        if folder.name != "adaptive-small":
            names = (attack.name for attack in verdict.attacks)
            columns = {"clean": answers.clean, **dict(zip(names, answers.attacks, strict=True))}
        for column, predicted in columns.items():
            found.setdefault(column, []).append(predicted == answers.labels[:, None])
    right = {column: np.concatenate(parts) for column, parts in found.items()}
    whole = verdict.model["kwargs"].get("width", 1) == 1
    results = published_results(verdict) if whole else None
    rows = {row.setting: row.values for row in results.rows} if results else {}
    return Measured(len(right["clean"]), right, rows.get(net.setting, {}))


def trained(folder: Path) -> dict[str, Any]:
    """What is known of a training, as JSON values; nothing if no epoch of it is finished."""
    try:
        card: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return card


def write_page(out: Path, missing: Mapping[str, str]) -> None:
    """Writes `page.md`.

    Args:
        out: Folder of the trainings.
        missing: What could not be finished, by folder.
    """
    cards = [trained(out / net.slug) for net in NETS]
    lines = ["# The StoG paper's networks at their own size", "", "## Trainings", ""]
    lines += [
        _line("network", "setting", "epochs", "images", "test accuracy", "opening", "missing"),
        _line(*["---"] * 7),
    ]
    for net, card in zip(NETS, cards, strict=True):
        cells = ["-"] * 4
        if card:
            planned, done = card["recipe"]["epochs"], card["epochs"]
            epochs = f"{done} of the paper's {PUBLISHED_EPOCHS}"
            epochs += f", stopped before {planned}" if done < planned else ""
            accuracy = f"{100 * card['accuracy']['test']:.1f}"
            cells = [epochs, str(card["data"]["n"]), accuracy, f"{card['opening']:.2f}"]
        lack = missing.get(net.slug, "" if card else "no time for it")
        lines.append(_line(net.model, net.setting, *cells, lack))
    for suite, title in TABLES.items():
        lines += ["", f"## {title}", "", *_table(out, suite)]
    found = [card for card in cards if card]
    if found:
        lines += ["", f"Recipe of the first: `{json.dumps(found[0]['recipe'])}`."]
    write_text(out / "page.md", "\n".join(lines) + "\n")


def _table(out: Path, suite: str) -> list[str]:
    """Robust accuracies in percent with 95 % intervals, and the published ones after a slash."""
    found = [(net, measured(out / net.slug / suite, net)) for net in NETS]
    rows = [(net, result) for net, result in found if result is not None]
    if not rows:
        return ["No images are attacked yet."]
    columns = list(rows[0][1].right)
    lines = [_line("network", "setting", "images", *columns), _line(*["---"] * (3 + len(columns)))]
    for net, result in rows:
        cells = [result.cell(column) for column in columns]
        lines.append(_line(net.model, net.setting, str(result.images), *cells))
    return lines


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
