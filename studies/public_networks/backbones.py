"""Our backbones against their authors' classes: the same weights, the same logits.

PUBLIC_NETWORKS=FOLDER python studies/public_networks/backbones.py [--out FILE] [NAME ...]

Each network is built small by its authors' class, with weights from seeds, and converted by
`robust_snn.models.load_released`. Logits of both on random images are compared, each network in a
process of its own. Without the folder PUBLIC_NETWORKS nothing is compared, and that is said.
`--out tests/models/backbone_logits.json` is what tests hold our networks by: names and shapes of
tensors, seeds, logits.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import library_neurons  # noqa: F401  registers its networks
import own_neurons  # noqa: F401
import timm
import torch
import transformers  # noqa: F401
from codebases import ATAN, CODEBASES, codebase, mean_of_steps, reset
from torch import Tensor, nn

from robust_snn import building_on_cpu
from robust_snn.models import load_released
from robust_snn.models.released_names import is_unread

RELEASED = Path(__file__).parents[1] / "released_logits.py"
TENSOR_OF = runpy.run_path(str(RELEASED))["tensor_of"]


@codebase(
    "xyshi2000/SpikingResformer",
    "3f75127",
    T=4,
    image=(3, 16, 16),
    logits=mean_of_steps,
    surrogate=ATAN,
    packages=("spikingjelly-0.0.0.0.14",),
)
def spikingresformer_small_stem() -> nn.Module:
    with building_on_cpu():
        from models.spikingresformer import BN, SpikingResformer, layer

        prologue = nn.Sequential(layer.Conv2d(3, 16, 3, 1, 1, bias=False, step_mode="m"), BN(16))
        stages = [["DSSA", "GWFFN"] * depth for depth in (1, 2, 1)]
        size = {"img_size": 16, "T": 4, "num_classes": 10, "group_size": 16}
        return SpikingResformer(
            stages, [16, 48, 64], [1, 3, 4], [4, 2, 1], prologue=prologue, **size
        )


TRANSFORMER: dict[str, Any] = {"dim": 32, "heads": 8, "mlp_ratio": 2}
LARGE: dict[str, Any] = {"stem": "imagenet", "blocks": (1, 1, 1, 1)}
# their network -> ours, and how it is built
PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "spikformer": ("snn_spikformer", {**TRANSFORMER, "depth": 1}),
    "qkformer_self_attention": ("snn_qkformer", {**TRANSFORMER, "depths": (1, 1, 1)}),
    "spike_driven_transformer": ("snn_sdt", {**TRANSFORMER, "depth": 1}),
    "spike_driven_transformer_v3": (
        "snn_sdt3_ilif",
        {"dims": (8, 16, 32, 48, 64), "heads": 8, "mlp_ratio": 2, "stem": "imagenet", "T": 1},
    ),
    "spikingresformer_small_stem": (
        "snn_resformer",
        {"heads": (1, 3, 4), "depths": (1, 2, 1), "head_dim": 16},
    ),
    "ms_resnet": ("snn_msresnet18", LARGE),
    "sew_resnet": ("snn_sew18", LARGE),
}
RAW: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
SEED = 100_000  # of the first network; see `tensor_of`


def drawn(name: str, shape: list[int], seed: int) -> Tensor:
    """A tensor of an authors' network, float64, such that layers fire."""
    if "firing_rate" in name:
        return TENSOR_OF("running_var", shape, seed) / 2
    return TENSOR_OF(name, shape, seed)


@torch.no_grad()
def row_of(name: str) -> dict[str, Any]:
    """Tensors and seeds of an authors' network of ours, and its logits on three images."""
    torch.set_default_dtype(torch.float64)
    known, (model, kwargs) = CODEBASES[name], PAIRS[name]
    seed, theirs = SEED + 1000 * list(PAIRS).index(name), known.make().eval()
    shapes = {
        n: list(value.shape)
        for n, value in theirs.state_dict().items()
        if not n.endswith("num_batches_tracked") and not is_unread(n)
    }
    state = {n: drawn(n, s, seed + i) for i, (n, s) in enumerate(shapes.items())}
    theirs.load_state_dict(state, strict=False)
    images = TENSOR_OF("p", (3, *known.image), seed - 1) / 1.2
    logits = []
    for image in images.split(1):  # QKFormer's last neurons take a batch for time
        reset(theirs)
        logits.append(known.logits(theirs, image))
    row = {"source": known.repository, "model": model, "kwargs": {"T": known.T} | RAW | kwargs}
    size = {"seed": seed, "size": known.image[-1]}
    return {**row, **size, "tensors": shapes, "logits": torch.cat(logits).tolist()}


@torch.no_grad()
def difference(row: dict[str, Any]) -> tuple[float, float]:
    """How far our logits are from a row's at most, and the deviation of the row's."""
    ours = timm.create_model(row["model"], img_size=row["size"], **row["kwargs"]).double().eval()
    tensors = enumerate(row["tensors"].items())
    load_released(ours, {n: drawn(n, s, row["seed"] + i) for i, (n, s) in tensors})
    images = TENSOR_OF("p", (3, 3, row["size"], row["size"]), row["seed"] - 1) / 1.2
    wanted = torch.tensor(row["logits"], dtype=torch.float64)
    return float((ours(images) - wanted).abs().max()), float(wanted.std(0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(PAIRS), metavar="NAME")
    parser.add_argument("--out", type=Path, help="a file for names, shapes, seeds and logits")
    options = parser.parse_args()
    if "PUBLIC_NETWORKS" not in os.environ:
        print("nothing compared: PUBLIC_NETWORKS names no folder with the authors' code")
        return
    if len(options.names) == 1:
        print(json.dumps(row_of(options.names[0])))
        return
    rows = []
    for name in options.names:
        run = subprocess.run([sys.executable, __file__, name], stdout=subprocess.PIPE, check=True)
        rows.append(json.loads(run.stdout.splitlines()[-1]))
        far, spread = difference(rows[-1])
        count = len(rows[-1]["tensors"])
        print(f"{name}: {count} tensors, logits of deviation {spread:.1e} differ by {far:.1e}")
    if options.out is not None:
        options.out.write_text(json.dumps(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
