"""What every adapter needs: the caller's process left alone, seeds, the number of classes."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.kernels import derive_seed
from robust_snn.victim import Victim, evaluating

Craft = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Runs in eval mode; gives back random states, trace function and module modes on leaving.

    Attack libraries seed the global generators, switch whole models to `train()` or `eval()` and
    end by `sys.settrace(None)`.
    """
    python, numpy_state, trace = random.getstate(), np.random.get_state(), sys.gettrace()
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(cuda)), evaluating(module):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
            sys.settrace(trace)


def seeded(victim: Victim, seed: int, craft: Callable[[Tensor, Tensor, int], Tensor]) -> Craft:
    """Makes `craft(images, labels, stream)` an attack that leaves the caller's process alone.

    Call `i` of the attack has random numbers of its own, whose seed is `stream`.
    """
    calls = 0

    def attack(images: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        stream, calls = derive_seed(seed, calls), calls + 1
        device = device_of(victim)
        with undisturbed(victim):
            random.seed(stream)
            np.random.seed(stream % 2**32)
            torch.manual_seed(stream)
            crafted = craft(images.detach().to(device), labels.to(device), stream)
        return crafted.detach().to(images.device)

    return attack


def view_for(victim: Victim, noise: str | None, search: bool) -> Victim:
    """The victim as an attack sees it, whose passes count as the victim's.

    A search compares calls with each other, so it sees the same draws in every call unless the
    caller chose a noise policy.
    """
    if noise is None:
        noise = "frozen" if search and victim.noise == "fresh" else victim.noise
    return victim.replace(noise=noise, cost=victim.cost)


@torch.no_grad()
def count_classes(victim: Victim, images: Tensor) -> int:
    """Number of classes `K`, read off the logits of the first image."""
    return victim.replace(eot=1)(images[:1].to(device_of(victim))).shape[-1]


def device_of(module: nn.Module) -> torch.device:
    """The device of the first parameter or buffer; the CPU where there is none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def weights_sha256(net: nn.Module) -> str:
    """Digest of every named tensor of a net's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
