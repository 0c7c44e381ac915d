"""What attention of spikes costs, by the kernel, by its reference, and with tokens transposed.

python studies/attention_speed.py --out benchmarks/attention.csv

Processor microseconds per head of one thread, forward alone and backward alone, at the heads of our
backbones; `transposed` multiplies `[N, width]` matrices, as published code does. Then processor
milliseconds per image of whole networks, whose attention alone differs. Rounds are interleaved.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import Tensor
from torch.nn import functional as F

import robust_snn  # noqa: F401  registers the models
from robust_snn.benchmarks.timing import CLOCKS, interleave, median
from robust_snn.kernels import attend

# network, steps, heads, channels of queries and of values per head, tokens
HEADS = (
    ("spikformer", 4, 12, 32, 32, 64),
    ("spikformer", 2, 12, 32, 32, 64),
    ("spikformer, width 1/2", 4, 12, 16, 16, 64),
    ("qkformer", 4, 8, 48, 48, 64),
    ("sdt3, stage 4", 4, 8, 16, 64, 64),
    ("sdt3, stage 5", 4, 8, 24, 96, 64),
    ("sdt3, stage 5, 224x224", 4, 8, 24, 96, 196),
    ("spikformer, 196 tokens", 4, 12, 32, 32, 196),
)
NETWORKS = "snn_spikformer", "snn_qkformer", "snn_sdt3"
DENSITY, BATCH, WIDTH, IMAGES = 0.15, 8, 0.5, 4


def transposed(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    """Attention of tokens `[T, B, heads, N, width]`, and the copy back to maps."""
    queries, keys, values = (
        x.flatten(3).unflatten(2, (heads, -1)).transpose(-1, -2) for x in (q, k, v)
    )
    mixed = queries @ (keys.transpose(-1, -2) @ values)
    return (mixed * scale).transpose(-1, -2).reshape(v.shape)


def fused(*given: Tensor | float) -> Tensor:
    return attend(*given, backend="numba")


def reference(*given: Tensor | float) -> Tensor:
    return attend(*given, backend="torch")


def head_row(name: str, steps: int, *sizes: int, rounds: int) -> dict[str, object]:
    """Microseconds per head, of both passes by each way."""
    heads, width, wide, tokens = sizes
    q, k, v = (
        (torch.rand(steps, BATCH, heads * channels, tokens, 1) < DENSITY).float()
        for channels in (width, width, wide)
    )
    upstream = torch.randn_like(v)
    forward: dict[str, Callable[[], object]] = {}
    backward: dict[str, Callable[[], object]] = {}
    for way in (transposed, reference, fused):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        out = way(*leaves, heads, 0.125)

        def again(out: Tensor = out, leaves: list[Tensor] = leaves) -> object:
            return torch.autograd.grad(out, leaves, upstream, retain_graph=True)

        def once(way: Callable[..., Tensor] = way) -> object:
            with torch.no_grad():
                return way(q, k, v, heads, 0.125)

        forward[f"forward {way.__name__}"] = once
        backward[f"backward {way.__name__}"] = again
    times = interleave(forward | backward, rounds, CLOCKS["cpu"])
    count = steps * BATCH * heads
    micro = {what: round(1e3 * median(each) / count, 2) for what, each in times.items()}
    shape = {"T": steps, "heads": heads, "width": width, "values": wide, "tokens": tokens}
    return {"what": name, **shape, "unit": "us per head", **micro}


def network_row(name: str, rounds: int) -> dict[str, object]:
    """Milliseconds per image, of a training step and of a pass without a gradient."""
    images = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tried: dict[str, Callable[[], object]] = {}
    for way, backend in (("reference", "torch"), ("fused", "auto")):
        torch.manual_seed(0)
        net = timm.create_model(name, T=4, width=WIDTH)
        for module in net.modules():
            if hasattr(module, "backend") and hasattr(module, "heads"):
                module.backend = backend

        def step(net: torch.nn.Module = net) -> object:
            loss = F.cross_entropy(net.train()(images), torch.arange(IMAGES))
            return torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)

        def once(net: torch.nn.Module = net) -> object:
            with torch.no_grad():
                return net.eval()(images)

        tried[f"step {way}"], tried[f"pass {way}"] = step, once
    times = interleave(tried, rounds, CLOCKS["cpu"])
    ms = {what: round(median(each) / IMAGES, 2) for what, each in times.items()}
    return {"what": name, "T": 4, "unit": "ms per image", **ms}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [head_row(*head, rounds=arguments.rounds) for head in HEADS]
    rows += [network_row(name, arguments.rounds // 3) for name in NETWORKS]
    fields = list(dict.fromkeys(field for row in rows for field in row))
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
