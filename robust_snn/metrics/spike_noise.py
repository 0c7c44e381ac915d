"""Random damage to hidden spikes and to event frames (the challenges of NSNN, ICLR 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robust_snn.errors import InputError, unknown
from robust_snn.neurons import LIF

KINDS = ("independent", "exact")


def flip_spikes(
    spikes: Tensor,
    beta: float,
    generator: torch.Generator,
    kind: Literal["independent", "exact"] = "independent",
) -> Tensor:
    """Flips spikes to silence and silence to spikes; a rate r becomes r (1 - 2 beta) + beta.

    Args:
        spikes: Zeros and ones, `[T, B, ...]`.
        beta: Share that flips, of the spikes and of the silence alike.
        generator: Source of randomness.
        kind: `"independent"` (paper) flips each with probability beta. `"exact"` (code) flips in
            every sample `floor(beta n)` of its n ones and of its n zeros.

    Returns:
        `[T, B, ...]`; flipped entries pass no gradient.

    Raises:
        InputError: If beta is not in [0, 1] or the kind is not known.
    """
    _check_share("beta", beta)
    if kind not in KINDS:
        raise unknown("kind of flips", kind, KINDS)
    uniform = torch.rand(spikes.shape, generator=generator, device=generator.device)
    uniform = uniform.to(spikes.device)
    if kind == "independent":
        chosen = uniform < beta
    else:
        ones = _lowest_share(uniform, spikes > 0, beta)
        chosen = ones | _lowest_share(uniform, spikes == 0, beta)
    return torch.where(chosen, 1 - spikes.detach(), spikes)


def drop_events(frames: Tensor, rho: float, generator: torch.Generator) -> Tensor:
    """Removes in every sample `floor(rho n)` of its n entries that are not zero.

    That is the EventDrop of NSNN's code. The augmentation of the same name (Gu et al., IJCAI 2021)
    also drops intervals of time and areas; see `event_drop`.

    Args:
        frames: Event frames `[B, T, C, H, W]`; a bin with several events is removed wholly.
        rho: Share to remove.
        generator: Source of randomness.

    Raises:
        InputError: If rho is not in [0, 1].
    """
    _check_share("rho", rho)
    uniform = torch.rand(frames.shape, generator=generator, device=generator.device)
    samples_second = uniform.to(frames.device).transpose(0, 1)
    chosen = _lowest_share(samples_second, frames.transpose(0, 1) != 0, rho).transpose(0, 1)
    return torch.where(chosen, 0, frames)


def event_drop(frames: Tensor, rho: float, generator: torch.Generator) -> Tensor:
    """EventDrop (Gu et al., IJCAI 2021): per sample one of four strategies, drawn evenly.

    Nothing, an interval of `ceil(rho T)` steps, an area of `rho` of height and width each, or
    entries at random.

    Args:
        frames: Event frames `[B, T, C, H, W]`.
        rho: Share to remove.
        generator: Source of randomness.

    Raises:
        InputError: If rho is not in [0, 1].
    """
    _check_share("rho", rho)
    out = frames.clone()
    for sample in out:
        strategy = _draw(4, generator)
        if strategy == 1:
            _window(sample, 0, rho, generator).zero_()
        elif strategy == 2:
            _window(_window(sample, 2, rho, generator), 3, rho, generator).zero_()
        elif strategy == 3:
            sample.copy_(drop_events(sample.unsqueeze(0), rho, generator)[0])
    return out


@contextmanager
def hidden_flips(
    net: nn.Module,
    beta: float,
    seed: int = 0,
    kind: Literal["independent", "exact"] = "independent",
) -> Iterator[None]:
    """Inside, the spikes of every layer of `net` are flipped on their way to the next layer.

    The neurons' own reset is not affected.
    """
    generator = torch.Generator().manual_seed(seed)

    def flip(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        return flip_spikes(out, beta, generator, kind)

    with ExitStack() as stack:
        for module in net.modules():
            if isinstance(module, LIF):
                stack.callback(module.register_forward_hook(flip).remove)
        yield


def _lowest_share(uniform: Tensor, among: Tensor, share: float) -> Tensor:
    """Per sample, the `floor(share n)` of the n entries of `among` with the lowest draws."""
    flat = uniform.masked_fill(~among, 2.0).transpose(0, 1).flatten(1)
    count = (share * among.transpose(0, 1).flatten(1).sum(1) + 1e-6).floor()
    rank = flat.argsort(1).argsort(1)
    chosen = rank < count[:, None]
    return chosen.view(uniform.transpose(0, 1).shape).transpose(0, 1)


def _window(x: Tensor, dim: int, share: float, generator: torch.Generator) -> Tensor:
    """A view on a random window of `ceil(share n)` of the n entries along a dimension."""
    length = -int(-share * x.shape[dim] // 1)
    start = _draw(x.shape[dim] - length + 1, generator)
    return x.narrow(dim, start, length)


def _draw(choices: int, generator: torch.Generator) -> int:
    return int(torch.randint(choices, (), generator=generator, device=generator.device))


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name} must be in [0, 1], got {value:g}")
