"""CIFARNet (Wu et al., AAAI 2019) in the size that NSNN trains (ICLR 2023, table 5).

128c3-256c3-ap2-512c3-ap2-1024c3-512c3-1024fc-512fc-fc
"""

from __future__ import annotations

from timm.models import generate_default_cfgs

from robust_snn.models.backbone import default_cfg, register_variants, variants
from robust_snn.models.snn_vgg import vgg

STAGES = ((128, 256), ("A", 512), ("A", 1024, 512))

default_cfgs = generate_default_cfgs(
    {name: default_cfg("stages.0.0.conv", 8) for name in variants("cifarnet")}
)

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
