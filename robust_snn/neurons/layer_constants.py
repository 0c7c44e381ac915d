"""Constants of all layers of a network at once: as many launches on a GPU as for one layer."""

from __future__ import annotations

import torch
from torch import nn

from robust_snn.neurons.norm import TimeBatchNorm2d
from robust_snn.neurons.pass_settings import LayerConstants
from robust_snn.neurons.stochastic_gate import HIGHEST, LOWEST, StochasticGate


@torch.no_grad()
def layer_constants(net: nn.Module) -> LayerConstants:
    """The affine maps of the batch norms in `net`, and the opening probabilities of its gates.

    To the last bit those of `TimeBatchNorm2d.affine_map` and `StochasticGate.opening`, without a
    gradient on parameters. They are made anew in every pass, since no version counter tells of a
    parameter that was changed through its `data`.
    """
    norms = [m for m in net.modules() if isinstance(m, TimeBatchNorm2d)]
    gates = [m for m in net.modules() if isinstance(m, StochasticGate)]
    affine = opening = {}
    if norms:
        scales = torch._foreach_add([n.running_var for n in norms], [n.eps for n in norms])
        torch._foreach_rsqrt_(scales)
        torch._foreach_mul_(scales, [n.weight for n in norms])
        shifts = torch._foreach_mul([n.running_mean for n in norms], scales)
        shifts = torch._foreach_sub([n.bias for n in norms], shifts)
        affine = dict(zip(norms, zip(scales, shifts, strict=True), strict=True))
    if gates:
        given = [gate.probability for gate in gates]
        changes = torch._foreach_clamp_min(given, LOWEST)
        torch._foreach_clamp_max_(changes, HIGHEST)
        torch._foreach_sub_(changes, given)
        opening = dict(zip(gates, torch._foreach_add(given, changes), strict=True))
    return LayerConstants(affine, opening)
