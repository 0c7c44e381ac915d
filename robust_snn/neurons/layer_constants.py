"""Constants of all layers of a network at once: as many launches on a GPU as for one layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.neurons.norm import TimeBatchNorm2d
from robust_snn.neurons.pass_settings import LayerConstants
from robust_snn.neurons.stochastic_gate import FLOOR, HIGHEST, StochasticGate


@torch.no_grad()
def layer_constants(
    modules: Sequence[nn.Module], laid_out: torch.dtype | None = None
) -> LayerConstants:
    """The affine maps of the batch norms of a network, and the opening probabilities of its gates.

    Args:
        modules: Those of the network, in eval mode.
        laid_out: Type of activations that lie channels-last: the weights of convolutions of images
            are given in that type and layout too.

    Returns:
        What layers would compute themselves.

    To the last bit those of `TimeBatchNorm2d.affine_map` and `StochasticGate.opening`, without a
    gradient on parameters. They are made anew in every pass, since no version counter tells of a
    parameter that was changed through its `data`.
    """
    norms = [m for m in modules if isinstance(m, TimeBatchNorm2d)]
    gates = [m for m in modules if isinstance(m, StochasticGate)]
    return LayerConstants(
        dict(zip(norms, _affine_maps(norms), strict=True)) if norms else {},
        dict(zip(gates, _openings(gates), strict=True)) if gates else {},
        {} if laid_out is None else _channels_last_weights(modules, laid_out),
    )


def _channels_last_weights(
    modules: Iterable[nn.Module], dtype: torch.dtype
) -> dict[nn.Module, Tensor]:
    """The weights of all two-dimensional convolutions, in three launches."""
    convolutions = [m for m in modules if isinstance(m, nn.Conv2d)]
    if not convolutions:
        return {}
    shapes = tuple(m.weight.shape for m in convolutions)
    together = torch.cat([m.weight.flatten() for m in convolutions])
    order = _channels_last_order(shapes, together.device)
    parts = together[order].to(dtype).split([shape.numel() for shape in shapes])
    return {
        module: part.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
        for module, part, (outputs, inputs, height, width) in zip(
            convolutions, parts, shapes, strict=True
        )
    }


@lru_cache(maxsize=16)
def _channels_last_order(shapes: tuple[torch.Size, ...], device: torch.device) -> Tensor:
    """Where each weight of a channels-last stack lies in a channels-first one."""
    start, orders = 0, []
    for shape in shapes:
        places = torch.arange(start, start + shape.numel()).view(shape)
        orders.append(places.permute(0, 2, 3, 1).flatten())
        start += shape.numel()
    return torch.cat(orders).to(device)


def _affine_maps(norms: list[TimeBatchNorm2d]) -> Iterator[tuple[Tensor, Tensor]]:
    together: Any = torch  # its type hints know no lists of parameters
    scales = together._foreach_add([n.running_var for n in norms], [n.eps for n in norms])
    together._foreach_rsqrt_(scales)
    together._foreach_mul_(scales, [n.weight for n in norms])
    shifts = together._foreach_mul([n.running_mean for n in norms], scales)
    return zip(scales, together._foreach_sub([n.bias for n in norms], shifts), strict=True)


def _openings(gates: list[StochasticGate]) -> list[Tensor]:
    together: Any = torch
    given = [gate.probability for gate in gates]
    changes = together._foreach_clamp_min(given, FLOOR)
    together._foreach_clamp_max_(changes, HIGHEST)
    together._foreach_sub_(changes, given)
    openings: list[Tensor] = together._foreach_add(given, changes)
    return openings
