"""One attack step on a whole network: the input gradient, or a forward pass, of WRN-16-4."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from robust_snn.benchmarks.fresh_process import added_memory, peak_apart
from robust_snn.benchmarks.published_network import (
    as_published,
    convolutions_alone,
    network_with_rates,
)
from robust_snn.benchmarks.timing import CLOCKS, Record, interleave, records
from robust_snn.victim import Victim

FAST: dict[str, Any] = {"sparse": "auto"}
HALF: dict[str, Any] = {"bf16": True, "channels_last": True}
BASE = "published, loss.backward()"

# What runs, and the settings of its victim; the published network has none.
VICTIMS: dict[str, dict[str, Any]] = {
    "bptt": {},
    "bptr": {"gradient": "bptr"},
    "rga": {"gradient": "rga"},
    "hart": {"gradient": "hart"},
    "bptt, sparse forward": FAST,
    "bptr, sparse forward": {"gradient": "bptr", **FAST},
    "bptt, bf16 and channels-last": HALF,
    "bptt, compact": {"gradient": "bptt(save=compact)"},
}


def _loss(model: Any, x: Tensor) -> Tensor:
    return F.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.long, device=x.device))


def input_gradient(model: Any, x: Tensor) -> Tensor:
    """One attack step: the gradient of a loss on images."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(_loss(model, x), x)[0]


def _backward(model: Any, x: Tensor) -> None:
    _loss(model, x.clone().requires_grad_()).backward()


def mean_gradient(model: Any, x: Tensor, draws: int = 10) -> Tensor:
    """The mean over draws as people write it, one after the other."""
    return torch.stack([input_gradient(model, x) for _ in range(draws)]).mean(0)


def step_refusal(net: Any, published: Any, x: Tensor) -> str:
    """Why our network is not the published one, or nothing: judged image by image.

    Spiking networks are chaotic in rounding: one spike at the threshold may change an image.
    """
    ours, theirs = (input_gradient(m, x).flatten(1) for m in (Victim(net), published))
    same = int((F.cosine_similarity(ours, theirs) > 0.999).sum())
    return "" if same >= len(x) / 2 else f"{len(x) - same} of {len(x)} gradients differ"


def measure_attack_steps(rounds: int, clock: str, steps: int = 8, batch: int = 8) -> list[Record]:
    """A row per way to run one step, with the ratio to the published `loss.backward()`."""
    net = network_with_rates(steps)
    published = as_published(net, steps)
    x = torch.rand(batch, 3, 32, 32)
    why = step_refusal(net, published, x)
    timed: dict[str, Callable[[], object]] = {
        BASE: partial(_backward, published, x),
        "published, autograd.grad": partial(input_gradient, published, x),
        **convolutions_alone(published, x),
    }
    if not why:
        for name, victim_settings in VICTIMS.items():
            timed[name] = partial(input_gradient, Victim(net, **victim_settings), x)
        gated = Victim(network_with_rates(steps, gated=True))
        timed["bptt, gated network"] = partial(input_gradient, gated, x)
        timed["forward"] = partial(_forward, Victim(net), x)
        timed["forward, sparse"] = partial(_forward, Victim(net, sparse="auto"), x)
    shape = {"T": steps, "B": batch}
    times = interleave(timed, rounds, CLOCKS[clock])
    return records(shape, times, BASE, {"ours": why} if why else {})


@torch.no_grad()
def _forward(model: Any, x: Tensor) -> Tensor:
    logits: Tensor = model(x)
    return logits


def measure_eot(rounds: int, clock: str) -> list[Record]:
    """Ten draws of the gated network for two images: the plain loop, and ours."""
    net = network_with_rates(gated=True)
    published, victim = as_published(net, 8), Victim(net, eot=10)
    x = torch.rand(2, 3, 32, 32)
    timed: dict[str, Callable[[], object]] = {
        "plain loop of ten": partial(mean_gradient, published, x),
        "ours, eot=10": partial(input_gradient, victim, x),
        "ours, eot=10, sparse forward": partial(input_gradient, victim.replace(**FAST), x),
    }
    times = interleave(timed, rounds, CLOCKS[clock])
    return records({"T": 8, "B": 2, "eot": 10}, times, "plain loop of ten")


SCALES = {
    "T": (2, 4, 8, 16),
    "B": (1, 4, 16),
    "eot": (1, 4, 10),
    "width": (0.25, 0.5, 1.0),
}


def measure_scaling(rounds: int, clock: str) -> list[Record]:
    """How the cost of a step grows with one size; the others are T = 4, B = 2, half width."""
    found = []
    for axis, values in SCALES.items():
        for value in values:
            size = {"T": 4, "B": 2, "eot": 1, "width": 0.5, axis: value}
            draws = int(size["eot"])
            net = network_with_rates(int(size["T"]), axis == "eot", size["width"], batch=2)
            published = as_published(net, int(size["T"]))
            x = torch.rand(int(size["B"]), 3, 32, 32)
            bptt, rate = (Victim(net, gradient=g, eot=draws) for g in ("bptt", "bptr"))
            timed: dict[str, Callable[[], object]] = {
                "published": partial(mean_gradient, published, x, draws),
                "bptt": partial(input_gradient, bptt, x),
                "bptr": partial(input_gradient, rate, x),
            }
            times = interleave(timed, rounds, CLOCKS[clock])
            found += records({"axis": axis, "value": value, **size}, times, "published")
    return found


def attack_step_peak(case: str) -> float:
    """MiB that one step adds to the process; meant for a process of its own."""
    gated = "eot" in case
    net = network_with_rates(gated=gated)
    x = torch.rand(2 if gated else 8, 3, 32, 32)
    published = as_published(net, 8)
    work: dict[str, Callable[[], object]] = {
        BASE: partial(_backward, published, x),
        "plain loop of ten, eot": partial(mean_gradient, published, x),
        "ours, eot=10": partial(input_gradient, Victim(net, eot=10), x),
    }
    run = work.get(case) or partial(input_gradient, Victim(net, **VICTIMS[case]), x)
    input_gradient(
        Victim(network_with_rates(2, width=0.1, batch=1), **VICTIMS.get(case, {})), x[:1]
    )  # compiles
    return added_memory(run)


PEAKS = {
    BASE: ("bptt", "bptr", "bptt, compact", "bptt, bf16 and channels-last"),
    "plain loop of ten, eot": ("ours, eot=10",),
}


def measure_attack_memory() -> list[Record]:
    """Peak memory of a step, each in a fresh process, against the published one."""
    found = []
    for base, others in PEAKS.items():
        reference = peak_apart(attack_step_peak, base)
        for case in (base, *others):
            mib = reference if case == base else peak_apart(attack_step_peak, case)
            found.append({"candidate": case, "MiB": mib, "ratio": round(mib / reference, 3)})
    return found
