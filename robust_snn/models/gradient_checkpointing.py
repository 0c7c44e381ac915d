"""Gradient checkpointing that recomputes a block as it ran, noise and gradient mode included.

Outputs of convolutions and matrix products are kept: they are a third of what a block keeps
otherwise, and most of its time.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from robust_snn.neurons import PassSettings, current_settings, use_settings
from robust_snn.utils.shared_flags import turned_off

aten = torch.ops.aten
KEPT = [aten.convolution.default, aten.mm.default, aten.addmm.default]


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """Runs a block and keeps what is expensive to compute; the backward pass recomputes the rest.

    Args:
        block: The block.
        x: Its input, which is kept.
    """

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        settings = current_settings()._replace(recorded=[])
        keep, reuse = create_selective_checkpoint_contexts(KEPT)
        forward = _Both(use_settings(settings), keep)
        return forward, _Both(_AsBefore(block, settings), _Reusable(reuse))

    out: Tensor = checkpoint(
        block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
    )
    return out


class _Both(ExitStack):
    """Two context managers as one."""

    def __init__(self, *managers: AbstractContextManager[Any]) -> None:
        super().__init__()
        self.managers = managers

    def __enter__(self) -> _Both:
        for manager in self.managers:
            self.enter_context(manager)
        return self


class _Reusable(AbstractContextManager[None]):
    """Hands out what PyTorch kept of a block in every backward pass, as `retain_graph` asks for.

    PyTorch's own context forgets what it has handed out.
    """

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def __enter__(self) -> None:
        self.mode = copy.copy(self.kept)
        self.mode.storage = {key: copy.copy(found) for key, found in self.kept.storage.items()}
        self.mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.mode.__exit__(*error)


class _AsBefore(ExitStack):
    """Restores, while a block is recomputed, the conditions under which it ran.

    Those are the settings of the pass, which parameters are frozen, which modules are in eval mode,
    and the buffers of the others as they were before this batch was counted in them: firing rates
    and usual membranes scale what a block computes.
    """

    def __init__(self, block: nn.Module, settings: PassSettings) -> None:
        super().__init__()
        self.settings = settings
        self.frozen = [p for p in block.parameters() if not p.requires_grad]
        self.in_eval = [module for module in block.modules() if not module.training]
        self.buffers = [
            (module, name, buffer.clone())
            for module in block.modules()
            if module.training
            for name, buffer in module.named_buffers(recurse=False)
        ]

    def __enter__(self) -> _AsBefore:
        self.enter_context(use_settings(self.settings.repeated()))
        self.enter_context(turned_off("requires_grad", self.frozen))
        self.enter_context(turned_off("training", self.in_eval))
        for module, name, before in self.buffers:
            self.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, before.clone())
        return self
