"""The epochs of a training: trained, measured, saved one after the other."""

from __future__ import annotations

import copy
import logging
import math
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from robust_snn.data import OpenImageSet
from robust_snn.metrics import mean_opening
from robust_snn.training.checkpoint import save_checkpoint
from robust_snn.training.loop import (
    Diverged,
    Learner,
    attacked_accuracy,
    clean_accuracy,
    train_epoch,
)
from robust_snn.training.model_card import draw_curves, markdown
from robust_snn.training.optim import build_optimizer
from robust_snn.training.processes import Processes
from robust_snn.training.recipe import Recipe
from robust_snn.training.training_folder import Epoch, State, TrainingFolder
from robust_snn.training.training_progress import Clock, Listener
from robust_snn.utils.atomic_files import write_text
from robust_snn.utils.errors import InputError, resumable
from robust_snn.utils.optional_work import if_possible
from robust_snn.utils.version import __version__

_log = logging.getLogger("robust_snn")


@dataclass(frozen=True)
class TrainingData:
    """Images of a training.

    Attributes:
        train: Images to train on.
        held_out: Images to choose the best weights by, if the recipe holds some out.
        test: Images to measure accuracy on; they decide nothing.
    """

    train: OpenImageSet
    held_out: OpenImageSet | None
    test: OpenImageSet


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Attributes:
        net: The network in eval mode.
        card: What is known about it, as JSON values.
        history: One row per epoch.
    """

    net: nn.Module
    card: dict[str, Any]
    history: tuple[Epoch, ...]


@dataclass
class Session:
    """A training that has passed all checks.

    Attributes:
        net: The network, on its device.
        data: What it trains on and is measured on.
        recipe: The recipe.
        config: Everything that the weights depend on, as the card states it.
        folder: Where everything is saved.
        processes: Where it runs.
        board: TensorBoard's writer, if there is one.
    """

    net: nn.Module
    data: TrainingData
    recipe: Recipe
    config: dict[str, Any]
    folder: TrainingFolder
    processes: Processes
    board: Any

    def run(self, state: State | None, listener: Listener) -> Trained:
        """Trains the epochs that are left, from the state after the last finished one."""
        recipe = self.recipe
        steps = recipe.steps_per_epoch(len(self.data.train))
        train = _placed(self.data.train, self.processes.device)
        if recipe.channels_last:
            self.net.to(memory_format=torch.channels_last)
        if recipe.checkpointing:
            _enable_checkpointing(self.net)
        averaged = ModelEmaV3(self.net, recipe.ema) if recipe.ema else None
        learner = Learner(self.net, *build_optimizer(self.net, recipe, steps), averaged)
        history: tuple[Epoch, ...] = ()
        if state is not None:
            learner.net.load_state_dict(state.net)
            learner.optimizer.load_state_dict(state.optimizer)
            if averaged is not None and state.averaged is not None:
                averaged.module.load_state_dict(state.averaged)
            history = state.history
            if self.processes.first:  # the files may be older, if the kill fell between them
                with self._resumable():
                    self._write_results(learner, state)
            _log.info("going on after epoch %d of %d", len(history), recipe.epochs)
        best, best_epoch = (None, 0) if state is None else (state.best, state.best_epoch)
        clock = Clock(len(history), recipe.epochs, steps, listener)
        for epoch in range(len(history) + 1, recipe.epochs + 1):
            last = history[-1] if history else None
            row = self._epoch(learner, train, epoch, history, partial(clock.report, epoch, last))
            history = (*history, row)
            if self.data.held_out is not None and row is _best_epoch(history):
                best, best_epoch = _copied(learner.result), epoch
            if self.processes.first:
                with self._resumable():
                    self._save(learner, history, best, best_epoch)
            self.processes.wait()
        card = self._card(history)
        if self.processes.first:
            with self._resumable():
                self._write(learner.result, self.folder.weights, history)
            draw = partial(draw_curves, history, self.folder.path / "curves.png")
            if_possible("picture of the curves", draw)
        return Trained(learner.result.eval(), card, history)

    def _resumable(self) -> AbstractContextManager[None]:
        return resumable(self.folder.path, "training")

    def _epoch(
        self,
        learner: Learner,
        train: OpenImageSet,
        epoch: int,
        history: tuple[Epoch, ...],
        after_step: Callable[[int], None],
    ) -> Epoch:
        recipe, seed = self.recipe, self.config["seed"]
        started = time.perf_counter()
        try:
            loss, accuracy, moved = train_epoch(
                learner,
                train,
                recipe,
                self.processes,
                epoch=epoch,
                seed=seed,
                after_step=after_step,
            )
            if history and loss > 2 * max(history[0].train_loss, math.log(len(train.classes))):
                raise Diverged(f"the mean loss of epoch {epoch} is {loss:.3g}, far beyond chance")
        except Diverged as error:
            kept = (
                f"'{self.folder.path}' keeps epoch {epoch - 1}" if epoch > 1 else "nothing is kept"
            )
            raise Diverged(
                f"training diverged: {error}; {kept}; try a smaller learning rate (--lr) "
                "in another folder"
            ) from None
        net, how = learner.result, {"batch_size": recipe.batch_size, "seed": seed}
        test_accuracy, firing_rate = clean_accuracy(net, self.data.test, **how)
        held_out = attacked = None
        if self.data.held_out is not None:
            held_out, _ = clean_accuracy(net, self.data.held_out, **how)
        if recipe.check_every and (epoch % recipe.check_every == 0 or epoch == recipe.epochs):
            images = self.data.test if self.data.held_out is None else self.data.held_out
            attacked = attacked_accuracy(net, images, recipe.check_eps, **how)
        return Epoch(
            epoch=epoch,
            lr=learner.optimizer.param_groups[0]["lr"],
            train_loss=loss,
            train_accuracy=accuracy,
            test_accuracy=test_accuracy,
            opening=mean_opening(net),
            firing_rate=firing_rate,
            held_out_accuracy=held_out,
            attacked_accuracy=attacked,
            seconds=time.perf_counter() - started,
            moved=moved,
        )

    def _save(
        self,
        learner: Learner,
        history: tuple[Epoch, ...],
        best: dict[str, Any] | None,
        best_epoch: int,
    ) -> None:
        """Writes what is known after an epoch; the state first, because it makes all the rest."""
        row = history[-1]
        averaged = None if learner.averaged is None else learner.averaged.module.state_dict()
        optimizer = learner.optimizer.state_dict()
        state = State(history, self.net.state_dict(), optimizer, averaged, best, best_epoch)
        self.folder.save(state)
        self._write_results(learner, state)
        if self.board is not None:
            numbers = {name: value for name, value in asdict(row).items() if value is not None}
            for name, value in numbers.items():
                self.board.add_scalar(name, value, row.epoch)
            self.board.flush()
        _log.info(
            "epoch %d of %d: loss %.3f, train accuracy %.1f %%, test accuracy %.1f %%, %.0f s",
            row.epoch,
            self.recipe.epochs,
            row.train_loss,
            100 * row.train_accuracy,
            100 * row.test_accuracy,
            row.seconds,
        )

    def _write_results(self, learner: Learner, state: State) -> None:
        """Writes the history, and the last and the best weights with their cards, from a state."""
        self.folder.write_history(state.history)
        self._write(learner.result, self.folder.weights, state.history)
        if state.best is not None:
            net = copy.deepcopy(learner.result)
            net.load_state_dict(state.best)
            self._write(net, self.folder.best, state.history[: state.best_epoch])

    def _write(self, net: nn.Module, path: Path, history: tuple[Epoch, ...]) -> None:
        card = self._card(history)
        save_checkpoint(net, path, card)
        write_text(path.with_suffix(".md"), markdown(card))

    def _card(self, history: tuple[Epoch, ...]) -> dict[str, Any]:
        last = history[-1]
        return {
            **self.config,
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "epochs": last.epoch,
            "accuracy": {
                "train": last.train_accuracy,
                "test": last.test_accuracy,
                "held_out": last.held_out_accuracy,
                "attacked": last.attacked_accuracy,
            },
            "perturbed": {
                "epochs": sum(row.moved > 0 for row in history),
                "largest_change": max(row.moved for row in history),
            },
            "opening": last.opening,
            "firing_rate": last.firing_rate,
            "versions": {
                "robust_snn": __version__,
                "torch": torch.__version__,
                "timm": timm.__version__,
                "python": platform.python_version(),
            },
        }


def _copied(net: nn.Module) -> dict[str, Any]:
    return {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}


def _best_epoch(history: tuple[Epoch, ...]) -> Epoch:
    """The epoch with the highest accuracy after the cheap attack, or else on clean images."""
    checked = [row for row in history if row.attacked_accuracy is not None]
    if checked:
        return max(checked, key=lambda row: row.attacked_accuracy or 0.0)
    return max(history, key=lambda row: row.held_out_accuracy or 0.0)


def _placed(data: OpenImageSet, device: torch.device) -> OpenImageSet:
    """The images on a GPU with ample room for them, where no step then waits for them."""
    images = data.images
    if device.type != "cuda" or not isinstance(images, Tensor):
        return data
    if images.nbytes > torch.cuda.mem_get_info(device)[0] // 8:
        return data
    return replace(data, images=images.to(device), labels=data.labels.to(device))


def _enable_checkpointing(net: nn.Module) -> None:
    enable = getattr(net, "set_grad_checkpointing", None)
    if not callable(enable):
        raise InputError(f"{type(net).__name__} has no gradient checkpointing: leave it off")
    enable(True)
