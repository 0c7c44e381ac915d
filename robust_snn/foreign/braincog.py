"""BrainCog's neurons and its encoder (0.2.7). Nothing here imports BrainCog."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.foreign.library import Library, Spike, Unreadable, overriding
from robust_snn.kernels import Dynamics


def owns(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("n_reset", "calc_spike", "integral", "act_fun"))


def holds(module: nn.Module) -> bool:
    return hasattr(module, "n_reset") or _encodes(module)


def reset(module: nn.Module) -> None:
    if hasattr(module, "n_reset"):
        module.n_reset()  # type: ignore[operator]


def swap(node: nn.Module, spike: Spike, detach_reset: bool) -> AbstractContextManager[None]:
    """BrainCog always detaches the reset, so `detach_reset` reaches replaced neurons only."""
    return overriding(node, act_fun=spike)


def read(node: nn.Module) -> Dynamics:
    """`LIFNode` and `IFNode`, which are at rest at 0.

    v[t] = u[t-1] + (current[t] - u[t-1]) / tau       (leaky; else + dt * current[t])
    """
    some: Any = node
    kind, module = type(node).__name__, type(node).__module__
    if not module.startswith("braincog.") or kind not in ("LIFNode", "IFNode"):
        raise Unreadable(f"the dynamics of {kind} are not known")
    if some.v_reset != 0 or some.requires_fp or some.requires_mem:
        raise Unreadable("it keeps its membranes, or starts elsewhere than it is reset to")
    threshold = float(some.get_thres())
    if not some.act_fun(torch.zeros(1)).any():  # some surrogates fire above the threshold only
        threshold = float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
    if kind == "IFNode":
        return Dynamics(1.0, threshold, some.dt)
    rate = 1 / float(some.tau)
    return Dynamics(1 - rate, threshold, rate)


def on_torch(module: nn.Module) -> AbstractContextManager[None]:
    """Its direct encoding, which runs under `no_grad` and so cuts the image off, with a gradient.

    The other encodings have none.
    """
    some: Any = module
    if not _encodes(module) or some.encode_type != "direct":
        return nullcontext()

    def direct(images: Tensor) -> Tensor:
        return images.unsqueeze(0).repeat(some.step, *[1] * images.dim())

    return overriding(module, fun=direct)


def _encodes(module: nn.Module) -> bool:
    names = ("encode_type", "fun", "temporal_flatten", "step")
    return all(hasattr(module, name) for name in names)


LIBRARY = Library(
    name="braincog",
    owns=owns,
    swap=swap,
    reset=reset,
    holds=holds,
    read=read,
    detaches=lambda node: True,
    takes_one_step=lambda node: not getattr(node, "layer_by_layer", False),
    fires_by=lambda node: node.act_fun,  # type: ignore[arg-type, return-value]
    on_torch=on_torch,
)
