"""Fusion encoding: several codes of an image side by side, as channels of one input."""

from __future__ import annotations

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from robust_snn.models.encodings import DirectEncoding
from robust_snn.neurons import FirstEncoder, LatencyEncoder
from robust_snn.utils.errors import unknown

# what a code turns pixels into before it is normalised; `direct` shows them as they are
CODES = {"direct": nn.Identity, "first": FirstEncoder, "latency": LatencyEncoder}


@register_notrace_module
class FusionEncoding(DirectEncoding):
    """Maps images to `[T, B, codes * C, H, W]`, every code normalised as the pixels are.

    Ding et al. (Nature Communications 16:10175, 2025) so join a code that generalises to one that
    shows what matters first, and read it out with an early exit. The layout is that of their code;
    which codes they fuse stands in files that we had no copy of. `codes="first"` is the
    information-first code alone. Event frames are coded by the number of their step.

    Args:
        in_chans: Channels of images.
        steps: Time steps.
        mean: Mean per channel.
        std: Standard deviation per channel.
        codes: Names in `CODES`, with a plus between them.

    Raises:
        InputError: If a code is not known.
    """

    def __init__(
        self,
        in_chans: int,
        steps: int,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        codes: str = "direct+first",
    ) -> None:
        super().__init__(in_chans, steps, mean, std)
        names = codes.split("+")
        for name in names:
            if name not in CODES:
                raise unknown("code of an image", name, CODES)
        self.codes = nn.ModuleList(CODES[name]() for name in names)

    @property
    def out_chans(self) -> int:
        return self.in_chans * len(self.codes)

    def encode(self, x: Tensor) -> Tensor:
        x = x.expand(self.steps, *x.shape[1:]) if len(x) == 1 else x
        return torch.cat([super(FusionEncoding, self).encode(code(x)) for code in self.codes], 2)
