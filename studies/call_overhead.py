"""What a call of a victim costs beside the network's own pass, in processor time.

    python studies/call_overhead.py --rounds 60

Compared are `Victim.sample` with a plain pass under the same keys without gradients, and a gradient
of `Victim` with autograd's own through the network under the same settings. Each round measures
both, one after the other in changing order; the table has medians, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.kernels import derive_seed, sample_keys
from robust_snn.neurons.layer_constants import layer_constants
from robust_snn.neurons.noise_source import layer_numbers, policy_keys
from robust_snn.neurons.pass_settings import PassSettings, layer_gradients, use_settings
from robust_snn.utils.modules import modules_of

Work = Callable[[], object]
NETS = {
    "tiny": ("snn_vgg5_stog", {"width": 0.1, "head_width": 8, "img_size": 8, "T": 2}, 8),
    "vgg5": ("snn_vgg5_stog", {"img_size": 32, "T": 4}, 32),
    "resnet18": ("snn_resnet18", {"T": 4}, 32),
    "wrn16": ("snn_wrn16_dlif", {"width": 0.25, "T": 4}, 32),
}


def tasks(net: nn.Module, x: Tensor) -> dict[str, tuple[Work, Work]]:
    """Pairs of functions, a victim's call and the same work done bare."""
    modules = modules_of(net)
    victim, ids = Victim(net), torch.arange(len(x))
    layers, seed = layer_numbers(modules), derive_seed(0, "report")
    gradients = layer_gradients(net, victim.gradient, victim.statistics)
    images = x.clone().requires_grad_()

    def bare_sample() -> object:
        keys = sample_keys(seed, ids, 0) if layers else None
        with torch.no_grad(), use_settings(PassSettings(keys, layers=layers)):
            return net(x.clone())

    def bare_gradient() -> object:
        settings = PassSettings(
            keys=policy_keys("fresh", 0, len(x), 0) if layers else None,
            layers=layers,
            gradients=gradients,
            fused_norm=True,
            sparse="never",
            constants=layer_constants(modules),
        )
        with use_settings(settings):
            return torch.autograd.grad(net(images.clone()).sum(), images)

    return {
        "sample": (lambda: victim.sample(x, ids), bare_sample),
        "gradient": (lambda: torch.autograd.grad(victim(images).sum(), images), bare_gradient),
    }


def cost(work: Work, times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times


def compared(ours: Work, bare: Work, rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, and the median of their ratios."""
    times = max(1, int(0.02 / max(cost(bare, 3), 1e-6)))
    cost(ours, 3)
    pairs = []
    for number in range(rounds):
        first, second = (ours, bare) if number % 2 else (bare, ours)
        pair = {first: cost(first, times), second: cost(second, times)}
        pairs.append((pair[ours], pair[bare]))
    mine, theirs = zip(*pairs, strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    return statistics.median(mine), statistics.median(theirs), ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--nets", nargs="*", default=[*NETS])
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | images | call | victim ms | bare ms | ratio |\n|---|---|---|---|---|---|")
    for name in given.nets:
        model, kwargs, size = NETS[name]
        net = timm.create_model(model, **kwargs).eval().requires_grad_(False)
        for count in (1, 16):
            for call, pair in tasks(net, torch.rand(count, 3, size, size)).items():
                ours, bare, ratio = compared(*pair, given.rounds)
                row = f"{1e3 * ours:.3f} | {1e3 * bare:.3f} | {ratio:.3f}"
                print(f"| {name} | {count} | {call} | {row} |", flush=True)


if __name__ == "__main__":
    main()
