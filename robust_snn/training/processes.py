"""Processes that share a training, devices and mixed precision, by Hugging Face Accelerate."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from robust_snn.utils.errors import InputError


class Processes:
    """The processes that share a training, and the part of this one.

    Started by `torchrun` or `accelerate launch`, every process takes an equal part of each batch.
    Gradients are averaged, batch norms see the whole batch, and each image has its own noise, so
    that the weights are those of a single process up to rounding.

    The network is not wrapped, because an objective passes it more than once.

    Args:
        device: `"cpu"` or `"cuda"`; with several processes, each takes a device of its own.
        precision: `"float32"` or `"bf16"`.
    """

    def __init__(self, device: torch.device, precision: str) -> None:
        AcceleratorState._reset_state()  # another training of this process may have had others
        self._accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="bf16" if precision == "bf16" else "no"
        )
        self.count = self._accelerator.num_processes
        self.first = self._accelerator.is_main_process
        self.device = self._accelerator.device if self.count > 1 else device

    def check_batch_size(self, batch_size: int) -> None:
        """Refuses batches that cannot be shared equally."""
        if batch_size % self.count:
            raise InputError(
                f"batch_size must be a multiple of the {self.count} processes, got {batch_size}"
            )

    def own_rows(self, batch: int) -> slice:
        """The rows of a batch that this process takes."""
        size = batch // self.count
        begin = size * self._accelerator.process_index
        return slice(begin, begin + size)

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which the forward pass has the chosen precision."""
        return self._accelerator.autocast()

    def average_gradients(self, net: nn.Module) -> None:
        """Gives every process the mean gradient, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        mean = self._accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        for gradient, part in zip(
            gradients, mean.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def total(self, values: Iterable[float]) -> list[float]:
        """Sums of numbers over all processes."""
        numbers = torch.tensor(list(values), dtype=torch.float64)
        if self.count == 1:
            return numbers.tolist()
        whole: Tensor = self._accelerator.reduce(numbers.to(self.device), "sum")
        return whole.tolist()

    def wait(self) -> None:
        """Returns when every process has called this."""
        self._accelerator.wait_for_everyone()
