"""What a victim refuses: networks, images and logits that it could not answer with."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from robust_snn.utils.errors import InputError


def in_one_thread(net: nn.Module) -> nn.Module:
    """The network without `nn.DataParallel`, whose threads see no settings of a pass.

    Raises:
        InputError: If there is one inside, for several GPUs.
    """
    while isinstance(net, nn.DataParallel):
        net = net.module
    for name, module in net.named_modules():
        if isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
            raise InputError(
                f"{name} is an nn.DataParallel, in whose threads noise and gradient modes would be "
                f"others; put {name}.module in its place, and nn.DataParallel around the Victim"
            )
    return net


def refuse_parameters(net: nn.Module) -> None:
    """Refuses a network that was built where it cannot be used.

    Raises:
        InputError: Naming a parameter.
    """
    for name, parameter in net.named_parameters():
        if parameter.is_inference():
            raise InputError(
                f"{name} of {type(net).__name__} was made in inference mode: build the network "
                "outside of it"
            )


def check_batch(x: Tensor) -> None:
    """Refuses what are no float images `[B, C, H, W]` or event frames `[B, T, C, H, W]`.

    Raises:
        InputError: Saying what came.
    """
    if x.dim() not in (4, 5) or not x.is_floating_point():
        raise InputError(
            "expected float images [B, C, H, W] or event frames [B, T, C, H, W], "
            f"got {x.dtype} {tuple(x.shape)}"
        )


def checked_logits(logits: Any, net: nn.Module, batch: int, steps: bool = False) -> Tensor:
    """What a network returned, if it is logits `[B, K]`, or `[T * B, K]` for those of every step.

    Nothing is read from a tensor, so it costs nothing.

    Raises:
        InputError: Saying what it returned instead.
    """
    found = type(logits).__name__
    if isinstance(logits, Tensor):
        fits = len(logits) % batch == 0 if steps and logits.dim() else logits.shape[:1] == (batch,)
        if fits and logits.dim() == 2 and logits.is_floating_point():
            return logits
        found = f"{logits.dtype} {tuple(logits.shape)}"
    raise InputError(
        f"{type(net).__name__} gives {found} for {batch} images, expected float logits [B, K]; "
        "robust_snn.adapt(net) finds how other people's networks are read"
    )
