"""timm's tests on the networks that `robust_snn` registers, and on no others."""

from __future__ import annotations

from typing import Any

import timm

from robust_snn.neurons import set_noise

_list, _create = timm.list_models, timm.create_model
NARROW = {"T": 2, "width": 1 / 16}  # what timm asks of a network does not depend on its width


def list_models(filter: Any = "", module: Any = "", **kwargs: Any) -> list[str]:
    """Ours, which have all that timm asks of some modules; none of those with another interface."""
    return [] if filter else _list("snn_*", **kwargs)


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> Any:
    """A network that draws the same in every pass, since timm's tests compare two."""
    narrow = {} if pretrained or "." in name else NARROW
    net = _create(name, pretrained=pretrained, **{**narrow, **kwargs})
    set_noise(net, "frozen", seed=0)
    return net


def keeps(item: Any) -> bool:
    """Whether a test is one of the models in timm's registry rather than of a layer of timm's."""
    return "snn_" in item.name


timm.list_models, timm.create_model = list_models, create_model
timm.list_pretrained = lambda *args, **kwargs: []
