"""One call of the spiking loop with all its gradients, for the tests of backends and modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from devices import GPU, INTERPRETED
from robust_snn.kernels import Dynamics, Rule, spiking_loop

# Numba's kernels run on CPU tensors, and Triton's on GPU tensors or under the interpreter.
COMPILED = ("triton",) if INTERPRETED else ("numba", "triton") if GPU else ("numba",)
BACKENDS = ("torch", *COMPILED)


def run(
    current: Tensor,
    upstream: Tensor,
    dynamics: Dynamics,
    rule: Rule,
    backend: str,
    build: Callable[[dict[str, Tensor]], dict[str, Any]] = lambda parameters: {},
    parameters: dict[str, Tensor] | None = None,
    steps: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Spikes, and the gradients of the current and of every parameter.

    Args:
        build: Turns the parameters into keyword arguments of `spiking_loop`.
    """
    leaves = {k: v.clone().requires_grad_() for k, v in (parameters or {}).items()}
    leaves["current"] = current.detach().clone().requires_grad_()
    spikes = spiking_loop(
        leaves["current"], dynamics, rule, steps=steps, backend=backend, **build(leaves)
    )
    spikes.backward(upstream)
    gradients = {k: torch.zeros_like(v) if v.grad is None else v.grad for k, v in leaves.items()}
    return spikes.detach(), gradients
