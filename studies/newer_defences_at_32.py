"""The plan `newer-defences` with wider networks and longer trainings, for a GPU.

python studies/newer_defences_at_32.py --images cifar10.safetensors --out runs/study32

VGG-5 at its full width with T = 4 and a narrow head, ten epochs. The same command, started as often
as you like, shares the work.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from robust_snn.data import load_dataset
from robust_snn.eval.defence_study import study
from robust_snn.eval.execution.preflight import CALIBRATION
from robust_snn.eval.protocol.study_plan import Defence, StudyPlan, load_plan

VGG = {"T": 4, "head_width": 256}
MAXIMA = {"stages": [[64], ["M", 128, 128], ["M"]]}
TRANSFORMER = {"T": 4, "dim": 192, "heads": 6, "depth": 2}
TRAINING = {"epochs": 10, "batch_size": 256, "lr": 0.05, "precision": "bf16", "channels_last": True}


def plan() -> StudyPlan:
    """The shipped plan with larger networks."""
    small = load_plan("newer-defences")
    return replace(
        small,
        name="newer-defences-at-32",
        training=TRAINING,
        defences=tuple(map(widened, small.defences)),
    )


def widened(row: Defence) -> Defence:
    """A row with its network at full width, and the arguments of its mechanism."""
    narrow = {"T", "stages", "stem_stride", "head_width", "dim", "heads", "depth"}
    own = {key: value for key, value in row.model_kwargs.items() if key not in narrow}
    wide = TRANSFORMER if "dim" in row.model_kwargs else VGG
    return replace(row, model_kwargs=wide | (MAXIMA if row.name == "max pooling" else {}) | own)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="file of pack_images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--defences", nargs="+", help="some rows, with their baselines")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    asked = plan().only(given.defences or [], given.seeds or [], None)
    data = load_dataset(given.images, split="train")
    test = load_dataset(given.images, split="test", n=asked.n + CALIBRATION)
    study(asked, data, test, out=given.out, device=given.device)


if __name__ == "__main__":
    main()
