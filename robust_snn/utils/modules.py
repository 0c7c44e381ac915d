"""Networks as PyTorch modules: modes that come back, the device, a digest of the weights."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Sets every module of `net` to eval mode; afterwards each has the mode it had before."""
    before = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Runs in eval mode; restores random states, trace function and module modes afterwards.

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


def device_of(module: nn.Module) -> torch.device:
    """The device of the first parameter or buffer; the CPU where there is none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def weights_sha256(net: nn.Module) -> str:
    """SHA-256, in hexadecimal, of every named tensor of a network's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
