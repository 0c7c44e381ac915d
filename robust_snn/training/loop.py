"""One epoch of training, and the measurement that follows it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from robust_snn.attacks import PGD
from robust_snn.data import OpenImageSet, augment, augment_events, cut_out
from robust_snn.data.events import MIRRORED
from robust_snn.data.lazy_images import LazyImages
from robust_snn.kernels import derive_seed, sample_keys
from robust_snn.models.readout import OneStep
from robust_snn.neurons import LIF, keyed
from robust_snn.training.perturb import NOISELESS, perturbed
from robust_snn.training.processes import Processes
from robust_snn.training.recipe import Recipe
from robust_snn.training.regularisers import (
    clamp_parameters,
    gate_parameters,
    gate_penalty,
    orthogonal_retraction,
)
from robust_snn.training.training_losses import TASK_LOSSES, Objective, objective
from robust_snn.victim import Victim
from robust_snn.victim.scoring import accuracy, correct

READ_TOGETHER = 32  # steps on a GPU whose losses are read together


class Diverged(RuntimeError):
    """The loss or a weight is no longer a finite number."""


@dataclass(frozen=True)
class Learner:
    """What changes while training.

    Attributes:
        net: The network.
        optimizer: Its optimiser.
        scheduler: The learning rate as a function of the step's number.
        averaged: Averaged weights, if the recipe has them.
    """

    net: nn.Module
    optimizer: Optimizer
    scheduler: Scheduler
    averaged: ModelEmaV3 | None

    @property
    def result(self) -> nn.Module:
        """The network to measure and to save."""
        return self.net if self.averaged is None else self.averaged.module


def train_epoch(
    learner: Learner,
    data: OpenImageSet,
    recipe: Recipe,
    processes: Processes,
    *,
    epoch: int,
    seed: int,
    after_step: Callable[[int], None],
) -> tuple[float, float, float]:
    """Trains for one epoch. All randomness follows from the seed and the number of the epoch.

    Args:
        learner: Network, optimiser and schedule.
        data: Training images.
        recipe: The recipe.
        processes: Where it runs.
        epoch: Number of the epoch, from 1.
        seed: Seed of the training.
        after_step: Called with the number of finished steps of this epoch.

    Returns:
        Mean task loss and accuracy on the images trained on, and the largest change of a pixel.

    Raises:
        Diverged: If the loss, a weight or a statistic of a batch norm is not finite.
    """
    net = learner.net.train()
    shifts, starts, rows_drawn, order = (
        _generator(seed, name, epoch) for name in ("augment", "attack start", "retraction", "order")
    )
    # the attack's noise is none that the training's own steps see
    attacked = derive_seed(seed, "attack noise", epoch)
    victim = Victim(
        net,
        gradient=recipe.gradient,
        eot=recipe.eot,
        seed=attacked,
        channels_last=recipe.channels_last,
        bf16=recipe.perturbation_precision == "bf16",
    )
    kind, noise_seed = recipe.perturbation_in(epoch), derive_seed(seed, "noise", epoch)
    steps = recipe.steps_per_epoch(len(data))
    shuffled = torch.randperm(len(data), generator=order)
    tally = _Tally(epoch, processes.device)
    with torch.random.fork_rng():  # dropout draws from the global generator
        torch.manual_seed(derive_seed(seed, "global", epoch))
        batches = shuffled.split(recipe.batch_size)[:steps]
        for step, batch in enumerate(batches):
            part = processes.own_rows(len(batch))
            rows = batch.to(data.images.device, non_blocking=True)
            clean = data.images[rows]
            if isinstance(data.images, LazyImages) and step + 1 < steps:
                data.images.read_ahead(batches[step + 1].numpy())
            clean = _augmented(clean, recipe, shifts, mirrored=data.name in MIRRORED)
            # drawn for the whole batch and on the CPU, so that no device or process matters
            start = clean if kind in NOISELESS else torch.randn(clean.shape, generator=starts)
            clean, start, labels = (
                x[part].to(processes.device, non_blocking=True)
                for x in (clean, start, data.labels[rows])
            )
            if recipe.channels_last and clean.ndim == 4:
                clean = clean.contiguous(memory_format=torch.channels_last)
            if TASK_LOSSES[recipe.loss].one_step:
                share = float(torch.rand((), generator=starts))
                victim = victim.replace(net=OneStep(net, share))
            images = perturbed(victim, clean, labels, recipe, kind, start)
            learner.scheduler.step_update((epoch - 1) * steps + (0 if recipe.released else step))
            keys = sample_keys(noise_seed, torch.arange(len(batch))[part], call=step)
            keys = keys.to(processes.device, non_blocking=True)
            with keyed(keys), processes.autocast():
                outcome = objective(net, clean, images, labels, recipe, epoch)
            tally.add(outcome, labels, (images - clean).abs().max())
            gates = gate_parameters(net) if epoch <= recipe.gate_epochs else []
            _update(learner, outcome.loss, gates, recipe, processes, rows_drawn)
            if learner.averaged is not None:
                learner.averaged.update(net, step=(epoch - 1) * steps + step)
            after_step(step + 1)
    tally.read()
    for name, tensor in chain(net.named_parameters(), net.named_buffers()):
        if not tensor.isfinite().all():
            raise Diverged(f"'{name}' is not finite after epoch {epoch}")
    loss_sum, right, seen = processes.total((tally.loss, tally.right, tally.seen))
    return loss_sum / seen, right / seen, tally.moved


def _augmented(x: Tensor, recipe: Recipe, shifts: torch.Generator, mirrored: bool) -> Tensor:
    """Images `[B, C, H, W]`, or event frames, moved, flipped and cut out as a recipe says.

    Args:
        x: The images.
        recipe: The recipe.
        shifts: Draws the changes.
        mirrored: Whether event frames may be flipped.
    """
    if recipe.augment and x.ndim == 5:
        x = augment_events(x, shifts, flip=mirrored)
    elif recipe.augment and x.shape[1] == 3:
        x = augment(x, shifts)
    return cut_out(x, shifts, side=recipe.cutout) if recipe.cutout else x


class _Tally:
    """Sums the losses and right answers of an epoch.

    Reading a number from a GPU stops the CPU until the GPU has caught up, so those of several steps
    are read together there; a loss that is not finite is noticed as much later.
    """

    def __init__(self, epoch: int, device: torch.device) -> None:
        self.epoch, self.together = epoch, 1 if device.type == "cpu" else READ_TOGETHER
        self.loss = self.right = self.seen = self.moved = 0.0
        self.steps = 0
        self._unread: list[tuple[Tensor, int]] = []

    def add(self, outcome: Objective, labels: Tensor, moved: Tensor) -> None:
        """Adds a step, and how far its images are from the clean ones.

        Raises:
            Diverged: If a loss is known not to be finite.
        """
        right = (outcome.logits.argmax(1) == labels).sum()
        numbers = torch.stack([outcome.loss.detach(), outcome.task, right.float(), moved])
        self._unread.append((numbers, len(labels)))
        if len(self._unread) == self.together:
            self.read()

    def read(self) -> None:
        """Waits for the steps that were added.

        Raises:
            Diverged: If a loss is not finite.
        """
        if not self._unread:
            return
        numbers, sizes = zip(*self._unread, strict=True)
        self._unread = []
        rows = torch.stack(numbers).tolist()
        for (loss, task, right, moved), size in zip(rows, sizes, strict=True):
            self.steps += 1
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} in step {self.steps} of epoch {self.epoch}")
            self.loss += task * size
            self.right += right
            self.seen += size
            self.moved = max(self.moved, moved)


def _update(
    learner: Learner,
    loss: Tensor,
    gates: list[nn.Parameter],
    recipe: Recipe,
    processes: Processes,
    rows: torch.Generator,
) -> None:
    """One step on the joint objective, and back to where parameters may be."""
    net = learner.net
    if gates:
        loss = loss + gate_penalty(gates, recipe.gate_penalty or 0.0)
    learner.optimizer.zero_grad()
    loss.backward()
    if not gates:
        for gate in gate_parameters(net):
            gate.grad = None  # momentum does not move it either
    processes.average_gradients(net)
    if recipe.clip_norm:
        nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_norm)
    learner.optimizer.step()
    clamp_parameters(net)
    if recipe.retraction:
        orthogonal_retraction(net, recipe.retraction, rows)


@torch.no_grad()
def clean_accuracy(
    net: nn.Module, data: OpenImageSet, *, batch_size: int, seed: int
) -> tuple[float, float]:
    """Accuracy with one noise draw per image, and the mean firing rate of all LIF neurons."""
    spikes = _SpikeCount(net)
    victim = Victim(net, seed=derive_seed(seed, "test"))
    with spikes:
        right = accuracy(victim, data.images, data.labels, draws=1, batch_size=batch_size)
    return right, spikes.rate


def attacked_accuracy(
    net: nn.Module, data: OpenImageSet, eps: float, *, batch_size: int, seed: int
) -> float:
    """Accuracy after a cheap attack, PGD with 5 steps: to choose weights by, no verdict."""
    victim = Victim(net, seed=derive_seed(seed, "check"))
    right = 0
    for rows in torch.arange(len(data)).split(batch_size):
        images, labels = data.images[rows], data.labels[rows]
        attack = PGD(steps=5, keep=1, select=1)
        found = attack(victim, images, labels, eps=eps, ids=rows)
        right += int(correct(victim, found.images, labels, draws=1, ids=rows).sum())
    return right / len(data)


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
