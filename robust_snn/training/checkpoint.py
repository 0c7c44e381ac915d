"""Weights on disk: safetensors with a JSON card beside them. Nothing that is read executes."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
from torch import nn

from robust_snn.models import create_network, recorded_kwargs
from robust_snn.training.weight_files import file_and_place, fitting_weights
from robust_snn.utils.atomic_files import write_json, write_whole
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.user_files import is_there
from robust_snn.utils.user_function import is_reference

CARD_FORMAT = 1
_log = logging.getLogger("robust_snn")
# what timm.create_model takes for itself would make a card load or download other files
_NOT_IN_CARDS = set(inspect.signature(timm.create_model).parameters) - {"kwargs"}


def card_path(path: str | Path) -> Path:
    """Where the card of a checkpoint lies: the same name, ending in `.json`.

    Raises:
        InputError: If the path names no file.
    """
    file = file_and_place(path)[0]
    if not file.name:
        raise InputError(f"no checkpoint at '{path}'")
    return file.with_suffix(".json")


def save_checkpoint(net: nn.Module, path: str | Path, card: Mapping[str, Any]) -> None:
    """Writes the weights of a network, and its card beside them; each file whole or not at all.

    Args:
        net: The network.
        path: A `.safetensors` file; its folder must exist.
        card: JSON values. `load_model` needs `card["model"]`, with `name` and `kwargs`.
    """
    tensors = {name: value.detach().contiguous() for name, value in net.state_dict().items()}
    data = safetensors.torch.save(tensors)
    write_whole(Path(path), lambda file: file.write(data))
    write_json(card_path(path), {"robust_snn_card": CARD_FORMAT, **card})


def load_checkpoint(net: nn.Module, path: str | Path) -> None:
    """Loads weights into a network; all of them fit, or the network stays as it was.

    Args:
        net: The network.
        path: A `.safetensors` file, or one of `torch.save` that holds nothing but tensors, numbers
            and texts. The weights may be wrapped, and their names too, as in `module.conv.weight`;
            where several tables fit, `FILE:PLACE` chooses, such as `best.pth:state_dict_ema`.

    Raises:
        InputError: If the file is missing, damaged, not plain or not made for this network, or if
            it holds several tables that fit and differ.
    """
    net = _unwrapped(net)
    net.load_state_dict(fitting_weights(path, net.state_dict()))
    trained, built = _trained_steps(path), recorded_kwargs(net, {}).get("T")
    if trained is not None and built not in (None, trained):
        _log.warning("'%s' was trained with T=%s, the network has T=%s", path, trained, built)


def _trained_steps(path: str | Path) -> Any:
    """The time steps that the card of a checkpoint names; None if there is none to read."""
    try:
        card = load_card(path)
    except InputError:  # which whoever asks for the card is told
        return None
    return None if card is None else card["model"]["kwargs"].get("T")


def _unwrapped(net: nn.Module) -> nn.Module:
    """The network inside `DataParallel` and `torch.compile`, whose weights have its own names."""
    for name in ("module", "_orig_mod", "module"):  # either may be inside the other
        inner = getattr(net, name, None)
        if isinstance(inner, nn.Module) and len(list(net.children())) == 1:
            net = inner
    return net


def load_card(path: str | Path) -> dict[str, Any] | None:
    """The card beside a checkpoint, or None if there is none.

    Raises:
        InputError: If the card is damaged or was not written by `save_checkpoint`.
    """
    file = card_path(path)
    if not is_there(file):
        return None
    card = read_json(file, "the card")
    model = card.get("model") if isinstance(card, dict) else None
    if (
        not isinstance(model, dict)
        or card.get("robust_snn_card") != CARD_FORMAT
        or not isinstance(model.get("name"), str)
        or not isinstance(model.get("kwargs"), dict)
    ):
        raise InputError(
            f"'{file}' is not a model card of format {CARD_FORMAT}; if it is no card, move it away"
        )
    return card


def load_model(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Builds the model that a checkpoint's card describes, with its weights.

    Returns:
        The network in eval mode, and the card.

    Raises:
        InputError: If there is no card, or weights, card and model do not fit together.
    """
    card = load_card(path)
    if card is None:
        if not (file := file_and_place(path)[0]).exists():
            raise InputError(f"no checkpoint at '{path}'")
        if file.is_dir():
            raise InputError(
                f"'{path}' is a folder; give a file, as '{file / 'model.safetensors'}'"
            )
        raise InputError(
            f"no card '{card_path(path)}' beside the weights; name the model (--model)"
        )
    name, kwargs = card["model"]["name"], card["model"]["kwargs"]
    if is_reference(name):
        raise InputError(
            f"the card '{card_path(path)}' names {name}, whose code runs only if you name it: give "
            f"--model with its folder, as in --model ./{name}"
        )
    foreign = _NOT_IN_CARDS & kwargs.keys()
    if foreign or not timm.is_model(name):
        what = f"'{sorted(foreign)[0]}'" if foreign else f"model '{name}'"
        raise InputError(f"refusing {what} in the card '{card_path(path)}': it is not one of ours")
    net = create_network(name, **kwargs)
    load_checkpoint(net, path)
    return net.eval(), card
