"""Gradient checkpointing that recomputes a block as it ran, noise and gradient mode included."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robust_snn.gradients import GradientMode
from robust_snn.kernels import convolution_view, current_view
from robust_snn.neurons import Tape, fused_norm, norm_is_fused


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """Runs a block without keeping its intermediates; the backward pass recomputes them."""
    tape = Tape()
    out: Tensor = checkpoint(
        block,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (tape, _AsBefore(block, tape)),
    )
    return out


class _AsBefore(AbstractContextManager[None]):
    """Restores, while a block is recomputed, the settings under which it ran."""

    def __init__(self, block: nn.Module, tape: Tape) -> None:
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()
