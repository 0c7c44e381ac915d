"""One epoch of training, and the measurement that follows it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from robust_snn.attacks.fgsm import evaluating, fgsm, rfgsm
from robust_snn.data import ImageSet, augment, augment_events
from robust_snn.data.events import MIRRORED
from robust_snn.kernels import derive_seed
from robust_snn.neurons import LIF, set_noise
from robust_snn.training.recipe import Recipe
from robust_snn.training.regularisers import clamp_parameters, gate_parameters, gate_penalty
from robust_snn.victim import Victim

Perturb = Callable[[Tensor, Tensor], Tensor]


class Diverged(RuntimeError):
    """The loss or a weight is no longer a finite number."""


@dataclass(frozen=True)
class Learner:
    """What changes while training."""

    net: nn.Module
    optimizer: Optimizer
    scheduler: Scheduler


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Optimiser steps per epoch: a last, smaller batch is left out unless it is the only one."""
    return max(1, images // batch_size)


def train_epoch(
    learner: Learner,
    data: ImageSet,
    recipe: Recipe,
    *,
    epoch: int,
    seed: int,
    device: torch.device,
    after_step: Callable[[int], None],
) -> tuple[float, float]:
    """Trains for one epoch. All randomness follows from the seed and the number of the epoch.

    Args:
        learner: Network, optimiser and schedule.
        data: Training images.
        recipe: The recipe.
        epoch: Number of the epoch, from 1.
        seed: Seed of the training.
        device: Where the network is.
        after_step: Called with the number of finished steps of this epoch.

    Returns:
        Mean task loss and accuracy on the images trained on.

    Raises:
        Diverged: If the loss or a weight is not finite.
    """
    net = learner.net.train()
    draws = _generator(seed, "augment", epoch)
    perturb = _perturbation(net, recipe, seed, epoch)
    order = torch.randperm(len(data), generator=_generator(seed, "order", epoch))
    steps = steps_per_epoch(len(data), recipe.batch_size)
    set_noise(net, "fresh", derive_seed(seed, "noise", epoch))
    loss_sum = right = seen = 0.0
    with torch.random.fork_rng():  # dropout draws from the global generator
        torch.manual_seed(derive_seed(seed, "global", epoch))
        for step, rows in enumerate(order.split(recipe.batch_size)[:steps]):
            images, labels = data.images[rows], data.labels[rows].to(device)
            if recipe.augment and images.ndim == 5:
                images = augment_events(images, draws, flip=data.name in MIRRORED)
            elif recipe.augment and images.shape[1] == 3:
                images = augment(images, draws)
            images = perturb(images.to(device), labels)
            learner.scheduler.step_update((epoch - 1) * steps + step)
            logits = net(images)
            loss = F.cross_entropy(logits, labels)
            if not math.isfinite(value := loss.item()):
                raise Diverged(f"the loss is {value} in step {step + 1} of epoch {epoch}")
            _update(learner, loss, recipe)
            loss_sum += value * len(rows)
            right += int((logits.argmax(1) == labels).sum())
            seen += len(rows)
            after_step(step + 1)
    for name, parameter in net.named_parameters():
        if not parameter.isfinite().all():
            raise Diverged(f"'{name}' is not finite after epoch {epoch}")
    return loss_sum / seen, right / seen


def _update(learner: Learner, task_loss: Tensor, recipe: Recipe) -> None:
    """One step on the joint objective, and back to where parameters may be."""
    loss = task_loss
    if gates := gate_parameters(learner.net):
        loss = loss + gate_penalty(gates, recipe.gate_penalty or 0.0)
    learner.optimizer.zero_grad()
    loss.backward()
    if recipe.clip_norm:
        nn.utils.clip_grad_norm_(learner.net.parameters(), recipe.clip_norm)
    learner.optimizer.step()
    clamp_parameters(learner.net)


def _perturbation(net: nn.Module, recipe: Recipe, seed: int, epoch: int) -> Perturb:
    """The perturbation of one epoch, with noise that the training's own steps do not see."""
    if recipe.perturbation == "none":
        return lambda images, labels: images
    noise = derive_seed(seed, "attack noise", epoch)
    victim = Victim(net, gradient=recipe.gradient, eot=recipe.eot, seed=noise)
    if recipe.perturbation == "fgsm":
        return lambda images, labels: fgsm(victim, images, labels, recipe.eps)
    start = _generator(seed, "attack start", epoch)
    return lambda images, labels: rfgsm(victim, images, labels, recipe.eps, recipe.alpha, start)


@torch.no_grad()
def measure(
    net: nn.Module, data: ImageSet, *, batch_size: int, seed: int, device: torch.device
) -> tuple[float, float]:
    """Accuracy with one noise draw per image, and the mean firing rate of all LIF neurons."""
    spikes = _SpikeCount(net)
    victim = Victim(net, seed=derive_seed(seed, "test"))
    right = 0
    with evaluating(net), spikes:
        for rows in torch.arange(len(data)).split(batch_size):
            logits = victim.sample(data.images[rows].to(device), rows)
            right += int((logits.argmax(1).cpu() == data.labels[rows]).sum())
    return right / len(data), spikes.rate


class _SpikeCount:
    """Counts, while active, the spikes that leave the LIF layers of a network."""

    def __init__(self, net: nn.Module) -> None:
        self.layers = [module for module in net.modules() if isinstance(module, LIF)]
        self.spikes = self.places = 0.0

    def __enter__(self) -> None:
        self.hooks = [layer.register_forward_hook(self._count) for layer in self.layers]

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _count(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.spikes += float(output.sum())
        self.places += output.numel()

    @property
    def rate(self) -> float:
        return self.spikes / self.places if self.places else 0.0


def _generator(seed: int, *names: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, *names))
