"""`train`: a network from a recipe, in a folder, so that a killed training resumes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from timm.layers import to_2tuple
from torch import nn

from robust_snn.certificates.bounded_network import check_bounded
from robust_snn.data import OpenImageSet, check_images, check_labels
from robust_snn.data.image_digests import data_digests
from robust_snn.data.image_set import ImageSet
from robust_snn.data.lazy_images import LazyImages
from robust_snn.data.map_style import MapStyle, is_map_style, open_set
from robust_snn.kernels import derive_seed
from robust_snn.metrics import mean_opening
from robust_snn.models import MECHANISMS, create_network, fitted_kwargs, recorded_kwargs
from robust_snn.neurons import HomeostaticLIF, NoisyModule
from robust_snn.neurons.pass_settings import is_neuron
from robust_snn.training.checkpoint import load_checkpoint
from robust_snn.training.processes import Processes
from robust_snn.training.recipe import Recipe, load_recipe
from robust_snn.training.regularisers import gate_parameters, mean_rate, penalty_strength
from robust_snn.training.session import Session, Trained, TrainingData
from robust_snn.training.training_folder import State, TrainingFolder
from robust_snn.training.training_progress import Listener
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError, missing_extra, resumable, unknown
from robust_snn.utils.known_device import known_device
from robust_snn.utils.modules import weights_sha256
from robust_snn.utils.progress_bar import progress_listener
from robust_snn.utils.user_files import check_output_folder
from robust_snn.victim.checked_inputs import first_images

IN_MEMORY = 2**30  # bytes of images on disk up to which a training keeps them in memory
GATE_SETTINGS = ("gate_penalty", "gate_opening", "gate_share")

_log = logging.getLogger("robust_snn")


@checked_types
def train(
    model: str,
    data: OpenImageSet | MapStyle,
    test: OpenImageSet | MapStyle,
    recipe: str | Path | Recipe = "natural",
    *,
    out: str | Path,
    model_kwargs: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool | Listener = False,
    tensorboard: bool = False,
) -> Trained:
    """Trains a model by a recipe.

    After every epoch, `out` holds the weights so far (`model.safetensors`), their card
    (`model.json` and `model.md`), `history.csv` and what is needed to resume (`state.pt`); the best
    weights (`best.safetensors`) where the recipe holds images out; and in the end `curves.png`,
    or a log line why there is none. After a crash or Ctrl-C, the same call resumes after the last
    finished epoch, and on the CPU gives the very weights of an uninterrupted training. Where
    another process trains in `out`, it waits for that first.

    Under `torchrun` or `accelerate launch`, the processes share every batch.

    Args:
        model: Registered name.
        data: Images to train on; or a map-style data set of images or pictures with labels. Where
            they lie on disk and are more than 1 GiB, they are read as they are needed.
        test: Images to measure accuracy on; they decide nothing.
        recipe: Name of a shipped recipe, path of a YAML file, or a `Recipe`.
        out: Folder of the training.
        model_kwargs: Arguments of the model. Channels, classes and image size follow from the data
            where they are left out.
        start: Checkpoint whose weights it starts from, such as one of `convert`; random ones if
            left out.
        seed: Seed of the weights, the order, the augmentation and all noise.
        device: Where to train.
        progress: Show a progress bar, or call this with every `TrainingProgress`.
        tensorboard: Also write the history for TensorBoard, into `out`.

    Raises:
        InputError: If an argument is wrong, or `out` holds another training; nothing is written.
        Diverged: If the loss rises beyond chance or is no longer finite; `out` keeps the weights of
            the epoch before.
        FolderError: If `out` cannot be written to in the middle, as on a full disk.
        ImportError: If TensorBoard is wanted and not installed.
    """
    check_output_folder(out, "the training")
    data, test = _opened(data, "train"), _opened(test, "test")
    place, kwargs = known_device(device), fitted_kwargs(model, model_kwargs or {}, data)
    net = _initial(model, kwargs, (data, test), seed)
    if not any(map(is_neuron, net.modules())):
        _log.warning("%s has no spiking neurons of robust_snn; it is trained as it is", model)
    if start is not None:
        load_checkpoint(net, start)
    (data, described), (test, tested) = map(_identified, (data, test))
    given = load_recipe(recipe)
    processes = Processes(place, given.precision)
    split = _hold_out(data, given.held_out, test)
    recipe = _resolved(given, net, split.train)
    processes.check_batch_size(min(recipe.batch_size, len(split.train)))
    config = {
        "model": {"name": model, "kwargs": recorded_kwargs(net, kwargs)},
        "data": {**described, "classes": list(data.classes)},
        "test": tested,
        "recipe": asdict(recipe),
        "seed": seed,
    }
    if start is not None:
        config["start"] = weights_sha256(net)
    folder = TrainingFolder(out, config)
    processes.wait()  # until all processes have seen the folder as it was
    with folder.begun() if processes.first else nullcontext():
        processes.wait()  # until it is this training's
        with resumable(folder.path, "training"):
            state = folder.load()
        board = _board(folder.path, state) if tensorboard and processes.first else None
        session = Session(net.to(processes.device), split, recipe, config, folder, processes, board)
        with progress_listener(progress if processes.first else False) as listener:
            return session.run(state, listener)


def check_training(
    model: str,
    data: OpenImageSet,
    test: OpenImageSet,
    recipe: Recipe,
    model_kwargs: Mapping[str, Any],
) -> nn.Module:
    """Refuses what `train` would refuse of these arguments; gives the network, untrained.

    Raises:
        InputError: If the network, the images and the recipe do not go together.
    """
    net = _initial(model, fitted_kwargs(model, model_kwargs, data), (data, test), seed=0)
    _resolved(recipe, net, _hold_out(data, recipe.held_out, test).train)
    return net


def _initial(
    model: str, kwargs: Mapping[str, Any], images: Sequence[OpenImageSet], seed: int
) -> nn.Module:
    """The network before it is trained, which suits all these images."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "weights"))
        net = create_network(model, **kwargs)
    for some in images:
        _check_data(net, some, kwargs)
    return net


def _opened(data: OpenImageSet | MapStyle, split: str) -> OpenImageSet:
    """The images as a set; in memory where they are few, since every epoch reads them again."""
    if not isinstance(data, OpenImageSet):
        if not is_map_style(data):
            raise InputError(f"images to {split} are no set with labels, but {type(data).__name__}")
        data = open_set(data, type(data).__name__, split, None, None)
    small = 4 * data.images.shape.numel() <= IN_MEMORY
    return data.loaded() if small and isinstance(data.images, LazyImages) else data


def _identified(data: OpenImageSet) -> tuple[OpenImageSet, dict[str, Any]]:
    """The images, which have to stay what they are, and what the card says of them.

    Those on disk are all read for it.
    """
    if isinstance(data, ImageSet):
        sha256 = data.sha256
    else:
        sha256, digests = data_digests(data.images, data.labels)
        if isinstance(data.images, LazyImages):
            data = replace(data, images=data.images.verified(digests, read=True))
    return data, {"name": data.name, "split": data.split, "n": len(data), "sha256": sha256}


def _check_data(net: nn.Module, data: OpenImageSet, kwargs: Mapping[str, Any]) -> None:
    """Refuses images that do not suit the network, before anything is written."""
    check_images(
        first_images(data.images), data.labels, in_chans=kwargs["in_chans"], num_classes=None
    )
    check_labels(data.labels, len(data), kwargs["num_classes"])
    size, found = to_2tuple(kwargs.get("img_size", data.images.shape[-2:])), data.images.shape[-2:]
    if tuple(size) != tuple(found):
        raise InputError(
            f"the model is built for images of {size[0]}x{size[1]}, "
            f"'{data.name}' ({data.split}) has {found[0]}x{found[1]}: build it with their img_size"
        )


def _resolved(recipe: Recipe, net: nn.Module, data: OpenImageSet) -> Recipe:
    """The recipe as it will be done: without augmentation where images are not shifted, and with
    the strength of the gates' penalty that it leads to.

    Raises:
        InputError: If the network or the images lack what a setting is about.
    """
    _check_mechanism(recipe, net)
    _check_subjects(recipe, net, data)
    if data.images.ndim == 4 and data.images.shape[1] != 3:
        recipe = recipe.replace(augment=False)
    if recipe.gate_penalty is not None or not recipe.gate_epochs or not gate_parameters(net):
        return recipe
    if recipe.optimizer != "sgd":
        raise InputError(
            f"gate_opening is a rule for sgd; with {recipe.optimizer}, give gate_penalty "
            "(--set gate_penalty=...)"
        )
    start = mean_opening(net)
    if start <= recipe.gate_opening != Recipe.gate_opening:
        raise InputError(
            f"gate_opening of recipe '{recipe.name}' is {recipe.gate_opening:g}, but the gates of "
            f"the model open with {start:g} from the start: give less, or gate_penalty=0 for none"
        )
    strength = penalty_strength(
        start,
        min(start, recipe.gate_opening),
        steps=recipe.gate_epochs * recipe.steps_per_epoch(len(data)),
        lr=mean_rate(recipe.lr, recipe.min_lr, recipe.gate_epochs / recipe.epochs),
        momentum=recipe.momentum,
    )
    return replace(recipe, gate_penalty=strength)


def _check_mechanism(recipe: Recipe, net: nn.Module) -> None:
    if not recipe.mechanism:
        return
    if recipe.mechanism not in MECHANISMS:
        raise unknown(f"mechanism of recipe '{recipe.name}'", recipe.mechanism, MECHANISMS)
    mark = MECHANISMS[recipe.mechanism].mark
    if not any(isinstance(module, mark) for module in net.modules()):
        raise InputError(
            f"recipe '{recipe.name}' is for {recipe.mechanism} neurons, and the model has none; "
            f"take a model whose name ends in _{recipe.mechanism}"
        )


def _check_subjects(recipe: Recipe, net: nn.Module, data: OpenImageSet) -> None:
    """Refuses settings that are about something that the network or the images do not have."""
    if recipe.certified:
        check_bounded(net)
    gates = {name for name in GATE_SETTINGS if getattr(recipe, name) != getattr(Recipe, name)}
    noisy = any(m.stochastic for m in net.modules() if isinstance(m, NoisyModule))
    adapts = any(isinstance(m, HomeostaticLIF) for m in net.modules())
    side = max(data.images.shape[-2:])
    for name, idle, subject in (
        *((name, not gate_parameters(net), "a model with gates (_stog)") for name in sorted(gates)),
        ("eot", recipe.eot > 1 and not noisy, "a stochastic model"),
        ("guard", recipe.guard > 0 and adapts, "thresholds that do not adapt"),
        ("cutout", recipe.cutout > 0 and data.images.ndim != 4, "images, not events"),
        ("cutout", recipe.cutout > side, f"images larger than its {recipe.cutout} pixels"),
    ):
        if idle:
            raise InputError(f"{name} of recipe '{recipe.name}' is for {subject}: leave it out")


def _hold_out(data: OpenImageSet, share: float, test: OpenImageSet) -> TrainingData:
    """Holds the last images of every class out; none if the share is 0."""
    kept = len(data) - round(share * len(data))
    if not share:
        return TrainingData(data, None, test)
    if kept in (0, len(data)):
        raise InputError(f"held_out is {share:g} of {len(data)} images: too small to part them")
    train, held_out = data.divide(kept)
    return TrainingData(train, held_out, test)


def _board(folder: Path, state: State | None) -> Any:
    """A TensorBoard writer that goes on where the state ends."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise missing_extra("TensorBoard", "tensorboard") from error
    done = 0 if state is None else len(state.history)
    return SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)
