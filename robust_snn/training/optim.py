"""Optimiser and schedule from timm's factories, with the gates in a group of their own."""

from __future__ import annotations

from typing import Any

from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from robust_snn.training.recipe import Recipe
from robust_snn.training.regularisers import gate_parameters


def parameter_groups(
    net: nn.Module, weight_decay: float, released: bool = False
) -> list[dict[str, Any]]:
    """Trainable parameters in three groups: decayed, not decayed, and stochastic gates.

    Weight decay is for kernels and matrices, in released scripts for all but gates. A gate's
    penalty is the objective's own.
    """
    gates = gate_parameters(net)
    special = {id(gate) for gate in gates}
    rest = [p for p in net.parameters() if p.requires_grad and id(p) not in special]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if released or p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in rest if not released and p.ndim <= 1], "weight_decay": 0.0},
        {"params": gates, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(net: nn.Module, recipe: Recipe, steps: int) -> tuple[Optimizer, Scheduler]:
    """The recipe's optimiser, and a cosine schedule that is a function of the step's number.

    Args:
        net: The network.
        recipe: The recipe.
        steps: Optimiser steps per epoch.
    """
    # Nesterov's needs a momentum
    plain = recipe.optimizer == "sgd" and (recipe.released or not recipe.momentum)
    optimizer = create_optimizer_v2(
        parameter_groups(net, recipe.weight_decay, recipe.released),
        opt="momentum" if plain else recipe.optimizer,
        lr=recipe.lr,
        momentum=recipe.momentum,
    )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=recipe.epochs,
        min_lr=recipe.min_lr,
        warmup_epochs=recipe.warmup_epochs,
        warmup_lr=recipe.lr / (recipe.warmup_epochs * steps + 1),  # the first step is one too
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    assert scheduler is not None
    return optimizer, scheduler
