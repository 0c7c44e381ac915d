"""What a training minimises: task losses, and penalties on how perturbations move a network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_snn.metrics import Activity, LayerActivity, ms_mppd, record, spike_train_distance, tasad
from robust_snn.models.readout import step_logits
from robust_snn.neurons import one_pass
from robust_snn.training.certified_loss import certified_loss
from robust_snn.training.membrane_guards import GUARDS

if TYPE_CHECKING:
    from robust_snn.training.recipe import Recipe


def tet_loss(logits: Tensor, labels: Tensor, weight: float = 0.05) -> Tensor:
    """Temporal efficient training (Deng et al., ICLR 2022, eqs. 10 and 12).

        (1 - weight) mean_t CE(logits[t], labels) + weight mean (logits - 1)^2

    Args:
        logits: Logits of every step, `[T, B, K]`.
        labels: `[B]`.
        weight: 0.05 on CIFAR, 0.001 on DVS-CIFAR.
    """
    steps = len(logits)
    task = F.cross_entropy(logits.flatten(0, 1), labels.repeat(steps))
    return (1 - weight) * task + weight * (logits - 1).square().mean()


def divergence(clean: Tensor, perturbed: Tensor) -> Tensor:
    """TRADES' penalty (Zhang et al., ICML 2019): `KL(softmax(clean) || softmax(perturbed))`, `[B]`.

    Args:
        clean: Logits `[B, K]`.
        perturbed: Logits `[B, K]`.
    """
    to, of = F.log_softmax(perturbed, -1), F.log_softmax(clean, -1)
    return (of.exp() * (of - to)).sum(-1)


def gradient_penalty(
    net: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    step: float = 0.01,
    power: Literal[1, 2] = 2,
) -> Tensor:
    """Sparse gradient regularisation (Liu et al., ICML 2024): the slope of the label's odds, `[B]`.

        |(f(x + step d) - f(x)) / step|^power,   d = sign(df/dx),   f = sigmoid(o[label] - o[other])

    The finite difference along `d` is the L1 norm of the gradient. The paper penalises it, power 1,
    and its code the square. The code exponentiates raw logits, which overflows.

    Args:
        net: Maps images to logits; its noise must be the same in both of its passes, see `keyed`.
        images: `[B, C, H, W]`.
        labels: `[B]`.
        step: Length of the difference.
        power: 1 (paper) or 2 (code).
    """
    x = images.detach().requires_grad_()
    with one_pass():
        logits = net(x)
    other = logits.detach().scatter(1, labels[:, None], -torch.inf).argmax(1)

    def odds(logits: Tensor) -> Tensor:
        mine, best = (logits.gather(1, index[:, None])[:, 0] for index in (labels, other))
        return torch.sigmoid(mine - best)

    here = odds(logits)
    (gradient,) = torch.autograd.grad(here.sum(), x, retain_graph=True)
    with one_pass():
        there = odds(net(images + step * gradient.sign()))
    slope = (there - here) / step
    return slope.abs() if power == 1 else slope.square()


Distance = Callable[[LayerActivity, LayerActivity], Tensor]

# How far a perturbation moves the last spiking layer, `[B]`, from its activity on clean and on
# perturbed images. MS-MPPD takes what is added to the membranes, so that it is right for DLIF, and
# the leak of every step. Its released code takes the mean and lets the clean branch learn nothing.
DISTANCES: dict[str, Distance] = {
    "ms_mppd": lambda a, b: ms_mppd(a.drive, b.drive, a.decay),
    "ms_mppd_mean": lambda a, b: ms_mppd(a.drive.detach(), b.drive, b.decay, "mean"),
    "mppd_l1": lambda a, b: ms_mppd(a.drive, b.drive, a.decay, power=1),
    "mppd_l1_mean": lambda a, b: ms_mppd(a.drive.detach(), b.drive, b.decay, "mean", power=1),
    "tasad": lambda a, b: tasad(a.spikes, b.spikes),
    "std": lambda a, b: spike_train_distance(a.spikes, b.spikes),
}


@dataclass(frozen=True)
class TaskLoss:
    """A loss of the network's logits.

    Attributes:
        value: The loss, from logits, labels `[B]` and the recipe.
        stepwise: Whether it takes the logits of every step, `[T, B, K]`, in place of `[B, K]`.
        one_step: Whether perturbations are against the logits of one step, drawn for each batch.
    """

    value: Callable[[Tensor, Tensor, Recipe], Tensor]
    stepwise: bool = False
    one_step: bool = False


# name -> loss; a new loss is one row
TASK_LOSSES = {
    "ce": TaskLoss(lambda logits, labels, recipe: F.cross_entropy(logits, labels)),
    "tet": TaskLoss(
        lambda logits, labels, recipe: tet_loss(logits, labels, recipe.tet_weight), stepwise=True
    ),
    # Robust temporal self-ensemble (Wang et al., AAAI 2026, arXiv 2508.11279; of its text we had
    # the abstract): every step's sub-network learns on images perturbed against one of them, drawn
    # at random, so that none falls to its own perturbation or to that of another.
    "rte": TaskLoss(
        lambda logits, labels, recipe: tet_loss(logits, labels, 0.0), stepwise=True, one_step=True
    ),
}


@dataclass(frozen=True)
class Objective:
    """Loss of a batch, and what the history reports of it.

    Attributes:
        loss: What to minimise.
        task: Task loss on the images trained on.
        logits: Logits of them, `[B, K]`.
    """

    loss: Tensor
    task: Tensor
    logits: Tensor


def objective(
    net: nn.Module,
    clean: Tensor,
    perturbed: Tensor,
    labels: Tensor,
    recipe: Recipe,
    epoch: int = 1,
) -> Objective:
    """The recipe's objective on a batch, without the penalty on parameters.

        chi L(clean) + (1 - chi) L(perturbed) + rho distance + sr slope,   or TRADES;
        + guard of the membranes on perturbed images;
        with `certified`, (1 - share) of that + share of the loss of bounds

    Args:
        net: The network; its noise must be the same in all passes.
        clean: Images `[B, C, H, W]`.
        perturbed: The same images, perturbed.
        labels: `[B]`.
        recipe: The recipe.
        epoch: Number of the epoch, from 1, with which weights grow.
    """
    both = bool(recipe.clean_share or recipe.rho or recipe.trades)
    if both and recipe.released:  # the order in which batch norms count them
        clean_logits, natural = _watched(net, clean, recipe)
    logits, attacked = _watched(net, perturbed, recipe)
    task_loss = TASK_LOSSES[recipe.loss].value
    loss = task = task_loss(logits, labels, recipe)
    if both:
        if not recipe.released:
            clean_logits, natural = _watched(net, clean, recipe)
        of_clean = task_loss(clean_logits, labels, recipe)
        loss = recipe.clean_share * of_clean + (1 - recipe.clean_share) * task
        if recipe.trades:
            moved = divergence(_mean(clean_logits), _mean(logits)).mean()
            loss = of_clean + recipe.trades * moved
        if recipe.rho and natural is not None and attacked is not None:
            loss = (
                loss + recipe.rho * DISTANCES[recipe.distance](natural.last, attacked.last).mean()
            )
    if recipe.guard and attacked is not None:
        kept_away = GUARDS[recipe.guard_kind].penalty(attacked, recipe.guard_margin)
        loss = loss + recipe.guard_weight(epoch) * kept_away
    if recipe.sr:
        penalty = gradient_penalty(net, clean, labels, power=2 if recipe.sr_squared else 1)
        loss = loss + recipe.sr * penalty.mean()
    if recipe.certified:
        radius = recipe.certified_eps(epoch)
        share = recipe.certified * radius / recipe.eps
        bound = certified_loss(net, clean, labels, radius)
        loss = (1 - share) * loss + share * bound
    return Objective(loss, task.detach(), _mean(logits).detach())


def _watched(net: nn.Module, images: Tensor, recipe: Recipe) -> tuple[Tensor, Activity | None]:
    """Logits, and the activity of the network where the recipe is about it."""
    with record(net) if recipe.rho or recipe.guard else nullcontext() as activity:
        logits = _logits(net, images, recipe)
    return logits, activity


def _logits(net: nn.Module, images: Tensor, recipe: Recipe) -> Tensor:
    """Logits `[B, K]`, or of every step `[T, B, K]`."""
    stepwise = TASK_LOSSES[recipe.loss].stepwise
    with one_pass():
        logits: Tensor = step_logits(net, images) if stepwise else net(images)
    return logits.float()


def _mean(logits: Tensor) -> Tensor:
    """Logits `[B, K]`, the mean over steps where there are those of every step."""
    return logits.mean(0) if logits.ndim == 3 else logits
