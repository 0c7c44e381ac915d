"""What every adapter needs: the caller's process left alone, the number of classes."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.victim import Victim


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Gives back the caller's random states, trace function and module modes on leaving.

    Attack libraries seed the global generators, switch whole models to `train()` or `eval()` and
    end by `sys.settrace(None)`.
    """
    python, numpy_state, trace = random.getstate(), np.random.get_state(), sys.gettrace()
    modes = {child: child.training for child in module.modules()}
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(cuda)):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
            sys.settrace(trace)
            for child, training in modes.items():
                child.training = training


@torch.no_grad()
def count_classes(victim: Victim, images: Tensor) -> int:
    """Number of classes `K`, read off the logits of the first image."""
    return victim.with_(eot=1)(images[:1].to(device_of(victim))).shape[-1]


def device_of(module: nn.Module) -> torch.device:
    """The device of the first parameter or buffer; the CPU where there is none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")
