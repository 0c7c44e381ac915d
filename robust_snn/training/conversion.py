"""From a trained network of activations to a spiking one with its weights, ready to be finetuned.

Robust conversion (Ozdenizci and Legenstein, TMLR 2024) trains an activation network adversarially,
takes over its weights, sets every threshold from the currents that arrive, first layers first, and
finetunes adversarially. The activation network is ours with `gradient="activation(relu)"`, and is
also what attacks transfer from: `Victim(net, gradient="activation(relu)")` on the same weights.

Differences from the released code: a threshold is divided out of the weights in front of it, which
is the same network for integrate-and-fire neurons and stays in a checkpoint; and thresholds do not
learn on their own in the finetuning, while norms and weights, which scale them, do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.models import create_network
from robust_snn.neurons import LIF
from robust_snn.training.checkpoint import load_card, save_checkpoint
from robust_snn.training.weight_files import fitting_weights
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import number, time_steps

SEARCH_STEPS = 100  # of the network in which thresholds are looked for
LARGEST_QUANTILE = 10_000_000  # elements that `torch.quantile` takes


@torch.no_grad()
def convert(
    trained: str | Path,
    images: Tensor,
    out: str | Path,
    *,
    T: int = 8,
    percentile: float = 99.7,
    scale: float = 0.3,
    search_steps: int = SEARCH_STEPS,
) -> nn.Module:
    """Writes the spiking network of a trained network of activations.

    Each layer in turn gets the percentile of its currents as its threshold, while those before it
    already spike with theirs. All thresholds are then multiplied by `scale`, since few steps need
    lower ones, and the statistics of batch norm measured again.

    Args:
        trained: Checkpoint of `train(..., model_kwargs={"gradient": "activation(relu)"})`.
        images: `[B, C, H, W]`, a batch of training images.
        out: The `.safetensors` file to write; `train(..., start=out)` finetunes it.
        T: Time steps of the spiking network.
        percentile: Of the currents of a layer.
        scale: Factor on the thresholds.
        search_steps: Time steps while they are looked for.

    Returns:
        The spiking network in eval mode.

    Raises:
        InputError: If the checkpoint is none of activations, its neurons leak, or a spiking layer
            has no norm and no linear layer of its own.
    """
    card = load_card(trained) or {"model": {"name": "", "kwargs": {}}}
    name, kwargs = card["model"]["name"], dict(card["model"]["kwargs"])
    if not str(kwargs.pop("gradient", "")).startswith("activation"):
        raise InputError(
            f"'{trained}' is no network of activations: train one with --model-kwargs "
            "gradient='activation(relu)'"
        )
    if not 0 < number(percentile, "percentile") <= 100 or not number(scale, "scale") > 0:
        raise InputError(f"percentile is in (0, 100] and scale above 0, got {percentile}, {scale}")
    wide = create_network(name, **{**kwargs, "T": time_steps(search_steps)})
    wide.load_state_dict(fitting_weights(trained, wide.state_dict()))
    wide.train()
    for neuron, affine in _layers(wide, name):
        _divide(affine, _percentile(wide, neuron, images, percentile))
    for _, affine in _layers(wide, name):
        _divide(affine, scale)
    kwargs["T"] = time_steps(T)
    net = create_network(name, **kwargs)
    net.load_state_dict(wide.state_dict())
    _measure_norms(net, images)
    origin = {"file": Path(trained).name, "percentile": percentile, "scale": scale}
    save_checkpoint(net, out, {"model": {"name": name, "kwargs": kwargs}, "converted": origin})
    return net


def _layers(net: nn.Module, name: str) -> Iterator[tuple[LIF, list[Tensor]]]:
    """Every spiking layer in order, with the weights whose scale is that of its currents."""
    paired = 0
    for module in net.modules():
        neuron = getattr(module, "neuron", None)
        if not isinstance(neuron, LIF):
            continue
        dynamics, before = neuron.dynamics, getattr(module, "norm", getattr(module, "fc", None))
        if type(neuron) is not LIF or dynamics.decay != 1 or dynamics.v_reset:
            raise InputError("conversion is for integrate-and-fire neurons: decay=1, no mechanism")
        if before is None:
            break
        paired += 1
        yield neuron, [part.data for part in (before.weight, before.bias) if part is not None]
    if paired != sum(isinstance(module, LIF) for module in net.modules()):
        raise InputError(
            f"a spiking layer of {name} has no norm and no linear layer of its own, whose weights "
            "could take its threshold: convert a VGG or a CIFARNet"
        )


def _divide(affine: list[Tensor], threshold: float) -> None:
    for part in affine:
        part.div_(threshold)


def _percentile(net: nn.Module, neuron: LIF, images: Tensor, percentile: float) -> float:
    """A percentile of the currents that arrive at a layer, in thresholds."""
    found: list[Tensor] = []
    hook = neuron.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    net(images)
    hook.remove()
    currents = found[0].flatten().float()
    currents = currents[:: len(currents) // LARGEST_QUANTILE + 1]
    value = float(torch.quantile(currents, percentile / 100)) / neuron.dynamics.threshold
    value *= neuron.dynamics.gain
    if not value > 0:
        raise InputError(f"no current of {percentile:g} % is above 0: the network has learnt none")
    return value


def _measure_norms(net: nn.Module, images: Tensor) -> None:
    """Gives batch norms the statistics of the spiking network."""
    norms: list[Any] = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0
    net.train()(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    net.eval()
