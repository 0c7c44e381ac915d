"""Networks that pass other batches than they get: flips, crops, one image at a time, folded steps.

Which of the samples that pass belongs to which image is in the code of the wrapper. It is found by
trying: under the right grouping, two images together give the logits that each gives alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robust_snn.kernels import sample_keys
from robust_snn.models.readout import Readout, check_readout
from robust_snn.neurons.fixed_network import may_keep_state
from robust_snn.neurons.noise_source import GROUPINGS, RegroupedBatch, layer_numbers
from robust_snn.neurons.pass_settings import PassSettings, use_settings
from robust_snn.utils.errors import InputError, first_line
from robust_snn.utils.modules import modules_of

SAME = 1e-3  # of the size of the logits: what is rounding
CLEARLY = 0.1  # of the difference under another grouping, where rounding moved a spike

KEPT = 64  # groupings of a network
PLAIN = (str, int)  # attributes that say how a wrapper works; bool is an int, and some enums

Groupings = dict[Hashable, str]  # by the shape of an image and the form of the network
_groupings: WeakKeyDictionary[nn.Module, Groupings] = WeakKeyDictionary()
_stepwise: WeakKeyDictionary[nn.Module, set[Hashable]] = WeakKeyDictionary()


@torch.compiler.disable
def known_groupings(net: nn.Module) -> Groupings:
    """The groupings of a network that have been found, and room for others."""
    return _groupings.setdefault(net, {})


def passed(
    net: nn.Module, images: Callable[[], Tensor], settings: PassSettings, known: Groupings
) -> Tensor:
    """What a network makes of images under the settings of a pass, whichever batches it forms.

    Args:
        net: The network.
        images: Gives them, `[B, ...]`, in memory of their own, which the network may write into.
        settings: Of the pass, with its keys.
        known: The groupings of the network; see `known_groupings`.

    Raises:
        InputError: If it passes samples through noisy layers that cannot be told apart by image.
    """
    x = images()
    grouping = known.get(_case(net, x)) if known else None
    settings = settings._replace(drawn={}, grouping=grouping)
    try:
        with use_settings(settings):
            out: Tensor = net(x)
            return out
    except RegroupedBatch:
        if grouping is not None:
            raise _lost(net) from None
    x = images()
    found = _grouping(net, x)
    if len(known) >= KEPT:
        known.clear()
    known[_case(net, x)] = found
    with use_settings(settings._replace(drawn={}, grouping=found)):
        out = net(x)
        return out


@torch.no_grad()
def check_steps(net: nn.Module, x: Tensor) -> None:
    """Refuses a network whose logits of every step `[T * B, K]` do not average to its logits.

    Args:
        net: A network with a readout of this package somewhere inside.
        x: Some images, `[B, ...]`.

    Raises:
        InputError: If it has no such readout, or a wrapper around it reads time for images.
    """
    check_readout(net)
    checked, case = _stepwise.setdefault(net, set()), _case(net, x)
    if case in checked:
        return
    pair, settings = _pair(net, x)
    logits = passed(net, pair.clone, settings, known_groupings(net))
    try:
        steps = passed(net, pair.clone, settings._replace(every_step=True), known_groupings(net))
    except RuntimeError as error:  # of a wrapper that puts other tensors beside the logits
        raise InputError(
            f"{type(net).__name__} makes no logits of every step ({first_line(error)}); use "
            "another loss than tet"
        ) from None
    decays = {module.decay for module in net.modules() if isinstance(module, Readout)}
    fits = len(decays) == 1 and steps.shape[1:] == logits.shape[1:] and not len(steps) % len(pair)
    if fits:
        steps = steps.unflatten(0, (-1, len(pair)))
        weights = decays.pop() ** torch.arange(len(steps) - 1, -1, -1, device=x.device)
        fits = _distance(torch.tensordot(weights / weights.sum(), steps, dims=1), logits) <= SAME
    if not fits:
        raise InputError(
            f"the logits of every step do not average to those of {type(net).__name__}, which "
            "makes something else of [T * B, K] than of [B, K]; use another loss than tet"
        )
    checked.add(case)


def _case(net: nn.Module, x: Tensor) -> Hashable:
    """What a grouping depends on: the shape of an image, the classes of the modules of a network,
    and how those of other people are set up."""
    modules = modules_of(net)
    own = [vars(module) for module in modules if may_keep_state(type(module))]
    setup = [
        (name, value if isinstance(value, PLAIN) else id(value))
        for attributes in own
        for name, value in attributes.items()
        if name != "training" and (isinstance(value, PLAIN) or callable(value))
    ]
    return x.shape[1:], tuple(map(type, modules)), tuple(setup)


@torch.no_grad()
def _grouping(net: nn.Module, x: Tensor) -> str:
    """How a network groups the samples of images `[B, ...]` that it passes through noisy layers."""
    pair, settings = _pair(net, x)
    keys = sample_keys(0, torch.arange(2, device=x.device))
    alone = list(zip(pair.split(1), keys.split(1), strict=True))
    differences: dict[str, float] = {}
    for grouping in GROUPINGS:
        tried = settings._replace(grouping=grouping)
        try:
            together = _logits(net, pair, tried)
            apart = [_logits(net, image, tried._replace(keys=key)) for image, key in alone]
        except RegroupedBatch:
            continue
        differences[grouping] = _distance(together, torch.cat(apart))
    best = min(differences, key=differences.__getitem__, default="")
    least, most = min(differences.values(), default=1.0), max(differences.values(), default=1.0)
    if least > SAME and least > CLEARLY * most:
        raise _lost(net)
    return best


def _pair(net: nn.Module, x: Tensor) -> tuple[Tensor, PassSettings]:
    """Two images, and the settings of a pass of them."""
    pair = x[:2] if len(x) > 1 else torch.cat([x, x.flip(-1)])
    keys = sample_keys(0, torch.arange(2, device=x.device))
    return pair.detach(), PassSettings(keys, layers=layer_numbers(modules_of(net)))


def _logits(net: nn.Module, x: Tensor, settings: PassSettings) -> Tensor:
    with use_settings(settings._replace(drawn={})):
        logits: Tensor = net(x.clone())
        return logits


def _distance(a: Tensor, b: Tensor) -> float:
    """Mean distance of logits, as a share of their mean size."""
    if a.shape != b.shape:
        return 1.0
    size = (a.abs().mean() + b.abs().mean()).item() / 2
    return (a - b).abs().mean().item() / max(size, 1e-12)


def _lost(net: nn.Module) -> InputError:
    return InputError(
        f"which samples of an image pass the noisy layers of {type(net).__name__} cannot be told: "
        "pass whole batches, one after the other or as torch.cat([x, x.flip(-1)]), the copies of "
        "each image in a row, or one image at a time"
    )
