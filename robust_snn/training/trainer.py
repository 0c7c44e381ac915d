"""`train`: a network from a recipe, in a folder, so that a killed training goes on."""

from __future__ import annotations

import importlib.util
import logging
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import to_2tuple
from timm.utils import ModelEmaV3
from torch import nn

from robust_snn.data import ImageSet, check_images
from robust_snn.kernels import derive_seed
from robust_snn.metrics import mean_opening
from robust_snn.models import create_network
from robust_snn.training.checkpoint import save_checkpoint
from robust_snn.training.engine import Engine
from robust_snn.training.loop import (
    Diverged,
    Learner,
    attacked_accuracy,
    measure,
    steps_per_epoch,
    train_epoch,
)
from robust_snn.training.model_card import draw, page
from robust_snn.training.optim import build_optimizer
from robust_snn.training.recipe import Recipe, load_recipe
from robust_snn.training.regularisers import gate_parameters, mean_rate, penalty_strength
from robust_snn.training.training_folder import Epoch, State, TrainingFolder
from robust_snn.training.training_progress import Listener, Progress
from robust_snn.utils.atomic_files import write_text
from robust_snn.utils.errors import InputError, missing_extra
from robust_snn.utils.progress_bar import listening
from robust_snn.utils.version import __version__

_log = logging.getLogger("robust_snn")


@dataclass(frozen=True)
class Trained:
    """What a training gives: the network in eval mode, its card, and one row per epoch."""

    net: nn.Module
    card: dict[str, Any]
    history: tuple[Epoch, ...]


def train(
    model: str,
    data: ImageSet,
    test: ImageSet,
    recipe: str | Path | Recipe = "natural",
    *,
    out: str | Path,
    model_kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool | Listener = False,
    tensorboard: bool = False,
) -> Trained:
    """Trains a model by a recipe.

    After every epoch, `out` holds the weights so far (`model.safetensors`), their card
    (`model.json` and `model.md`), `history.csv` and what is needed to go on (`state.pt`); the best
    weights (`best.safetensors`) where the recipe holds images out; and in the end `curves.png` if
    matplotlib is installed. After a crash or Ctrl-C, the same call goes on after the last finished
    epoch, and on the CPU gives the very weights of an uninterrupted training.

    Under `torchrun` or `accelerate launch`, the processes share every batch.

    Args:
        model: Registered name.
        data: Images to train on.
        test: Images to measure accuracy on; they decide nothing.
        recipe: Name of a shipped recipe, path of a YAML file, or a `Recipe`.
        out: Folder of the training.
        model_kwargs: Arguments of the model. Channels, classes and image size follow from the data
            where they are left out.
        seed: Seed of the weights, the order, the augmentation and all noise.
        device: Where to train.
        progress: Show a progress bar, or call this with every `Progress`.
        tensorboard: Also write the history for TensorBoard, into `out`.

    Raises:
        InputError: If an argument is wrong, or `out` holds another training; nothing is written.
        Diverged: If the loss rises beyond chance or is no longer finite; `out` keeps the weights of
            the epoch before.
        ImportError: If TensorBoard is wanted and not installed.
    """
    kwargs = fitted_kwargs(model, model_kwargs or {}, data)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "weights"))
        net = create_network(model, **kwargs)
    for images in (data, test):
        _check_data(net, images, kwargs)
    given = load_recipe(recipe)
    engine = Engine(torch.device(device), given.precision)
    part, held = _parted(data, given.held_out)
    recipe = _resolved(given, net, len(part))
    engine.check(min(recipe.batch_size, len(part)))
    config = _config(model, kwargs, data, test, recipe, seed)
    folder = TrainingFolder(out, config)
    state = folder.load()
    engine.wait()  # until all processes have seen the folder as it was
    if engine.first:
        folder.begin()
    board = _board(folder.path, state) if tensorboard and engine.first else None
    session = _Session(
        net.to(engine.device), part, held, test, recipe, config, folder, engine, board
    )
    with listening(progress if engine.first else False) as listener:
        return session.run(state, listener)


def fitted_kwargs(model: str, kwargs: Mapping[str, Any], data: ImageSet) -> dict[str, Any]:
    """Arguments of a model; channels, classes, image size and steps of events from the data."""
    height, width = data.images.shape[-2:]
    fitted: dict[str, Any] = {"num_classes": len(data.classes), "in_chans": data.images.shape[-3]}
    if model.startswith("snn_"):  # not every model of timm is built for one size
        fitted["img_size"] = height if height == width else (height, width)
        if data.images.ndim == 5:
            fitted["T"] = data.images.shape[1]
    return {**fitted, **kwargs}


@dataclass
class _Session:
    """A training that has passed all checks."""

    net: nn.Module
    data: ImageSet
    held: ImageSet | None
    test: ImageSet
    recipe: Recipe
    config: dict[str, Any]
    folder: TrainingFolder
    engine: Engine
    board: Any

    def run(self, state: State | None, listener: Listener) -> Trained:
        """Trains the epochs that are left."""
        recipe = self.recipe
        steps = steps_per_epoch(len(self.data), recipe.batch_size)
        if recipe.checkpointing:
            _recomputing(self.net)
        averaged = ModelEmaV3(self.net, recipe.ema) if recipe.ema else None
        learner = Learner(self.net, *build_optimizer(self.net, recipe, steps), averaged)
        history: tuple[Epoch, ...] = ()
        if state is not None:
            learner.net.load_state_dict(state.net)
            learner.optimizer.load_state_dict(state.optimizer)
            if averaged is not None and state.averaged is not None:
                averaged.module.load_state_dict(state.averaged)
            history = state.history
            _log.info("going on after epoch %d of %d", len(history), recipe.epochs)
        clock = _Clock(len(history), recipe.epochs, steps, listener)
        for epoch in range(len(history) + 1, recipe.epochs + 1):
            last = history[-1] if history else None
            row = self._epoch(learner, epoch, history, partial(clock.tell, epoch, last))
            history = (*history, row)
            if self.engine.first:
                self._save(learner, history)
            self.engine.wait()
        card = self._card(history)
        if self.engine.first:
            self._write(learner.result, self.folder.weights, history)
            if importlib.util.find_spec("matplotlib"):
                draw(history, self.folder.path / "curves.png")
        return Trained(learner.result.eval(), card, history)

    def _epoch(
        self,
        learner: Learner,
        epoch: int,
        history: tuple[Epoch, ...],
        after_step: Callable[[int], None],
    ) -> Epoch:
        recipe, seed, engine = self.recipe, self.config["seed"], self.engine
        started = time.perf_counter()
        try:
            loss, accuracy = train_epoch(
                learner, self.data, recipe, engine, epoch=epoch, seed=seed, after_step=after_step
            )
            if history and loss > 2 * max(history[0].train_loss, math.log(len(self.data.classes))):
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
        test_accuracy, firing_rate = measure(net, self.test, **how)
        held = attacked = None
        if self.held is not None:
            held, _ = measure(net, self.held, **how)
        if recipe.check_every and (epoch % recipe.check_every == 0 or epoch == recipe.epochs):
            images = self.test if self.held is None else self.held
            attacked = attacked_accuracy(net, images, recipe.check_eps, **how)
        return Epoch(
            epoch=epoch,
            lr=learner.optimizer.param_groups[0]["lr"],
            train_loss=loss,
            train_accuracy=accuracy,
            test_accuracy=test_accuracy,
            opening=mean_opening(net),
            firing_rate=firing_rate,
            held_out_accuracy=held,
            attacked_accuracy=attacked,
            seconds=time.perf_counter() - started,
        )

    def _save(self, learner: Learner, history: tuple[Epoch, ...]) -> None:
        """Writes what is known after an epoch; the state first, because it makes all the rest."""
        row = history[-1]
        averaged = None if learner.averaged is None else learner.averaged.module.state_dict()
        optimizer = learner.optimizer.state_dict()
        self.folder.save(State(history, self.net.state_dict(), optimizer, averaged))
        self._write(learner.result, self.folder.weights, history)
        if self.held is not None and row is _best(history):
            self._write(learner.result, self.folder.best, history)
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

    def _write(self, net: nn.Module, path: Path, history: tuple[Epoch, ...]) -> None:
        card = self._card(history)
        save_checkpoint(net, path, card)
        write_text(path.with_suffix(".md"), page(card))

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
            "opening": last.opening,
            "firing_rate": last.firing_rate,
            "versions": {
                "robust_snn": __version__,
                "torch": torch.__version__,
                "timm": timm.__version__,
                "python": platform.python_version(),
            },
        }


@dataclass
class _Clock:
    """Tells a listener how far the training is, at the pace of this process."""

    first: int
    epochs: int
    steps: int
    listener: Listener

    def __post_init__(self) -> None:
        self.began = time.perf_counter()

    def tell(self, epoch: int, last: Epoch | None, step: int) -> None:
        """Reports that `step` steps of an epoch are done."""
        now = epoch - 1 + step / self.steps
        pace = (time.perf_counter() - self.began) / (now - self.first)
        remaining = pace * (self.epochs - now)
        self.listener(Progress(epoch, self.epochs, now / self.epochs, remaining, last))


def _check_data(net: nn.Module, data: ImageSet, kwargs: Mapping[str, Any]) -> None:
    """Refuses images that do not suit the network, before anything is written."""
    check_images(
        data.images, data.labels, in_chans=kwargs["in_chans"], num_classes=kwargs["num_classes"]
    )
    size, found = to_2tuple(kwargs.get("img_size", data.images.shape[-2:])), data.images.shape[-2:]
    if tuple(size) != tuple(found):
        raise InputError(
            f"the model is built for images of {size[0]}x{size[1]}, "
            f"'{data.name}' ({data.split}) has {found[0]}x{found[1]}"
        )


def _resolved(recipe: Recipe, net: nn.Module, images: int) -> Recipe:
    """The recipe with the strength of the gates' penalty that it leads to."""
    if recipe.gate_penalty is not None or not recipe.gate_epochs or not gate_parameters(net):
        return recipe
    if recipe.optimizer != "sgd":
        raise InputError(
            f"gate_opening is a rule for sgd; with {recipe.optimizer}, give gate_penalty "
            "(--set gate_penalty=...)"
        )
    start = mean_opening(net)
    strength = penalty_strength(
        start,
        min(start, recipe.gate_opening),
        steps=recipe.gate_epochs * steps_per_epoch(images, recipe.batch_size),
        lr=mean_rate(recipe.lr, recipe.min_lr, recipe.gate_epochs / recipe.epochs),
        momentum=recipe.momentum,
    )
    return recipe.replace(gate_penalty=strength)


def _parted(data: ImageSet, share: float) -> tuple[ImageSet, ImageSet | None]:
    """The images to train on, and those held out: the last ones, in which classes take turns."""
    kept = len(data) - round(share * len(data))
    if not share:
        return data, None
    if kept in (0, len(data)):
        raise InputError(f"held_out is {share:g} of {len(data)} images: too small to part them")
    held = replace(data, images=data.images[kept:], labels=data.labels[kept:])
    return data.take(kept), held


def _best(history: tuple[Epoch, ...]) -> Epoch:
    """The epoch with the highest accuracy after the cheap attack, or else on clean images."""
    checked = [row for row in history if row.attacked_accuracy is not None]
    if checked:
        return max(checked, key=lambda row: row.attacked_accuracy or 0.0)
    return max(history, key=lambda row: row.held_out_accuracy or 0.0)


def _recomputing(net: nn.Module) -> None:
    enable = getattr(net, "set_grad_checkpointing", None)
    if not callable(enable):
        raise InputError(f"{type(net).__name__} has no gradient checkpointing: leave it off")
    enable(True)


def _board(folder: Path, state: State | None) -> Any:
    """A TensorBoard writer that goes on where the state ends."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise missing_extra("TensorBoard", "tensorboard") from error
    done = 0 if state is None else len(state.history)
    return SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)


def _config(
    model: str,
    kwargs: dict[str, Any],
    data: ImageSet,
    test: ImageSet,
    recipe: Recipe,
    seed: int,
) -> dict[str, Any]:
    """Everything that the weights depend on, as the card states it."""
    return {
        "model": {"name": model, "kwargs": kwargs},
        "data": {**_described(data), "classes": list(data.classes)},
        "test": _described(test),
        "recipe": asdict(recipe),
        "seed": seed,
    }


def _described(data: ImageSet) -> dict[str, Any]:
    return {"name": data.name, "split": data.split, "n": len(data), "sha256": data.sha256}
