"""`train`: a network from a recipe, in a folder, so that a killed training goes on."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import to_2tuple
from torch import nn

import robust_snn
from robust_snn.bar import listening
from robust_snn.data import ImageSet, check_images
from robust_snn.errors import InputError
from robust_snn.kernels import derive_seed
from robust_snn.metrics import mean_opening
from robust_snn.models import create_network
from robust_snn.training.checkpoint import save_checkpoint
from robust_snn.training.folder import Epoch, State, TrainingFolder
from robust_snn.training.loop import Diverged, Learner, measure, steps_per_epoch, train_epoch
from robust_snn.training.optim import build_optimizer
from robust_snn.training.progress import Listener, Progress
from robust_snn.training.recipe import Recipe, load_recipe
from robust_snn.training.regularisers import gate_parameters, penalty_strength

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
) -> Trained:
    """Trains a model by a recipe.

    After every epoch, `out` holds the weights so far (`model.safetensors`), their card
    (`model.json`), `history.csv` and what is needed to go on (`state.pt`). After a crash or Ctrl-C,
    the same call goes on after the last finished epoch, and on the CPU gives the very weights of an
    uninterrupted training.

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

    Raises:
        InputError: If an argument is wrong, or `out` holds another training; nothing is written.
        Diverged: If the loss is no longer finite; `out` keeps the weights of the epoch before.
    """
    kwargs = fitted_kwargs(model, model_kwargs or {}, data)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "weights"))
        net = create_network(model, **kwargs)
    for images in (data, test):
        _check_data(net, images, kwargs)
    recipe = _resolved(load_recipe(recipe), net, len(data))
    config = _config(model, kwargs, data, test, recipe, seed)
    folder = TrainingFolder(out, config)
    state = folder.load()
    folder.begin()
    session = _Session(net.to(device), data, test, recipe, config, folder, torch.device(device))
    with listening(progress) as listener:
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
    test: ImageSet
    recipe: Recipe
    config: dict[str, Any]
    folder: TrainingFolder
    device: torch.device

    def run(self, state: State | None, listener: Listener) -> Trained:
        """Trains the epochs that are left."""
        recipe = self.recipe
        steps = steps_per_epoch(len(self.data), recipe.batch_size)
        learner = Learner(self.net, *build_optimizer(self.net, recipe, steps))
        history: tuple[Epoch, ...] = ()
        if state is not None:
            learner.net.load_state_dict(state.net)
            learner.optimizer.load_state_dict(state.optimizer)
            history = state.history
            _log.info("going on after epoch %d of %d", len(history), recipe.epochs)
        clock = _Clock(len(history), recipe.epochs, steps, listener)
        for epoch in range(len(history) + 1, recipe.epochs + 1):
            last = history[-1] if history else None
            history = (*history, self._epoch(learner, epoch, partial(clock.tell, epoch, last)))
            self._save(learner, history)
        card = self._card(history)
        save_checkpoint(self.net, self.folder.weights, card)
        return Trained(self.net.eval(), card, history)

    def _epoch(self, learner: Learner, epoch: int, after_step: Callable[[int], None]) -> Epoch:
        recipe, seed = self.recipe, self.config["seed"]
        started = time.perf_counter()
        try:
            loss, accuracy = train_epoch(
                learner,
                self.data,
                recipe,
                epoch=epoch,
                seed=seed,
                device=self.device,
                after_step=after_step,
            )
        except Diverged as error:
            kept = (
                f"'{self.folder.path}' keeps epoch {epoch - 1}" if epoch > 1 else "nothing is kept"
            )
            raise Diverged(
                f"training diverged: {error}; {kept}; try a smaller learning rate (--lr) "
                "in another folder"
            ) from None
        test_accuracy, firing_rate = measure(
            self.net, self.test, batch_size=recipe.batch_size, seed=seed, device=self.device
        )
        return Epoch(
            epoch=epoch,
            lr=learner.optimizer.param_groups[0]["lr"],
            train_loss=loss,
            train_accuracy=accuracy,
            test_accuracy=test_accuracy,
            opening=mean_opening(self.net),
            firing_rate=firing_rate,
            seconds=time.perf_counter() - started,
        )

    def _save(self, learner: Learner, history: tuple[Epoch, ...]) -> None:
        """Writes what is known after an epoch; the state first, because it makes all the rest."""
        row = history[-1]
        self.folder.save(State(history, self.net.state_dict(), learner.optimizer.state_dict()))
        save_checkpoint(self.net, self.folder.weights, self._card(history))
        _log.info(
            "epoch %d of %d: loss %.3f, train accuracy %.1f %%, test accuracy %.1f %%, %.0f s",
            row.epoch,
            self.recipe.epochs,
            row.train_loss,
            100 * row.train_accuracy,
            100 * row.test_accuracy,
            row.seconds,
        )

    def _card(self, history: tuple[Epoch, ...]) -> dict[str, Any]:
        last = history[-1]
        return {
            **self.config,
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "epochs": last.epoch,
            "accuracy": {"train": last.train_accuracy, "test": last.test_accuracy},
            "opening": last.opening,
            "firing_rate": last.firing_rate,
            "versions": {
                "robust_snn": robust_snn.__version__,
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
    if recipe.gate_penalty is not None or not gate_parameters(net):
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
        steps=recipe.epochs * steps_per_epoch(images, recipe.batch_size),
        lr=(recipe.lr + recipe.min_lr) / 2,
        momentum=recipe.momentum,
    )
    return recipe.with_(gate_penalty=strength)


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
