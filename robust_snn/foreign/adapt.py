"""`adapt`: one way from a model name, a network or a victim to a `Victim`."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

from torch import Tensor, nn

from robust_snn.foreign.foreign_net import ForeignSNN
from robust_snn.foreign.library import find_nodes, find_states
from robust_snn.foreign.nir import is_nir, load_nir
from robust_snn.foreign.preprocess import PREPARATION, Preprocessed
from robust_snn.models import create_network
from robust_snn.utils.errors import InputError, unknown
from robust_snn.victim import SETTINGS, Victim, add_network_check


def adapt(
    obj: str | PathLike[str] | nn.Module,
    *,
    T: int | None = None,
    encoder: str | Callable[[Tensor], Tensor] | None = None,
    readout: str = "mean",
    random: bool = False,
    **kwargs: Any,
) -> Victim:
    """Makes a `Victim` of a timm name, a network, a victim, or a net of another library.

    Networks are set to eval mode. A victim is returned as it is, or as another victim if settings
    change.

    Args:
        obj: Name of a registered model, a file `*.nir`, or a module. A net with neurons of
            SpikingJelly, snnTorch or a registered library keeps its own gradient unless `gradient`
            names another.
        T: Time steps; for another library's net those of `ForeignSNN`, with a name the model's.
        encoder: See `ForeignSNN`.
        readout: See `ForeignSNN`; with a name the model's.
        random: See `ForeignSNN`.
        **kwargs: Arguments of `Victim`, and `mean`, `std`, `resize` and `channels` of
            `Preprocessed`, which keep images in [0, 1] outside; with a name, others go to
            `timm.create_model`, and with a NIR file to `nir.load_nir`.

    Raises:
        InputError: If a name is not known or an argument does not fit.
    """
    asked = T is not None or encoder is not None or readout != "mean" or random
    preparation = {name: kwargs.pop(name) for name in PREPARATION if name in kwargs}
    if isinstance(obj, Victim | ForeignSNN) and (asked or preparation):
        given = ", ".join(("T, encoder, readout, random", *PREPARATION))
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
        net: nn.Module = load_nir(
            obj, T=T, encoder=encoder, readout=readout, random=random, **kwargs
        )
        return Victim(Preprocessed(net, **preparation) if preparation else net, **settings)
    if isinstance(obj, str | PathLike):
        obj = str(obj)
        if encoder is not None or random:
            raise InputError(f"encoder and random are for nets of other libraries, not for '{obj}'")
        if obj.startswith("snn_"):  # whose normalisation is their own
            kwargs |= {key: preparation.pop(key) for key in ("mean", "std") if key in preparation}
        kwargs |= {} if T is None else {"T": T}
        kwargs |= {} if readout == "mean" else {"readout": readout}
        net = create_network(obj, **kwargs).eval()
        return Victim(Preprocessed(net, **preparation) if preparation else net, **settings)
    if kwargs:
        raise unknown("argument of adapt", next(iter(kwargs)), (*SETTINGS, *PREPARATION))
    obj = Preprocessed(obj.eval(), **preparation) if preparation else obj.eval()
    if asked or (find_nodes(obj) and not isinstance(obj, ForeignSNN)):
        obj = ForeignSNN(obj, T, encoder, readout, random)
    if isinstance(obj, ForeignSNN):
        settings = {"gradient": obj.own_mode(), **settings}
    return Victim(obj, **settings)


def refuse_unadapted(net: nn.Module) -> None:
    """Refuses a network whose neurons another library leaves with a state after every call.

    Raises:
        InputError: If it holds such a neuron outside of a `ForeignSNN`.
    """
    adapted = {m for f in net.modules() if isinstance(f, ForeignSNN) for m in f.modules()}
    for module, owner in find_states(net):
        if module not in adapted:
            raise InputError(
                f"{type(net).__name__} holds {type(module).__name__} of {owner.name}, which keeps "
                "a state between calls; use robust_snn.adapt(net, T=...) instead of Victim(net)"
            )


add_network_check(refuse_unadapted)
