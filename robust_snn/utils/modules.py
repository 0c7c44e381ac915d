"""Networks as PyTorch modules: modes that come back, the device, a digest of the weights."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.utils.fork_safe_lock import ForkSafeLock
from robust_snn.utils.plain_context import plain_context
from robust_snn.utils.shared_flags import turned_off

global_generators = ForkSafeLock()


def modules_of(net: nn.Module) -> list[nn.Module]:
    """The modules of a network in the order of `net.modules()`, in half of its time."""
    found, left = dict[nn.Module, None](), list[nn.Module | None]([net])
    while left:
        module = left.pop()
        if module is not None and module not in found:
            found[module] = None
            if module._modules:
                left.extend(reversed(module._modules.values()))
    return list(found)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Keeps every module of `net` in eval mode; afterwards each has the mode it had before."""
    with turned_off("training", net.modules()):
        yield


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Runs in eval mode; restores random states, trace function and module modes afterwards.

    Attack libraries seed the global generators, switch whole models to `train()` or `eval()` and
    end by `sys.settrace(None)`. The generators are one for all threads: whoever seeds them holds
    `global_generators`, so that no other thread saves or restores them meanwhile.
    """
    with plain_context():
        with global_generators:
            python, numpy_state, trace = random.getstate(), np.random.get_state(), sys.gettrace()
            cpu, cuda = torch.get_rng_state(), _cuda_states()
        try:
            with evaluating(module):
                yield
        finally:
            with global_generators:
                random.setstate(python)
                np.random.set_state(numpy_state)
                torch.set_rng_state(cpu)
                torch.cuda.set_rng_state_all(cuda)
            sys.settrace(trace)


def _cuda_states() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def device_of(module: nn.Module, images: torch.Tensor | None = None) -> torch.device:
    """The device of the first parameter or buffer; without any that of the images, or the CPU."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu") if images is None else images.device


def device_name(device: torch.device) -> str:
    """What a device is called: the name of a GPU's kind, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def unlike_images(net: nn.Module) -> str:
    """What an error says of weights that cannot meet float32 images on one device; may be empty."""
    floats = [p for p in net.parameters() if p.is_floating_point()]
    devices = sorted({str(p.device) for p in net.parameters()})
    if "meta" in devices:
        return "; its weights are on the meta device, without values: load them first"
    if len(devices) > 1:
        return f"; its weights are on {' and '.join(devices)}: move them all to one device"
    if kinds := {p.dtype for p in floats} - {torch.float32}:
        found = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        return f"; its weights are {found}, and images float32: give net.float()"
    return ""


def weights_sha256(net: nn.Module) -> str:
    """SHA-256, in hexadecimal, of every named tensor of a network's state."""
    digest = hashlib.sha256()
    for entry, value in sorted(net.state_dict().items()):
        for name, tensor in _tensors(entry, value):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(values.numpy().data)
    return digest.hexdigest()


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an entry of a state: quantised layers keep theirs in a tuple."""
    if isinstance(value, Tensor):
        yield name, value.dequantize() if value.is_quantized else value
    elif isinstance(value, tuple | list):
        for place, item in enumerate(value):
            yield from _tensors(f"{name}.{place}", item)
