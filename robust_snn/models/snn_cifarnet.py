"""CIFARNet (Wu et al., AAAI 2019) in the size that NSNN trains (2022, table 5).

128c3-256c3-ap2-512c3-ap2-1024c3-512c3-1024fc-512fc-fc
"""

from __future__ import annotations

from robust_snn.models.registration import family_cfgs, register_variants
from robust_snn.models.snn_vgg import vgg

STAGES = ((128, 256), ("A", 512), ("A", 1024, 512))

default_cfgs = family_cfgs("stages.0.0.conv", {"cifarnet": 8})

register_variants(
    __name__,
    vgg,
    "cifarnet",
    len(STAGES),
    T=4,
    stages=STAGES,
    head_width=(1024, 512),
    defaults={"decay": 0.5},
)
