"""`adapt`: one way from a model name, a network or a victim to a `Victim`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from typing import Any

from torch import Tensor, nn

from robust_snn.data.checks import check_some_pixels
from robust_snn.foreign import first_look
from robust_snn.foreign.foreign_net import ForeignSNN
from robust_snn.foreign.library import find_nodes
from robust_snn.foreign.nir import is_nir, load_nir
from robust_snn.foreign.preprocess import PREPARATION, Preprocessed
from robust_snn.foreign.state_passing import StatePassing, passes_state
from robust_snn.foreign.unadapted import (
    LOOKED_AT,
    has_neurons_of_ours,
    unknown_classes,
    what_is_not_ours,
)
from robust_snn.models import create_network, zoo
from robust_snn.models.backbone import SpikingBackbone
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import device_of
from robust_snn.victim import SETTINGS, Victim
from robust_snn.victim.checked_inputs import first_images

_log = logging.getLogger("robust_snn")


@checked_types
def adapt(
    obj: Any,
    *,
    T: int | None = None,
    encoder: str | Callable[[Tensor], Tensor] | None = None,
    readout: str = "mean",
    random: bool = False,
    output: str | Callable[[Any], Tensor] | None = None,
    images: Tensor | None = None,
    **kwargs: Any,
) -> Victim:
    """Makes a `Victim` of a timm name, a network of ours or of anybody else, or a victim.

    Networks are set to eval mode. A victim is returned as it is, or as another victim if settings
    change. A network of other people is run on a few images to find how its output is read, what it
    keeps between calls, and where it fires; one line on standard error says what was found. It
    keeps its own gradient unless `gradient` names another mode.

    Args:
        obj: Name of a registered model, that of a trained one of the package with its weights; a
            file `*.nir` or its graph; or a module.
        T: Time steps; for other people's net those of `ForeignSNN`, with a name the model's.
        encoder: See `ForeignSNN`.
        readout: See `ForeignSNN`; with a name the model's.
        random: See `ForeignSNN`.
        output: A function, see `ForeignSNN`; or the `output` of a `Victim`.
        images: A few images of the shape to come, in [0, 1], on which other people's net is first
            run. Without them it is run on noise, of a shape that its first layer takes; where none
            is found, on the first images that it gets.
        **kwargs: Arguments of `Victim`, and `mean`, `std`, `resize` and `channels` of
            `Preprocessed`, which keep images in [0, 1] outside; with a name, others go to
            `timm.create_model`, and with a NIR file to `nir.load_nir`.

    Raises:
        InputError: If a name is not known or an argument does not fit.
    """
    if isinstance(output, str):
        kwargs["output"], output = output, None
    foreign = {"encoder": encoder, "random": random or None, "output": output}
    foreign = {name: value for name, value in foreign.items() if value is not None}
    asked = T is not None or readout != "mean" or bool(foreign)
    preparation = {name: kwargs.pop(name) for name in PREPARATION if name in kwargs}
    if isinstance(obj, Victim | ForeignSNN) and (asked or preparation):
        given = ", ".join(("T, encoder, readout, random, output", *PREPARATION))
        raise InputError(f"{given} are settled when a net is first adapted")
    if encoder is not None and preparation:
        raise InputError(
            "an encoder makes spikes of pixels in [0, 1], which are not prepared afterwards; leave "
            f"{', '.join(preparation)} to the net, or encode in its forward"
        )
    if isinstance(obj, Victim):
        return obj.replace(**kwargs) if kwargs else obj
    settings = {name: kwargs.pop(name) for name in SETTINGS if name in kwargs}
    if is_nir(obj):
        own = {"T": T, "encoder": encoder, "readout": readout, "random": random, **kwargs}
        return Victim(_prepared(load_nir(obj, **own), preparation), **settings)
    if isinstance(obj, str | PathLike):
        if foreign:
            raise InputError(f"{next(iter(foreign))} is for other people's nets, not for '{obj}'")
        if str(obj).startswith("snn_"):  # whose normalisation is their own
            kwargs |= {key: preparation.pop(key) for key in ("mean", "std") if key in preparation}
        kwargs |= {} if T is None else {"T": T}
        kwargs |= {} if readout == "mean" else {"readout": readout}
        return Victim(_prepared(_named_network(str(obj), kwargs), preparation), **settings)
    if not isinstance(obj, nn.Module):
        raise InputError(
            "expected a network, the name of a registered model or a NIR file, "
            f"got {type(obj).__name__}"
        )
    if kwargs:
        raise unknown("argument of adapt", next(iter(kwargs)), (*SETTINGS, *PREPARATION))
    if T is not None or encoder is not None or readout != "mean":
        _refuse_backbone(obj)
    obj = StatePassing(obj) if T is not None and passes_state(obj) else obj
    obj = _prepared(obj.eval(), preparation)
    if asked or not (isinstance(obj, ForeignSNN) or _is_ours(obj, images)):
        obj = ForeignSNN(obj, T, encoder, readout, random, output)
        if images is not None:
            obj.study(images)
        if images is not None or first_look.look(obj):
            _tell(obj)
    if isinstance(obj, ForeignSNN) and "gradient" not in settings:
        settings["gradient"] = obj.own_mode()
    return Victim(obj, **settings)


def _named_network(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """A registered model, that of a trained one with its weights unless `kwargs` refuse them."""
    if name in zoo.trained():
        kwargs = {"pretrained": True, **kwargs}
    net = create_network(name, **kwargs).eval()
    if "." in name and not kwargs.get("pretrained"):
        _log.warning("'%s' names weights that pretrained=True loads; these are random", name)
    return net


def _prepared(net: nn.Module, preparation: dict[str, Any]) -> nn.Module:
    """The network behind the preparation of its images, if there is any."""
    return Preprocessed(net, **preparation) if preparation else net


def adapt_to(obj: Any, images: Any, **kwargs: Any) -> Victim:
    """`adapt` for those who have images at hand, on the first of which other people's net is run.

    Args:
        obj: As in `adapt`.
        images: Images in memory or on disk, unchecked; what are none is refused when it is used.
        **kwargs: As in `adapt`.

    Raises:
        InputError: As `adapt` does.
    """
    shown = None
    if isinstance(obj, nn.Module) and not isinstance(obj, Victim | ForeignSNN):
        with suppress(InputError):
            first = first_images(images)[:LOOKED_AT]
            check_some_pixels(first)
            shown = first.float().to(device_of(obj))
    return adapt(obj, images=shown, **kwargs)


def _refuse_backbone(net: nn.Module) -> None:
    """Raises `InputError` for a network that shows an image for its own time steps at each call."""
    if any(isinstance(module, SpikingBackbone) for module in net.modules()):
        raise InputError(
            "T, encoder and readout are for other people's nets; a network of robust_snn has its "
            "own: build it with them, as timm.create_model(name, T=8) or --model-kwargs T=8"
        )


def _is_ours(net: nn.Module, images: Tensor | None) -> bool:
    """Whether neurons of ours are all that fires in a network, as far as images are at hand."""
    if not has_neurons_of_ours(net) or find_nodes(net):
        return False
    if images is not None:
        return what_is_not_ours(net, images) is None
    for images in first_look.noise(net) if unknown_classes(net) else ():
        with suppress(Exception):  # of a network that takes other shapes
            return what_is_not_ours(net, images) is None
    return True


def _tell(net: ForeignSNN) -> None:
    """Says what was found in a network, loudly where gradient modes reach nothing."""
    sys.stderr.write(f"robust_snn: {net.summary()}\n")
