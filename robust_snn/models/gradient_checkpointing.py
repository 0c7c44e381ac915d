"""Gradient checkpointing that recomputes a block as it ran, noise and gradient mode included.

Outputs of convolutions and matrix products are kept: they are a third of what a block keeps
otherwise, and most of its time.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from robust_snn.gradients import GradientMode
from robust_snn.kernels import convolution_view, current_view
from robust_snn.neurons import Tape, fused_norm, norm_is_fused

aten = torch.ops.aten
KEPT = [aten.convolution.default, aten.mm.default, aten.addmm.default]


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """Runs a block and keeps of it what is dear to compute; the backward pass recomputes the rest.

    Args:
        block: The block.
        x: Its input, which is kept.
    """

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        tape, (keep, reuse) = Tape(), create_selective_checkpoint_contexts(KEPT)
        return _Both(tape, keep), _Both(_AsBefore(block, tape), _Reusable(reuse))

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


class _AsBefore(AbstractContextManager[None]):
    """Restores, while a block is recomputed, the settings under which it ran."""

    def __init__(self, block: nn.Module, tape: Tape) -> None:
        self.block = block
        self.tape = tape
        self.fused = norm_is_fused()
        self.convolutions = current_view()
        self.modes = {
            module: module.gradient
            for module in block.modules()
            if isinstance(vars(module).get("gradient"), GradientMode)
        }
        self.trainable = {parameter: parameter.requires_grad for parameter in block.parameters()}

    def __enter__(self) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(Tape(self.tape))
        self.stack.enter_context(fused_norm(self.fused))
        self.stack.enter_context(convolution_view(self.convolutions))
        for module, mode in self.modes.items():
            self.stack.callback(setattr, module, "gradient", module.gradient)
            module.gradient = mode
        for parameter, trainable in self.trainable.items():
            self.stack.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(trainable)
        for module in self.block.modules():  # a batch norm has counted this batch before
            for name, buffer in list(module.named_buffers(recurse=False)):
                self.stack.callback(setattr, module, name, buffer)
                setattr(module, name, buffer.clone())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()
