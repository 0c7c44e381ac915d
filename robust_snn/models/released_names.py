"""Module names of published networks, and where they are in ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from torch import Tensor

Pairs = Iterator[tuple[str, str]]  # their module and ours

# What authors' networks carry and their forward passes never read.
UNREAD = (r"block\.\d+\.norm[12]\..*", r"block\.\d+\.attn\.talking_heads\..*")


def _spiking(conv: str, norm: str, ours: str) -> Pairs:
    yield from ((conv, f"{ours}.conv"), (norm, f"{ours}.act.norm"))


def _current(conv: str, norm: str, ours: str) -> Pairs:
    yield from ((conv, f"{ours}.0"), (norm, f"{ours}.1"))


def _parts(names: Iterable[str], theirs: str, ours: str, layer: str, kind: Callable) -> Pairs:
    """Layers of an attention or a token-wise network, such as `q_conv` and `q_bn` for `q`."""
    for name in names:
        place = {"mlp1": "fc1", "mlp2": "fc2"}.get(name, name)
        yield from kind(f"{theirs}.{name}_{layer}", f"{theirs}.{name}_bn", f"{ours}.{place}")


def spikformer(net: Any) -> Pairs:
    """Spikformer of its authors' CIFAR code."""
    stem = ("stages.0.0", "stages.0.1", "stages.1.0", "stages.2.0")
    for suffix, ours in zip(("", "1", "2", "3"), stem, strict=True):
        yield from _spiking(f"patch_embed.proj_conv{suffix}", f"patch_embed.proj_bn{suffix}", ours)
    yield from _spiking("patch_embed.rpe_conv", "patch_embed.rpe_bn", "stages.2.2.conv")
    for index in range(len(net.stages[3])):
        theirs, ours = f"block.{index}", f"stages.3.{index}"
        names = ("q", "k", "v", "proj")
        yield from _parts(names, f"{theirs}.attn", f"{ours}.attn", "linear", _spiking)
        yield from _parts(("fc1", "fc2"), f"{theirs}.mlp", f"{ours}.mlp", "linear", _spiking)
    yield "head", "fc"


def qkformer(net: Any) -> Pairs:
    """QKFormer of its authors' CIFAR code."""
    for level, stage in enumerate(net.stages):
        embedding, first = f"patch_embed{level + 1}", 2 if level == 0 else 1
        ours = f"stages.{level}.{first - 1}"
        layers = {"proj_res": f"{ours}.shortcut"}
        if level == 0:
            layers |= {"proj": "stages.0.0", "proj1": f"{ours}.conv2"}
        else:
            layers |= {"proj3": f"{ours}.conv1", "proj4": f"{ours}.conv2"}
        for name, place in layers.items():
            yield from _spiking(f"{embedding}.{name}_conv", f"{embedding}.{name}_bn", place)
        last = level == len(net.stages) - 1
        names = ("q", "k", "v", "proj") if last else ("q", "k", "proj")
        for index in range(len(stage) - first):
            theirs, place = f"stage{level + 1}.{index}", f"stages.{level}.{index + first}"
            attention = f"{theirs}.{'ssa' if last else 'tssa'}"
            yield from _parts(names, attention, f"{place}.attn", "conv", _spiking)
            yield from _parts(("mlp1", "mlp2"), f"{theirs}.mlp", f"{place}.mlp", "conv", _spiking)
    yield "head", "fc"


def spike_driven(net: Any) -> Pairs:
    """The spike-driven transformer, first version."""
    stem = ("stages.0.0", "stages.0.1", "stages.1.0")
    for suffix, ours in zip(("", "1", "2"), stem, strict=True):
        yield from _spiking(f"patch_embed.proj_conv{suffix}", f"patch_embed.proj_bn{suffix}", ours)
    yield from _current("patch_embed.proj_conv3", "patch_embed.proj_bn3", "stages.2.0")
    yield from _current("patch_embed.rpe_conv", "patch_embed.rpe_bn", "stages.2.2.conv")
    for index in range(len(net.stages[3])):
        theirs, ours = f"block.{index}", f"stages.3.{index}"
        yield from _parts("qkv", f"{theirs}.attn", f"{ours}.attn", "conv", _spiking)
        yield from _parts(("proj",), f"{theirs}.attn", f"{ours}.attn", "conv", _current)
        yield from _parts(("fc1", "fc2"), f"{theirs}.mlp", f"{ours}.mlp", "conv", _current)
    yield "head", "fc"


def resformer(net: Any) -> Pairs:
    """SpikingResformer, with either prologue."""
    yield from _current("prologue.0", "prologue.1.bn", "stages.0.0")
    for level, stage in enumerate(net.stages):
        first = len(stage) - sum(hasattr(block, "attn") for block in stage)
        if level:
            theirs = f"layers.{level}.0"
            yield from _current(f"{theirs}.conv", f"{theirs}.norm.bn", f"stages.{level}.0.conv")
        for index in range(len(stage) - first):
            ours, at = f"stages.{level}.{first + index}", 2 * index + bool(level)
            theirs = f"layers.{level}.{at}"
            yield f"{theirs}.W", f"{ours}.attn.patches"
            yield f"{theirs}.norm.bn", f"{ours}.attn.norm"
            yield f"{theirs}.firing_rate_x", f"{ours}.attn.rate_in.rate"
            yield f"{theirs}.firing_rate_attn", f"{ours}.attn.rate_attn.rate"
            yield from _current(f"{theirs}.Wproj", f"{theirs}.norm_proj.bn", f"{ours}.attn.proj")
            theirs = f"layers.{level}.{at + 1}"
            for name, place in (("up", "up"), ("conv.0", "conv"), ("down", "down")):
                layer = f"{theirs}.{name}"
                yield from _current(f"{layer}.1", f"{layer}.2.bn", f"{ours}.mlp.{place}")
    yield "classifier", "fc"


def membrane_resnet(net: Any) -> Pairs:
    """MS-ResNet-18 and -34."""
    yield from _current("conv1.0", "conv1.1.bn", "stages.0.0")
    for level, stage in enumerate(net.stages):
        first = 1 if level == 0 else 0
        for index in range(len(stage) - first):
            theirs, ours = f"conv{level + 2}_x.{index}", f"stages.{level}.{index + first}"
            branch = f"{theirs}.residual_function"
            yield from _current(f"{branch}.1", f"{branch}.2.bn", f"{ours}.conv1")
            yield from _current(f"{branch}.4", f"{branch}.5.bn", f"{ours}.conv2")
            around = f"{theirs}.shortcut"
            yield from _current(f"{around}.0", f"{around}.1.bn", f"{ours}.shortcut")
    yield "fc", "fc"


def sew_resnet(net: Any) -> Pairs:
    """SEW-ResNet-18 and -34, whose containers SpikingJelly names `module` or not at all."""
    yield from _spiking("conv1", "bn1", "stages.0.0")
    for level, stage in enumerate(net.stages):
        first = len(stage) - sum(hasattr(block, "connection") for block in stage)
        for index in range(len(stage) - first):
            theirs, ours = f"layer{level + 1}.{index}", f"stages.{level}.{index + first}"
            layers = {"conv1": "conv1", "conv2": "conv2", "downsample.0": "shortcut"}
            for name, place in layers.items():
                for module in (f"{theirs}.{name}.module", f"{theirs}.{name}"):
                    yield from _spiking(f"{module}.0", f"{module}.1", f"{ours}.{place}")
    yield "fc", "fc"


def spike_driven_3(net: Any) -> Pairs:
    """The spike-driven transformer, third version, with separable convolutions."""
    downs = ("1_1", "1_2", "2", "3", "4")
    convs = (("1_1",), ("1_2",), ("2_1", "2_2"))
    for level, (down, stage) in enumerate(zip(downs, net.stages, strict=True)):
        place = f"stages.{level}.0{'.1' if level else ''}"
        yield from _current(f"downsample{down}.encode_conv", f"downsample{down}.encode_bn", place)
        for index in range(len(stage) - 1):
            ours = f"stages.{level}.{index + 1}"
            theirs = f"block{level}.{index}" if level > 2 else f"ConvBlock{convs[level][index]}.0"
            for at, name in enumerate(("pwconv1", "dwconv", "pwconv2")):
                layer = f"{theirs}.{'conv' if level > 2 else 'Conv'}.{name}"
                yield from _current(f"{layer}.0", f"{layer}.1", f"{ours}.conv.{at}.1")
            if level > 2:
                for name in "qkv":
                    layer = f"{theirs}.attn.{name}_conv"
                    yield from _spiking(f"{layer}.0", f"{layer}.1", f"{ours}.attn.{name}")
                layer = f"{theirs}.attn.proj_conv"
                yield from _current(f"{layer}.0", f"{layer}.1", f"{ours}.attn.attn.1")
                names = ("fc1", "fc2")
                yield from _parts(names, f"{theirs}.mlp", f"{ours}.mlp", "conv", _current)
            else:
                for at in (0, 1):
                    conv, norm = f"{theirs}.conv{at + 1}", f"{theirs}.bn{at + 1}"
                    yield from _current(conv, norm, f"{ours}.mlp.{at}.1")
    yield "head", "fc"


class Family(NamedTuple):
    """Networks whose tensors have the same names.

    Attributes:
        places: Their modules and ours.
        spike: What their convolutions take for a spike of ours, where ours counts spikes.
        pixels: Their module that reads pixels.
    """

    places: Callable[[Any], Pairs]
    spike: float = 1.0
    pixels: str = ""

    def scale(self, name: str, value: Tensor) -> float:
        """Factor that a tensor of theirs needs in a network of ours."""
        reads_spikes = value.ndim > 2 and not name.startswith(self.pixels or " ")
        return self.spike if reads_spikes else 1.0


# a name that only networks of the family have -> the family
FAMILIES = {
    "block.0.attn.q_linear.weight": Family(spikformer),
    "stage1.0.tssa.q_conv.weight": Family(qkformer),
    "block.0.attn.q_conv.weight": Family(spike_driven),
    "downsample1_1.encode_conv.weight": Family(spike_driven_3, 1 / 4, "downsample1_1."),
    "layers.0.0.Wproj.weight": Family(resformer),
    "conv2_x.0.residual_function.1.weight": Family(membrane_resnet),
    "layer1.0.conv1.module.0.weight": Family(sew_resnet),
    "layer1.0.conv1.0.weight": Family(sew_resnet),
}


def is_unread(name: str) -> bool:
    """Whether a released tensor belongs to a layer that its network never runs."""
    return any(re.fullmatch(pattern, name) for pattern in UNREAD)
