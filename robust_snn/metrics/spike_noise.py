"""Random damage to hidden spikes and to event frames (the challenges of NSNN, 2022).

Every draw belongs to a sample's key (see `robust_snn.kernels.sample_keys`), so a sample is damaged
alike in any batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robust_snn.kernels.draws import fast_uniform
from robust_snn.kernels.philox import Purpose
from robust_snn.neurons import LIF
from robust_snn.neurons.noise_source import MOST_LAYERS
from robust_snn.utils.errors import InputError, unknown

KINDS = ("independent", "exact")
STRATEGIES = ("none", "time", "area", "random")  # of Gu et al., IJCAI 2021, in their order
MIXED = "mixed"


def flip_spikes(
    spikes: Tensor,
    beta: float,
    keys: Tensor,
    kind: Literal["independent", "exact"] = "independent",
    layer: int = 0,
) -> Tensor:
    """Flips spikes to silence and silence to spikes; a rate r becomes r (1 - 2 beta) + beta.

    Args:
        spikes: Zeros and ones, `[T, B, ...]`.
        beta: Share that flips, of the spikes and of the silence alike.
        keys: Sample keys `[B]`.
        kind: `"independent"` (paper) flips each with probability beta. `"exact"` (code) flips in
            every sample `floor(beta n)` of its n ones and of its n zeros.
        layer: Address of the layer; layers of different addresses flip independently.

    Returns:
        `[T, B, ...]`; flipped entries pass no gradient.

    Raises:
        InputError: If beta is not in [0, 1] or the kind is not known.
    """
    check_share("beta", beta)
    if kind not in KINDS:
        raise unknown("kind of flips", kind, KINDS)
    uniform = fast_uniform(keys, tuple(spikes.shape[2:]), len(spikes), layer, Purpose.FLIP)
    if kind == "independent":
        chosen = uniform < beta
    else:
        ones = _lowest_share(uniform, spikes > 0, beta)
        chosen = ones | _lowest_share(uniform, spikes == 0, beta)
    return torch.where(chosen, 1 - spikes.detach(), spikes)


def event_drop(frames: Tensor, rho: float, keys: Tensor, strategy: str = MIXED) -> Tensor:
    """EventDrop (Gu et al., IJCAI 2021), as NSNN perturbs with it.

    Args:
        frames: Event frames `[B, T, C, H, W]`.
        rho: Share to remove.
        keys: Sample keys `[B]`.
        strategy: `"random"` removes `floor(rho n)` of a sample's n entries that are not zero, as
            NSNN's released code does; an entry of several events goes wholly. `"time"` removes an
            interval of `rho T` steps, `"area"` a window of `rho` of height and width each; where
            that is no whole number, chance rounds it, so that the mean is right. `"none"` removes
            nothing. `"mixed"`, the paper's, draws one of the four for every sample, evenly.

    Raises:
        InputError: If rho is not in [0, 1] or the strategy is not known.
    """
    check_share("rho", rho)
    if strategy not in (MIXED, *STRATEGIES):
        raise unknown("strategy of EventDrop", strategy, (MIXED, *STRATEGIES))
    places = fast_uniform(keys, (7,), 1, 0, Purpose.DROP)[0].tolist()
    out = frames.clone()
    for row, (sample, (which, *chance)) in enumerate(zip(out, places, strict=True)):
        chosen = STRATEGIES[int(4 * which)] if strategy == MIXED else strategy
        if chosen == "time":
            _window(sample, 0, rho, *chance[:2]).zero_()
        elif chosen == "area":
            rows = _window(sample, 2, rho, *chance[2:4])
            _window(rows, 3, rho, *chance[4:]).zero_()
        elif chosen == "random":
            key, shape = keys[row : row + 1], tuple(sample.shape[1:])
            uniform = fast_uniform(key, shape, len(sample), 1, Purpose.DROP)
            sample[_lowest_share(uniform, sample[:, None] != 0, rho)[:, 0]] = 0
    return out


@contextmanager
def hidden_flips(
    net: nn.Module,
    beta: float,
    keys: Tensor,
    kind: Literal["independent", "exact"] = "independent",
) -> Iterator[None]:
    """Flips spikes of every layer of `net` on their way to the next layer, while it is active.

    The neurons' own reset is not affected, and the network is not touched.

    Args:
        net: A network of our neurons.
        beta: Share that flips.
        keys: Sample keys `[B]` of the batch that passes inside.
        kind: As in `flip_spikes`.

    Raises:
        InputError: If the network has no spiking layer of ours.
    """
    layers = [module for module in net.modules() if isinstance(module, LIF)]
    if not layers:
        raise InputError(f"{type(net).__name__} has no layer of our spiking neurons to flip")

    uses: Counter[int] = Counter()  # a layer that runs once per step flips others in each

    def flipper(layer: int) -> Any:
        def flip(module: nn.Module, args: Any, out: Tensor) -> Tensor:
            uses[layer] += 1
            address = layer + MOST_LAYERS * (uses[layer] - 1)
            return flip_spikes(out, beta, keys, kind, address)

        return flip

    with ExitStack() as stack:
        for number, module in enumerate(layers):
            stack.callback(module.register_forward_hook(flipper(number)).remove)
        yield


def check_share(name: str, value: float) -> None:
    """Refuses what is no share.

    Raises:
        InputError: If the value is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise InputError(f"{name} must be in [0, 1], got {value:g}")


def _lowest_share(uniform: Tensor, among: Tensor, share: float) -> Tensor:
    """Per sample, the `floor(share n)` of the n entries of `among` with the lowest draws."""
    flat = uniform.masked_fill(~among, 2.0).transpose(0, 1).flatten(1)
    count = (share * among.transpose(0, 1).flatten(1).sum(1) + 1e-6).floor()
    taken = torch.arange(flat.shape[1], device=flat.device) < count[:, None]
    chosen = torch.zeros_like(taken).scatter_(1, flat.argsort(dim=1, stable=True), taken)
    return chosen.view(uniform.transpose(0, 1).shape).transpose(0, 1)


def _window(x: Tensor, dim: int, share: float, rounding: float, place: float) -> Tensor:
    """A view on a window of `share n` of the n entries along a dimension, at a random place."""
    length = min(int(share * x.shape[dim] + rounding + 1e-6), x.shape[dim])
    return x.narrow(dim, int(place * (x.shape[dim] - length + 1)), length)
