"""What verdicts say of masked networks and of honest ones: the tables of `docs/diagnostics.md`.

    python studies/masked_networks.py --images 16
    python studies/masked_networks.py --honest snn_vgg5.digits snn_vgg5_stog.digits

Every mask is put on the packaged `snn_vgg5.digits`, whose own verdict is the truth.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import timm
from torch import nn

import robust_snn
from robust_snn.data import load_dataset
from robust_snn.eval import Verdict

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from masks import MASKS  # noqa: E402

NETWORK, EPS, CALIBRATION = "snn_vgg5.digits", 0.1, 16


def network(name: str) -> nn.Module:
    return timm.create_model(name, pretrained=True).eval()


def judged(net: Any, images: int) -> Verdict:
    """The verdict of `adaptive-small` on the first images of the digits' test set."""
    data = load_dataset("digits", n=images + CALIBRATION)
    with tempfile.TemporaryDirectory() as out:
        return robust_snn.evaluate(
            net,
            data.images[:images],
            data.labels[:images],
            suite="adaptive-small",
            eps=EPS,
            out=out,
            calibration=(data.images[images:], data.labels[images:]),
        )


def row(name: str, net: Any, images: int) -> str:
    """A line of a table in Markdown."""
    try:
        verdict = judged(net, images)
    except robust_snn.InputError as error:
        return f"| {name} | refused: {error} | | | |"
    notes = {kind: list[str]() for kind in ("fail", "warn")}
    for note in verdict.diagnostics:
        notes.get(note.status, []).append(note.name)
    bridge = next((note.why for note in verdict.diagnostics if note.name == "bridge"), "")
    low, high = verdict.robust.ci
    share = f"{verdict.robust.accuracy:.0%} ({low:.0%}-{high:.0%})"
    said = " | ".join(", ".join(notes[kind]) for kind in ("fail", "warn"))
    return f"| {name} | {share} | {bridge} | {said} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--honest", nargs="*", help="packaged networks instead of masks")
    parser.add_argument("--masks", nargs="*", default=list(MASKS))
    asked = parser.parse_args()
    made = {name: network(name) for name in asked.honest or [NETWORK]}
    if not asked.honest:
        made |= {name: MASKS[name](network(NETWORK)) for name in asked.masks}
    for name, net in made.items():
        print(row(name, net, asked.images), flush=True)


if __name__ == "__main__":
    main()
