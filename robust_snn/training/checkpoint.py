"""Weights on disk: safetensors with a JSON card beside them. Nothing that is read executes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from robust_snn.models import create_network
from robust_snn.utils.atomic_files import write_json, write_whole
from robust_snn.utils.errors import InputError

CARD_FORMAT = 1
WRAPPERS = ("state_dict", "model")  # where other projects keep the weights in a .pth
# what timm.create_model takes for itself would make a card load or download other files
_NOT_IN_CARDS = set(inspect.signature(timm.create_model).parameters) - {"kwargs"}


def card_path(path: str | Path) -> Path:
    """Where the card of a checkpoint lies: the same name, ending in `.json`."""
    return Path(path).with_suffix(".json")


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
        path: A `.safetensors` file, or a `.pth` or `.pt` file that holds a plain table of tensors.

    Raises:
        InputError: If the file is missing, damaged, not plain or not made for this network.
    """
    path = Path(path)
    weights = _read(path)
    _check_fit(net.state_dict(), weights, path)
    net.load_state_dict(weights)


def load_card(path: str | Path) -> dict[str, Any] | None:
    """The card beside a checkpoint, or None if there is none.

    Raises:
        InputError: If the card is damaged or was not written by `save_checkpoint`.
    """
    file = card_path(path)
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the card '{file}': {error}") from None
    model = card.get("model") if isinstance(card, dict) else None
    if (
        not isinstance(model, dict)
        or card.get("robust_snn_card") != CARD_FORMAT
        or not isinstance(model.get("name"), str)
        or not isinstance(model.get("kwargs"), dict)
    ):
        raise InputError(f"'{file}' is not a model card of format {CARD_FORMAT}")
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
        if not Path(path).exists():
            raise InputError(f"no checkpoint at '{path}'")
        raise InputError(
            f"no card '{card_path(path)}' beside the weights; name the model (--model)"
        )
    name, kwargs = card["model"]["name"], card["model"]["kwargs"]
    foreign = _NOT_IN_CARDS & kwargs.keys()
    if foreign or not timm.is_model(name):
        what = f"'{sorted(foreign)[0]}'" if foreign else f"model '{name}'"
        raise InputError(f"refusing {what} in the card '{card_path(path)}': it is not one of ours")
    net = create_network(name, **kwargs)
    load_checkpoint(net, path)
    return net.eval(), card


def _read(path: Path) -> dict[str, Tensor]:
    """The table of tensors in a file."""
    if not path.is_file():
        raise InputError(f"no checkpoint at '{path}'")
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(
                f"'{path}' is not an intact safetensors file: {_line(error)}"
            ) from None
    if path.suffix not in (".pth", ".pt"):
        raise InputError(f"expected a .safetensors, .pth or .pt file, got '{path}'")
    try:
        table = torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ):  # unpicklers raise anything on foreign bytes; their advice is to trust the file
        raise InputError(
            f"'{path}' is damaged or holds more than tensors, and is not read any further; "
            "save the state_dict() alone, as .safetensors"
        ) from None
    for wrapper in WRAPPERS:
        if isinstance(table, Mapping) and isinstance(table.get(wrapper), Mapping):
            table = table[wrapper]
    if not isinstance(table, Mapping) or not all(isinstance(v, Tensor) for v in table.values()):
        raise InputError(f"'{path}' does not hold a plain table of tensors (a state_dict)")
    return dict(table)


def _check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Raises unless both tables have the same names and shapes, and every number is finite."""
    remedy = "build the model with the arguments that it was trained with"
    for what, keys in (
        ("lacks", [key for key in expected if key not in found]),
        ("has unexpected", [key for key in found if key not in expected]),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise InputError(f"'{path}' {what} '{keys[0]}'{more}; {remedy}")
    for key, value in expected.items():
        if value.shape != found[key].shape:
            raise InputError(
                f"'{key}' in '{path}' has shape {tuple(found[key].shape)}, "
                f"the model needs {tuple(value.shape)}; {remedy}"
            )
        if not found[key].isfinite().all():
            raise InputError(f"'{key}' in '{path}' is not finite: the training diverged")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
