"""Weights of released networks under this package's names.

SNN-RAT, StoG and stable SNN share their VGG and WRN files. StoG puts its gates, made at the first
forward pass, behind every neuron; stable SNN gives every neuron a factor per step. NSNN has
ResNet-18 and -19. Spiking transformers, MS-ResNet and SEW-ResNet are in `released_names`.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robust_snn.kernels.spiking.gate import EPSILON
from robust_snn.models.backbone import SpikingBackbone
from robust_snn.models.encodings import RELEASED_STATISTICS, PoissonEncoding
from robust_snn.models.released_names import FAMILIES, is_unread
from robust_snn.models.snn_resnet import BasicBlock
from robust_snn.models.snn_wrn import PreActivationBlock
from robust_snn.models.time_layers import ConvSpike
from robust_snn.neurons import DLIF
from robust_snn.neurons.stochastic_gate import FLOOR, HIGHEST, LOWEST
from robust_snn.utils.errors import InputError

logger = logging.getLogger("robust_snn")

# Names inside a module that differ: the released one, ours.
LEAVES = {"p": "factor", "1.poisson_rate": "gate.probability", "comb": "weight"}
# Sets that networks were released for, by their number of classes.
SETS = {10: ("cifar10", "svhn"), 100: ("cifar100",), 200: ("tinyimagenet",)}


@dataclass(frozen=True)
class Conversion:
    """What became of a released state dict.

    Attributes:
        state: Tensors under this package's names.
        unused: Released names that have no place in the network.
        missing: Names of the network that got nothing.
    """

    state: dict[str, Tensor]
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{len(self.state)} tensors used"]
        for kind, names in (("unused", self.unused), ("missing", self.missing)):
            if names:
                lines.append(f"{len(names)} {kind}: {', '.join(names)}")
        return "; ".join(lines)


def convert(released: Mapping[str, Tensor], net: SpikingBackbone) -> Conversion:
    """Renames a released state dict for a network of this package.

    A gate gets the probability with which the released code really opens it, which its epsilon
    puts up to 0.001 below its parameter. Neither leak nor number of steps is part of the weights:
    SNN-RAT and StoG were trained with `decay=1.0`, stable SNN with `decay=0.99`, all with `T=8`;
    NSNN with `decay=0.5`, and its ResNet-19 has `stem=64`. Of transformers, MS-ResNet and
    SEW-ResNet, neurons and steps are those that our models have by default; what their scripts
    normalise images by is theirs to know: give it as `mean` and `std`.

    Args:
        released: Names and tensors of the release.
        net: The network of ours with the mechanism that the weights were trained with.

    Raises:
        InputError: If the weights are of no such network, of another shape, have DLIF factors for
            another form of the neuron, or were trained on images normalised otherwise.
    """
    released = {name.removeprefix("module."): value for name, value in released.items()}
    released = {name: value for name, value in released.items() if not is_unread(name)}
    newer = next((family for mark, family in FAMILIES.items() if mark in released), None)
    if newer is None:
        _check_statistics(net)
    places = dict(_places(released, net) if newer is None else newer.places(net))
    target = net.state_dict()
    state: dict[str, Tensor] = {}
    unused = []
    for name, value in released.items():
        ours = places.get(name) or _rename(name, places)
        if ours not in target:
            unused.append(name)
            continue
        if _squeezed(value) == _squeezed(target[ours]):  # linear layers on tokens are convolutions
            value = value.view_as(target[ours])
        if value.shape != target[ours].shape:
            raise InputError(
                f"'{name}' is {tuple(value.shape)}, but the network's '{ours}' is "
                f"{tuple(target[ours].shape)}; build it with the T, img_size and num_classes that "
                "the weights were trained with"
            )
        if newer is not None:
            value = value * newer.scale(name, value)
        state[ours] = _opened(value) if ours.endswith("gate.probability") else value
    if newer is not None and "fc.weight" in state:
        state.setdefault("fc.bias", torch.zeros_like(target["fc.bias"]))
    _check_form(state, net)
    missing = [name for name in target if name not in state and _matters(name)]
    return Conversion(state, unused, missing)


def load_released(
    net: SpikingBackbone, released: Mapping[str, Tensor], strict: bool = True
) -> Conversion:
    """Loads a released state dict into a network, and logs what was used and what was not.

    Args:
        net: See `convert`.
        released: See `convert`.
        strict: Whether to refuse weights of which anything is unused or missing.

    Raises:
        InputError: If the weights do not fit.
    """
    conversion = convert(released, net)
    whole = not conversion.unused and not conversion.missing
    if strict and not whole:
        raise InputError(
            f"the weights do not fit the network: {conversion}; another mechanism may, or "
            "strict=False loads what does"
        )
    logger.log(logging.INFO if whole else logging.WARNING, "released weights: %s", conversion)
    net.load_state_dict(conversion.state, strict=False)
    return conversion


def _places(released: Mapping[str, Tensor], net: SpikingBackbone) -> Iterator[tuple[str, str]]:
    """Released names of modules and ours, for the family that the weights are of."""
    if "block1.0.conv1.weight" in released:
        yield from _wrn_places(net)
    elif "layer1.0.weight" in released:
        yield from _vgg_places(released, net)
    elif "layer1.0.conv1.layer.module.weight" in released:
        yield from _resnet_places(released, net)
    else:
        raise InputError(
            "expected weights of SNN-RAT, StoG or stable SNN with layer1.0.weight (VGG) or "
            "block1.0.conv1.weight (WRN), of NSNN with layer1.0.conv1.layer.module.weight "
            f"(ResNet), or of newer networks with {', '.join(FAMILIES)}, "
            f"got {', '.join(list(released)[:3]) or 'nothing'}"
        )


def _vgg_places(released: Mapping[str, Tensor], net: SpikingBackbone) -> Iterator[tuple[str, str]]:
    for level, stage in enumerate(net.stages):
        convs = [(i, m) for i, m in enumerate(stage.children()) if isinstance(m, ConvSpike)]
        for position, (index, _) in enumerate(convs):
            ours = f"stages.{level}.{index}"
            for offset, part in enumerate(("conv", "act.norm", "act.neuron")):
                yield f"layer{level + 1}.{3 * position + offset}", f"{ours}.{part}"
    first = 1 if "classifier.5.weight" in released else 0  # a Flatten module, or none
    parts = [f"pre_logits.layers.{i}.{part}" for i in (0, 1) for part in ("fc", "neuron")]
    for offset, part in enumerate([*parts, "fc"]):
        yield f"classifier.{first + offset}", part


def _wrn_places(net: SpikingBackbone) -> Iterator[tuple[str, str]]:
    yield from (("conv1", "stages.0.0"), ("bn1", "norm.norm"), ("act", "norm.neuron"))
    yield "fc", "fc"
    parts = {
        "bn1": "act1.norm",
        "act1": "act1.neuron",
        "conv1": "conv1",
        "bn2": "act2.norm",
        "act2": "act2.neuron",
        "conv2": "conv2",
        "convShortcut": "shortcut",
        "convex": "sum",
    }
    for level, stage in enumerate(net.stages):
        blocks = [i for i, m in enumerate(stage.children()) if isinstance(m, PreActivationBlock)]
        for position, index in enumerate(blocks):
            for theirs, ours in parts.items():
                yield f"block{level + 1}.{position}.{theirs}", f"stages.{level}.{index}.{ours}"


def _resnet_places(
    released: Mapping[str, Tensor], net: SpikingBackbone
) -> Iterator[tuple[str, str]]:
    layers = {"conv1": ("stages.0.0.conv", "stages.0.0.act.norm")}
    for level, stage in enumerate(net.stages):
        blocks = [i for i, m in enumerate(stage.children()) if isinstance(m, BasicBlock)]
        for position, index in enumerate(blocks):
            theirs, ours = f"layer{level + 1}.{position}", f"stages.{level}.{index}"
            layers[f"{theirs}.conv1"] = (f"{ours}.conv1.conv", f"{ours}.conv1.act.norm")
            layers[f"{theirs}.conv2"] = (f"{ours}.conv2.0", f"{ours}.conv2.1")
            layers[f"{theirs}.downsample"] = (f"{ours}.shortcut.0", f"{ours}.shortcut.1")
    for theirs, (conv, norm) in layers.items():
        yield from ((f"{theirs}.layer.module", conv), (f"{theirs}.bn.bn.module", norm))
    head = ("pre_logits.layers.0.fc", "fc") if "fc2.layer.module.weight" in released else ("fc",)
    for number, ours in enumerate(head, 1):
        yield f"fc{number}.layer.module", ours


def _rename(name: str, places: dict[str, str]) -> str:
    """Our name of a released tensor, or an empty one."""
    leaves = "|".join(map(re.escape, LEAVES))
    match = re.fullmatch(rf"(.+?)\.({leaves}|\w+)", name)
    if match is None or match[1] not in places:
        return ""
    return f"{places[match[1]]}.{LEAVES.get(match[2], match[2])}"


def _squeezed(tensor: Tensor) -> list[int]:
    """Sides of a tensor that are not one."""
    return [side for side in tensor.shape if side != 1]


def _opened(parameter: Tensor) -> Tensor:
    """The probability with which a released gate opens: `p = 1` opens with 0.999."""
    p = parameter.clamp(LOWEST, HIGHEST)
    odds = (1 - p + EPSILON) / p
    return (1 - odds * (1 + EPSILON) / (1 + odds)).clamp(FLOOR, HIGHEST)


def _matters(name: str) -> bool:
    """Whether a network is not the released one without this tensor."""
    return not name.endswith("num_batches_tracked")


def _check_form(state: Mapping[str, Tensor], net: nn.Module) -> None:
    if not any(name.endswith(".factor") for name in state):
        return
    if any(isinstance(m, DLIF) and m.form != "input" for m in net.modules()):
        raise InputError(
            "the released DLIF factors act on the input; build the network with dlif_form='input'"
        )


def _check_statistics(net: SpikingBackbone) -> None:
    """Refuses a network that normalises images otherwise than a release of that many classes."""
    encoder = net.encoder
    known = [RELEASED_STATISTICS[name] for name in SETS.get(net.num_classes, ())]
    if isinstance(encoder, PoissonEncoding) or not known or encoder.in_chans != 3:
        return
    found = tuple(tuple(x.flatten().tolist()) for x in (encoder.mean, encoder.std))
    if not any(all(map(_same, found, statistics)) for statistics in known):
        choices = " or ".join(f"mean={mean} and std={std}" for mean, std in known)
        raise InputError(
            f"released weights of {net.num_classes} classes are for images normalised by "
            f"{choices}; build the network with these"
        )


def _same(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip(one, other, strict=True))
