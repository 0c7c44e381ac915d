"""One draw of a network: as attacks see it, and the plain float32 network that scores."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from robust_snn.kernels.backend import auto_runs
from robust_snn.neurons.fixed_network import frozen
from robust_snn.neurons.layer_constants import layer_constants
from robust_snn.neurons.pass_settings import PassSettings, layer_gradient, layer_gradients
from robust_snn.victim.averaged_draws import Run
from robust_snn.victim.batch_grouping import check_steps, known_groupings, passed
from robust_snn.victim.refusals import checked_logits

if TYPE_CHECKING:
    from robust_snn.victim.victim import Victim


def attack_pass(victim: Victim, modules: list[nn.Module], layers: dict[nn.Module, int]) -> Run:
    """A draw under the settings of a victim, with a gradient on the images.

    Args:
        victim: The victim.
        modules: All modules of its network.
        layers: Numbers of those that draw.
    """
    net, steps = victim.net, victim.output == "steps"
    known = known_groupings(net)
    mode, statistics = layer_gradient(victim).mode, victim.statistics
    settings = PassSettings(
        mean_field=victim.noise == "mean",
        layers=layers,
        gradients=layer_gradients(net, mode, statistics, modules),
        fused_norm=True,
        sparse=victim.sparse,
        every_step=steps,
    )
    last = victim.channels_last or victim.sparse != "never"
    bf16 = victim.bf16

    def run(x: Tensor, keys: Tensor) -> Tensor:
        if mode.accumulates:
            statistics.observe(x)
        if steps:
            check_steps(net, x)
        images = partial(_copied, x, channels_last=last and x.dim() == 4)
        half = torch.autocast(x.device.type, torch.bfloat16, enabled=bf16)
        with frozen(modules), half:
            dtype = torch.bfloat16 if bf16 else torch.float32
            laid_out = dtype if last and auto_runs("triton", x) else None
            own = settings._replace(keys=keys, constants=layer_constants(modules, laid_out))
            logits = checked_logits(passed(net, images, own, known), net, len(x), steps).float()
        return logits.unflatten(0, (-1, len(x))) if steps else logits

    return run


def scoring_pass(net: nn.Module, modules: list[nn.Module], layers: dict[nn.Module, int]) -> Run:
    """A draw of the plain float32 network, whatever the settings of the victim.

    Args:
        net: The network.
        modules: All its modules.
        layers: Numbers of those that draw.
    """
    known = known_groupings(net)

    def run(x: Tensor, keys: Tensor) -> Tensor:
        settings = PassSettings(keys, layers=layers)
        with frozen(modules):
            logits = passed(net, partial(_copied, x.float()), settings, known)
        return checked_logits(logits, net, len(x)).float()

    return run


def entered(x: Tensor) -> Tensor:
    """Images as contiguous float32, whose gradient is contiguous, in the images' own type."""
    images: Tensor = _Entry.apply(x)
    return images


class _Entry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        return x.float().contiguous().view_as(x)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        return upstream[0].to(ctx.dtype).contiguous()


def _copied(x: Tensor, channels_last: bool = False) -> Tensor:
    """Images that a network may write into: a caller's tensors stay as they are."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return x.clone(memory_format=layout)
