"""lava-dl's SLAYER blocks (0.6). Nothing here imports lava-dl.

A call of a block is all time steps, the last axis, and one call of its spike function. Its spike
functions are found while a net runs, as those of any other code are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from robust_snn.foreign.library import library_of_states


def holds(module: nn.Module) -> bool:
    """Modules that size their buffers at the first call, and keep a state if they are asked to."""
    return type(module).__module__.startswith("lava.lib.dl.slayer.")


def reset(module: nn.Module) -> None:
    some: Any = module
    if getattr(some, "persistent_state", False):
        for name, buffer in module.named_buffers(recurse=False):
            if name.endswith("_state"):
                setattr(some, name, torch.zeros_like(buffer))


LIBRARY = library_of_states("lava-dl", holds, reset)
