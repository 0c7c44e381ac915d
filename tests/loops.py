"""One call of the spiking loop with all its gradients, for the tests of backends and modes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robust_snn.kernels import Dynamics, Rule, spiking_loop

# Under the interpreter Triton's kernels run on CPU tensors, slowly; `test_triton` starts it.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
COMPILED = ("triton",) if INTERPRETED else ("numba",)
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
