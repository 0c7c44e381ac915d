"""Logits of the authors' own classes under weights from seeds, by which tests hold `load_released`.

    python studies/released_logits.py --sources DIR --out tests/models/released_logits.json

`DIR` holds checkouts of putshua/SNN-RAT, DingJianhao/StoG-meets-SNN, DingJianhao/stable-snn and
genema/Noisy-Spiking-Neuron-Nets as `SNN-RAT`, `StoG`, `stable-snn` and `NSNN`. Their classes run in
float64 at an eighth of their channels. The file keeps numbers: names and shapes of the tensors,
seeds, logits.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

STATISTICS = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
NARROW = (
    (r"from sklearn.*", ""),
    (r"\.float\(\)", ".to(input)"),  # spikes in the type of the membranes
    (r"\[16, 16\*widen_factor, 32\*widen_factor, 64\*widen_factor\]", "[2, 8, 16, 32]"),
    (r"\b(64|128|256|512)\b(?= ?[,\]*]|$)", lambda found: str(int(found[1]) // 8)),
    (r"64 \* block\.expansion, 256", "64 * block.expansion, 32"),
    (r"self\.inplanes = 64", "self.inplanes = 8"),
    (r"\b4096\b", "32"),
)


@dataclass(frozen=True)
class Case:
    """A class of the authors', and the network of this package that it is.

    Attributes:
        source: Folder of the checkout.
        build: Builds the network from the `models` of the checkout.
        model: Registered name.
        kwargs: Arguments of it.
        size: Height and width of the images.
        time: Axis of the steps in what the class returns.
    """

    source: str
    build: Callable[[Any], nn.Module]
    model: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    size: int = 16
    time: int = 0


def _stable(models: Any, cls: str, name: str, size: int) -> nn.Module:
    neuron = partial(models.layers.DLIFSpike, T=4)
    sizes = {"in_h": size, "in_w": size}
    how = {"T": 4, "dt": 1, "num_classes": 10, "neuron_module": neuron, "norm": STATISTICS}
    net: nn.Module = getattr(models, cls)(name, **how, **sizes)
    return net


def _nsnn(models: Any, name: str) -> nn.Module:
    neuron = importlib.import_module("models.LIF").Neuron
    body = getattr(models, name)(spiking_neuron=neuron, n_output=10)
    return nn.Sequential(_EachStep(), body)


class _EachStep(nn.Module):
    """Normalised images at every step, `[B, T, C, H, W]`, as NSNN's script makes them."""

    def forward(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(s, dtype=images.dtype).view(-1, 1, 1) for s in STATISTICS)
        return ((images - mean) / std)[:, None].repeat(1, 4, 1, 1, 1)


INPUT, NSNN = {"dlif_form": "input"}, {"stem": 64, "decay": 0.5}
CASES = (
    Case("SNN-RAT", lambda m: m.VGG("vgg5", 4, 10, STATISTICS), "snn_vgg5", size=32),
    Case("SNN-RAT", lambda m: m.WideResNet("16", 4, 10, STATISTICS), "snn_wrn16", size=32),
    Case("StoG", lambda m: m.VGG("vgg5", 4, 10, STATISTICS), "snn_vgg5", size=32),
    Case(
        "StoG",
        lambda m: m.VGG("vgg5", 4, 10, STATISTICS, H=64),
        "snn_vgg5",
        {"stem_stride": 2},
        size=64,
    ),
    Case("stable-snn", lambda m: _stable(m, "VGG", "vgg5", 16), "snn_vgg5_dlif", INPUT),
    Case("stable-snn", lambda m: _stable(m, "WideResNet", "16", 32), "snn_wrn16_dlif", INPUT, 32),
    Case("NSNN", lambda m: _nsnn(m, "spiking_resnet18"), "snn_resnet18", NSNN, 16, 1),
    Case("NSNN", lambda m: _nsnn(m, "spiking_resnet19"), "snn_resnet19", NSNN, 16, 1),
)


def tensor_of(name: str, shape: Sequence[int], seed: int) -> Tensor:
    """A tensor of a released state dict, float64, such that layers fire."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(shape, generator=generator, dtype=torch.float64)
    leaf = name.rsplit(".", 1)[-1]
    if leaf in ("running_var", "p"):
        return 0.8 + 0.4 * draw
    if leaf in ("running_mean", "bias"):
        return 0.4 * draw - 0.2
    if leaf == "comb":
        return torch.stack([draw[0], 1 - draw[0]])
    if len(shape) == 1:  # the scale of a norm
        return 1 + draw
    return (draw - 0.5) * (72 / torch.Size(shape[1:]).numel()) ** 0.5


@contextmanager
def _narrow_models(source: Path) -> Iterator[Any]:
    """The package `models` of a checkout, with an eighth of the channels."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(source / "models", Path(folder) / "models")
        for path in Path(folder).rglob("*.py"):
            text = path.read_text()
            for wide, narrow in NARROW:
                text = re.sub(wide, narrow, text, flags=re.MULTILINE)
            path.write_text(text)
        sys.path.insert(0, folder)
        try:
            yield importlib.import_module("models")
        finally:
            sys.path.remove(folder)
            for name in [n for n in sys.modules if n.split(".")[0] == "models"]:
                del sys.modules[name]


def measured(case: Case, sources: Path, seed: int) -> dict[str, Any]:
    """The row of a case: its tensors, and the logits of their network."""
    with _narrow_models(sources / case.source) as models, torch.no_grad():
        net = case.build(models).double().eval()
        prefix = "1." if case.source == "NSNN" else ""
        shapes = {
            name.removeprefix(prefix): list(value.shape)
            for name, value in net.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        state = {n: tensor_of(n, s, seed + i) for i, (n, s) in enumerate(shapes.items())}
        net.load_state_dict({prefix + n: value for n, value in state.items()}, strict=False)
        images = tensor_of("p", (3, 3, case.size, case.size), seed - 1) / 1.2
        logits = net(images.clone()).mean(case.time)
    row = {"source": case.source, "model": case.model, "kwargs": case.kwargs, "seed": seed}
    return {**row, "size": case.size, "tensors": shapes, "logits": logits.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = [measured(case, options.sources, 1000 * i) for i, case in enumerate(CASES, 1)]
    options.out.write_text(json.dumps(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
