"""VGGSNN (Deng et al., TET, ICLR 2022) for event frames, as NSNN trains it (2022, table 5).

    64c3-128c3-ap2-256c3-256c3-ap2-512c3-512c3-ap2-512c3-512c3-ap2-fc

On DVS-CIFAR it reads frames `[B, 10, 2, 48, 48]`: `in_chans=2, img_size=48`.
"""

from __future__ import annotations

from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.snn_vgg import vgg

STAGES = ((64, 128), ("A", 256, 256), ("A", 512, 512), ("A", 512, 512), ("A",))

default_cfgs = family_cfgs("stages.0.0.conv", {"vggsnn": 2})

register_variants(
    __name__,
    vgg,
    "vggsnn",
    len(STAGES),
    T=10,
    stages=STAGES,
    head_width=(),
    defaults={"decay": 0.5},
)
