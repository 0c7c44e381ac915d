"""One training step of WRN-16-4 and VGG-11 on a GPU, against the same as on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from robust_snn.benchmarks.cuda.device_events import (
    PRECISIONS,
    added_device_memory,
    interleave_on,
)
from robust_snn.benchmarks.timing import Record, records
from robust_snn.benchmarks.training_step_speed import (
    BASE,
    FLOOR,
    LAST,
    NETWORKS,
    OURS,
    Step,
    candidate_network,
    convolution_floor,
    training_refusal,
    training_step,
)
from robust_snn.utils.plain_context import plain_context

# What is trained in each precision; the first is what the others are compared with.
CASES = {
    "float32": (BASE, "spikingjelly", *(case for case in OURS if "bf16" not in case)),
    "TF32": (BASE, "spikingjelly", "ours", "ours, recomputing"),
    "bf16, channels-last": (
        f"{BASE}, bf16",
        "spikingjelly, bf16",
        *(case for case in OURS if "bf16" in case),
    ),
}


def measure_training_on(
    device: torch.device, rounds: int, steps: int = 8, batch: int = 64, width: float = 1.0
) -> Iterator[list[Record]]:
    """Rows of one network and precision at a time; `memory` is a share of the plain loop's peak."""
    for name in NETWORKS:
        images = torch.rand(batch, 3, 32, 32, device=device)
        for form in CASES:
            with plain_context(PRECISIONS[form].tf32):
                rows = _rows(device, rounds, name, form, images, steps, width)
            yield [{"shape": name, "T": steps, "B": batch, "precision": form, **r} for r in rows]


def _rows(
    device: torch.device,
    rounds: int,
    name: str,
    form: str,
    images: Tensor,
    steps: int,
    width: float,
) -> list[Record]:
    base, precision = CASES[form][0], PRECISIONS[form]
    plain = trained_network(base, name, steps, width).to(device)
    layout = LAST if precision.half else torch.contiguous_format
    work: dict[str, Step] = {FLOOR: convolution_floor(plain, images, precision.dtype, layout)}
    refused = {}
    for case in CASES[form]:
        try:
            net = trained_network(case, name, steps, width).to(device)
        except ImportError:
            continue
        # Elsewhere rounding decides which spikes fire, and that decides the gradient.
        why = training_refusal(net, plain, images) if form == "float32" else ""
        if why:
            refused[case] = why
        else:
            work[case] = training_step(case, net, images)
    times, failed = interleave_on(device, work, rounds, queued=(FLOOR,))
    peaks = {case: added_device_memory(device, work[case]) for case in times if case != FLOOR}
    found = []
    for row in records({}, times, base, refused | failed):
        mib = peaks.get(row["candidate"])
        share = "" if mib is None or base not in peaks else round(mib / peaks[base], 3)
        found.append({**row, "MiB": "" if mib is None else mib, "memory": share})
    return found


def trained_network(case: str, name: str, steps: int, width: float) -> nn.Module:
    """The network of a case; those of other people lie channels-last in bf16."""
    net = candidate_network(case.removesuffix(", bf16"), name, steps, width)
    if case.endswith(", bf16"):
        net = net.to(memory_format=LAST)
    return net
