"""Networks that were trained on prepared images, as functions of images in [0, 1]."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_snn.utils.errors import InputError

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, as in ITU-R BT.601


class Preprocessed(nn.Module):
    """A network behind the preparation of its images: channels, then size, then normalisation.

    Attackers and threat models see images in [0, 1]; gradients pass the preparation.

    Args:
        net: The network.
        mean: What is subtracted, a number or one per channel.
        std: What is divided by afterwards, as `mean`.
        resize: Side of the square, or height and width, that images are resized to: bilinear, and
            antialiased where it shrinks.
        channels: 3 repeats a grey image, 1 takes the luminance of a colour image.

    Raises:
        InputError: If a value is not plausible for images in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        resize: int | Sequence[int] | None = None,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise InputError("mean and std go together; give both, or none")
        if channels not in (None, 1, 3):
            raise InputError(f"channels must be 1 or 3, got {channels!r}")
        self.net = net
        self.size = None if resize is None else _size(resize)
        self.channels = channels
        # in the state of the module, so that weights_sha256 tells two normalisations apart
        self.register_buffer("mean", _per_channel("mean", 0.0 if mean is None else mean))
        self.register_buffer("std", _per_channel("std", 1.0 if std is None else std))
        if not (self.std > 0).all():
            raise InputError(f"std must be positive, got {std}")
        if channels is not None:
            self._check_channels(channels)
        self.train(net.training)

    def forward(self, x: Tensor) -> Any:
        """Hands images `[..., C, H, W]` in [0, 1], prepared, to the network."""
        return self.net(self.prepare(x))

    def prepare(self, x: Tensor) -> Tensor:
        """What the network sees of images `[..., C, H, W]` in [0, 1]."""
        if self.channels is not None:
            x = _with_channels(x, self.channels)
        if self.size is not None and x.shape[-2:] != self.size:
            flat = x.flatten(0, -4)
            flat = F.interpolate(flat, self.size, mode="bilinear", antialias=True)
            x = flat.unflatten(0, x.shape[:-3])
        self._check_channels(x.shape[-3])
        return (x - self.mean) / self.std

    def _check_channels(self, channels: int) -> None:
        for name, value in (("mean", self.mean), ("std", self.std)):
            if len(value) not in (1, channels):
                raise InputError(
                    f"{name} has {len(value)} values for images of {channels} channels; give one "
                    "per channel, or channels=3 to repeat a grey image"
                )

    def arguments(self) -> dict[str, Any]:
        """The arguments that change something, as JSON values."""
        normalises = bool((self.mean != 0).any() or (self.std != 1).any())
        found = {
            "mean": self.mean.flatten().tolist() if normalises else None,
            "std": self.std.flatten().tolist() if normalises else None,
            "resize": self.size and list(self.size),
            "channels": self.channels,
        }
        return {name: value for name, value in found.items() if value is not None}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.arguments().items())


PREPARATION = tuple(name for name in inspect.signature(Preprocessed).parameters if name != "net")


def _per_channel(name: str, value: float | Sequence[float]) -> Tensor:
    """Numbers for images in [0, 1], `[C, 1, 1]`."""
    try:
        found = torch.as_tensor(value, dtype=torch.float32).detach().flatten()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"{name} must be a number or one per channel, such as (0.5, 0.5, 0.5), got {value!r}"
        ) from None
    if not len(found):
        raise InputError(f"{name} has no value; give one per channel, or leave it out")
    if not ((found >= 0) & (found <= 1)).all():  # false for NaN too
        raise InputError(
            f"{name} must lie in [0, 1] for images in [0, 1], got {value}; "
            "divide values for bytes by 255"
        )
    return found[:, None, None]


def _size(resize: int | Sequence[int]) -> tuple[int, int]:
    sides = (resize, resize) if isinstance(resize, int) else tuple(resize)
    whole = all(isinstance(s, int) and not isinstance(s, bool) and s >= 1 for s in sides)
    if len(sides) != 2 or not whole:
        raise InputError(f"resize must be a side, or height and width, in pixels, got {resize!r}")
    return sides


def _with_channels(x: Tensor, channels: int) -> Tensor:
    """Grey images `[..., 1, H, W]` with three equal channels, or colour images in grey."""
    if x.shape[-3] == channels:
        return x
    if {x.shape[-3], channels} != {1, 3}:
        raise InputError(
            f"channels={channels} makes grey images of colour images and the reverse; these have "
            f"{x.shape[-3]} channels"
        )
    if channels == 3:
        return x.expand(*x.shape[:-3], 3, *x.shape[-2:])
    return (x * x.new_tensor(LUMINANCE)[:, None, None]).sum(-3, keepdim=True)
