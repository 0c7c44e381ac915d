"""The network and the images that a command line names."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from robust_snn.cli.adapt_text import adapt_arguments, parse_adapt
from robust_snn.cli.options import NAMED_SETS
from robust_snn.cli.own_network import make_network
from robust_snn.data import ImageSet, OpenImageSet, open_dataset
from robust_snn.foreign import adapt
from robust_snn.foreign.nir import NIRNet, is_nir, load_nir
from robust_snn.models import create_network, fitted_kwargs, recorded_kwargs, zoo
from robust_snn.models.create import check_model_name
from robust_snn.training.checkpoint import load_card, load_checkpoint, load_model
from robust_snn.utils.errors import InputError
from robust_snn.utils.user_function import is_reference, short_reference
from robust_snn.utils.values import assignments, time_steps
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import count_classes

SHOWN = 8  # images on which a network of a user is first run
_log = logging.getLogger("robust_snn")


class Subject(NamedTuple):
    """What a command looks at.

    Attributes:
        net: The network, with its weights.
        info: `name` and `kwargs` of the model, and under `adapt` how it is adapted.
        images: Images or event frames that suit it, with labels; they may lie on disk.
    """

    net: nn.Module
    info: dict[str, Any]
    images: OpenImageSet

    @property
    def loaded(self) -> ImageSet:
        """The images in memory."""
        return self.images.loaded()

    def victim(self, device: str, **settings: Any) -> Victim:
        """The network as a victim on a device, with further arguments of `Victim`."""
        arguments = adapt_arguments(self.info["adapt"])
        shown = self.images.images[:SHOWN].to(device)
        victim = adapt(self.net.to(device), images=shown, **arguments, **settings)
        with suppress(InputError):  # which is told where all inputs are checked
            _tell_other_classes(self.images, count_classes(victim, shown))
        return victim


def load_subject(
    model: str | None,
    model_kwargs: Iterable[str] | None,
    checkpoint: Path | None,
    data: str,
    data_root: Path | None,
    n: int | None,
    adapting: str | None = None,
) -> Subject:
    """Loads the network and the images that a command line names.

    Args:
        model: Name of the model, a NIR file, or a user's function that makes it; a card knows a
            name.
        model_kwargs: Arguments of the model as `name=value`, for a NIR file those of `load_nir`; a
            card knows them.
        checkpoint: Weights; random ones, or those that a user's function loads, if left out.
        data: Name, folder or file of the images.
        data_root: Where a named data set lies on disk.
        n: Number of images; all if left out.
        adapting: How the network is adapted, as text; a card knows it.

    Raises:
        InputError: If a name, a file or a value is wrong, or they do not suit each other.
    """
    kwargs, settings = assignments(model_kwargs or (), "--model-kwargs"), parse_adapt(adapting)
    card = None if checkpoint is None else load_card(checkpoint)
    if card is not None:
        kwargs = _agreed(card["model"], model, kwargs)
        settings = _agreed_values("--adapt", card.get("adapt", {}), settings)
    with _built_alike():
        net, name, kwargs = _network(model, kwargs, checkpoint, card)
    size = {"img_size": net.img_size} if isinstance(net, NIRNet) else {}
    packaged = zoo.card(name) if net is None and _is_packaged(name, checkpoint) else None
    if packaged is not None:
        size = {"img_size": packaged["model"]["kwargs"]["img_size"]}
    images = _images_for(data, data_root, n, {**size, **settings, **kwargs})
    if (known := card or packaged) is not None:
        check_classes(known.get("data", {}).get("classes", images.classes), images)
    if packaged is not None:
        _check_channels(name, packaged["model"]["kwargs"]["in_chans"], images)
    if net is None:
        with _built_alike():
            net, kwargs = _fitted_network(name, kwargs, checkpoint, images)
    info = {"name": name, "kwargs": recorded_kwargs(net, kwargs), "adapt": settings}
    return Subject(net, info, images)


def split_calibration(
    images: OpenImageSet, n: int | None, spare: int
) -> tuple[OpenImageSet, OpenImageSet]:
    """The first images, and others that choose the attacks of a suite with a budget.

    Those are the last of every class of all, a fifth at most, however many are scored: so a larger
    `n` has all images of a smaller one.

    Args:
        images: All images.
        n: How many to score, if there are as many; all that are left if None.
        spare: How many to keep apart, if there are as many.

    Raises:
        InputError: If there is one image alone.
    """
    if len(images) < 2:
        raise InputError(
            f"'{images.name}' has one image, and a suite that chooses its attacks does so on "
            "others; give two or more, or take a suite without a budget, such as quick"
        )
    if n is not None:
        images.take(n)  # which says if there are fewer
    left, others = images.divide(len(images) - min(spare, max(1, len(images) // 5)))
    return left.take(min(n or len(left), len(left))), others


@contextmanager
def _built_alike() -> Iterator[None]:
    """The same command builds the same network, drawn weights included, so that runs resume."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _network(
    model: str | None,
    kwargs: dict[str, Any],
    checkpoint: Path | None,
    card: Mapping[str, Any] | None,
) -> tuple[nn.Module | None, str, dict[str, Any]]:
    """Network, name and arguments; no network where arguments follow from the images."""
    if model is not None and is_nir(model):
        if checkpoint is not None:
            raise InputError(f"{model} holds its own weights; leave --checkpoint out")
        return load_nir(model, **kwargs), Path(model).name, kwargs
    if model is not None and is_reference(model):
        net, kwargs = make_network(model, kwargs)
        if checkpoint is not None:
            load_checkpoint(net, checkpoint)
        return net, short_reference(model), kwargs
    if checkpoint is not None and (card is not None or model is None):
        net, card = load_model(checkpoint)
        return net, card["model"]["name"], kwargs
    if model is None:
        raise InputError("say what to evaluate: --checkpoint FILE, or --model NAME")
    check_model_name(model)
    return None, model, kwargs


def _is_packaged(model: str, checkpoint: Path | None) -> bool:
    """Whether the weights of a model are those in the package."""
    return checkpoint is None and model in zoo.trained()


def _fitted_network(
    model: str, kwargs: Mapping[str, Any], checkpoint: Path | None, images: OpenImageSet
) -> tuple[nn.Module, dict[str, Any]]:
    """A registered model for the images, and its arguments."""
    packaged = _is_packaged(model, checkpoint)
    classes = zoo.card(model)["model"]["kwargs"]["num_classes"] if packaged else None
    arguments = fitted_kwargs(model, kwargs, images)
    if classes is not None:  # few images need not show all of them
        arguments["num_classes"] = kwargs.get("num_classes", classes)
    net = create_network(model, pretrained=packaged, **arguments)
    if packaged:
        arguments = {**zoo.card(model)["model"]["kwargs"], **arguments}
    elif checkpoint is None:
        trained = ", ".join(timm.list_pretrained(f"{model}.*"))
        hint = f"; trained ones: {trained}" if trained else ""
        _log.warning("no --checkpoint: the weights of %s are random%s", model, hint)
    else:
        load_checkpoint(net, checkpoint)
    return net, arguments


def _images_for(
    data: str, root: Path | None, n: int | None, kwargs: Mapping[str, Any]
) -> OpenImageSet:
    """Images of the size, or event frames of the steps, that a model is built for."""
    size, steps = square(kwargs.get("img_size")), asked_steps(kwargs)
    return open_dataset(data, root=root, size=size, steps=steps, n=n)


def _agreed(
    known: Mapping[str, Any], model: str | None, kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of the model that a card knows, unless the command line says otherwise."""
    if model is not None and short_reference(model) != short_reference(known["name"]):
        raise InputError(
            f"--model is {model}, but the checkpoint is a {known['name']}: leave --model out"
        )
    return _agreed_values("--model-kwargs", known["kwargs"], kwargs)


def _agreed_values(
    option: str, known: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Values that a card knows, unless an option says otherwise."""
    for name, value in given.items():
        if name not in known or known[name] != value:
            trained = known.get(name, "its default")
            raise InputError(
                f"{option} has {name}={value}, but the checkpoint was trained with "
                f"{name}={trained}; leave the arguments out, its card knows them"
            )
    return dict(known)


def check_classes(expected: Sequence[str], images: OpenImageSet) -> None:
    """Raises unless labels mean the same, which numbers alone do not show.

    Data that name no classes, as arrays do, may mean those of the network, where they have no more.
    """
    if not _has_names(images) and len(images.classes) <= len(expected):
        return
    for at, (here, there) in enumerate(zip_longest(images.classes, expected, fillvalue="none")):
        if here != there:
            raise InputError(
                f"'{images.name}' has {len(images.classes)} classes, the training data "
                f"{len(expected)}; class {at} is '{here}' here and '{there}' there: labels must "
                "count from 0, in the order that the classes had in training"
            )


def _has_names(images: OpenImageSet) -> bool:
    """Whether the classes of some data are known; else they are the numbers up to the largest."""
    numbers = [str(number) for number in range(len(images.classes))]
    return list(images.classes) != numbers or images.name in NAMED_SETS


def _tell_other_classes(images: OpenImageSet, outputs: int) -> None:
    """Warns of a network that answers other classes than the data have, such as a part of them."""
    count = len(images.classes)
    if outputs != count and _has_names(images):
        _log.warning(
            "'%s' has %d classes, the network %d outputs: labels are taken for outputs 0 to %d",
            *(images.name, count, outputs, count - 1),
        )


def _check_channels(model: str, expected: int, images: OpenImageSet) -> None:
    if (channels := images.images.shape[-3]) != expected:
        raise InputError(
            f"'{images.name}' has images of {channels} channels, and {model} was trained on "
            f"{expected}; choose one of {', '.join(zoo.trained())} that fits, or train one"
        )


def asked_steps(kwargs: Mapping[str, Any]) -> int | None:
    """The steps that arguments of a model ask for, if they do."""
    return None if kwargs.get("T") is None else time_steps(kwargs["T"])


def square(img_size: Any) -> int | None:
    """Side to resize images to; other shapes are taken as stored, and must fit."""
    return img_size if isinstance(img_size, int) else None
