"""Up to which share of spikes the event-driven convolution is the faster one on this machine.

Each kind of convolution is timed once: the dense one, and the event-driven one of few and of many
spikes. What came out is kept in the user's cache folder by processor, threads and versions of code,
so every later process of the machine chooses alike.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from robust_snn.kernels.measurements import kept, least_seconds, once
from robust_snn.kernels.measurements import measured_here as measured

FEW, MANY = 0.05, 0.3  # shares of spikes that are timed; a share above the second is no candidate
WORTH = 0.9  # of the dense time at most: what is gained must exceed what one cannot measure
IMAGES, PIXELS = 64, 16 * 32 * 32  # of the batch that is timed, at most
KIND = "convolution of "


def break_even(images: Tensor, weight: Tensor, stride: int, padding: int) -> float:
    """The share of spikes below which events are faster; 0 where they never are.

    Args:
        images: Spikes `[B, C, H, W]`; only their shape and type count.
        weight: `[out, C / groups, h, w]`.
        stride: The same along both axes.
        padding: Zeros on every side.
    """
    kind = images.shape, weight.shape, stride, padding, images.dtype
    asked = KIND, kind, torch.get_num_threads()
    return once(asked, partial(_share, images, weight, stride, padding))


def _share(images: Tensor, weight: Tensor, stride: int, padding: int) -> float:
    """The same, measured or read; batches of about one size are one kind."""
    count, (height, width) = len(images), images.shape[2:]
    batch = 1 << (max(1, min(count, IMAGES, PIXELS // (height * width))) - 1).bit_length()
    dtype = str(images.dtype).removeprefix("torch.")
    place = f"{height}x{width}, {list(weight.shape)}, {stride}, {padding}"
    if (groups := images.shape[1] // weight.shape[1]) > 1:
        place += f", {groups} groups"
    shape = (batch, *images.shape[1:])
    measure = partial(_measure, shape, images.dtype, weight, stride, padding)
    return kept(f"{KIND}{batch} images, {place}, {dtype}", measure, MANY)


def measured_here() -> dict[str, float]:
    """What was measured on this machine, with as many threads and these versions, by kind."""
    return measured(KIND)


def _measure(
    shape: tuple[int, ...], dtype: torch.dtype, weight: Tensor, stride: int, padding: int
) -> float:
    """The share at which a straight line through both event-driven times meets the dense one."""
    from robust_snn.kernels.convolution.event_driven import event_driven_convolution

    draws = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    few, many = (
        (draws < share).to(dtype).contiguous(memory_format=torch.channels_last)
        for share in (FEW, MANY)
    )
    images = [many]
    if dtype == torch.float32:  # in half precision, channels-first is never the faster one
        images.append(many.contiguous())
    given = weight, None, stride, padding
    work: list[Callable[[], object]] = [
        *(partial(event_driven_convolution, x, *given) for x in (few, many)),
        *(partial(F.conv2d, x, *given, groups=shape[1] // weight.shape[1]) for x in images),
    ]
    at_few, at_many, *dense = least_seconds(work)
    slope = max(at_many - at_few, 1e-9) / (MANY - FEW)
    share = FEW + (WORTH * min(dense) - at_few) / slope
    return 0.0 if share < FEW else round(min(share, MANY), 4)  # to count spikes costs time too
