"""Backbones under their names in timm, each with every mechanism."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from timm.models import build_model_with_cfg, register_model
from timm.models._pretrained import DefaultCfg

from robust_snn.models import zoo
from robust_snn.models.backbone import Family, SpikingBackbone
from robust_snn.models.mechanisms import MECHANISMS


def family_cfgs(first_conv: str, sides: Mapping[str, int]) -> dict[str, DefaultCfg]:
    """timm's table of a family's configurations, the trained networks' among them.

    Args:
        first_conv: Path of the first convolution.
        sides: Side of the last feature map of a CIFAR image, by backbone.
    """
    return zoo.with_zoo(
        {
            name: _default_cfg(first_conv, side)
            for backbone, side in sides.items()
            for name in _variants(backbone)
        }
    )


def _default_cfg(first_conv: str, pool_size: int) -> dict[str, Any]:
    """timm's data config: the model normalises inside, so its input is plain [0, 1]."""
    return {
        "url": "",
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "fixed_input_size": True,
        "pool_size": (pool_size, pool_size),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "first_conv": first_conv,
        "classifier": "fc",
        "license": "mit",
    }


def _variants(backbone: str) -> dict[str, str]:
    """Model names of a backbone with their mechanisms: `{"snn_vgg5": "none", ...}`."""
    return {
        f"snn_{backbone}" if mechanism == "none" else f"snn_{backbone}_{mechanism}": mechanism
        for mechanism in MECHANISMS
    }


def register_variants(
    module: str, family: Family, backbone: str, levels: int, **defaults: Any
) -> None:
    """Registers a backbone with every mechanism in timm.

    Args:
        module: `__name__` of the calling module, which holds `default_cfgs`.
        family: Function that builds the trunk.
        backbone: Name of the variant, such as `"wrn16"`.
        levels: Number of stages, each of which is a feature level.
        **defaults: Arguments that make it.
    """
    for name, mechanism in _variants(backbone).items():
        fixed = {**defaults, "family": family, "mechanism": mechanism}
        entry = _entry_point(name, levels, fixed)
        entry.__name__ = entry.__qualname__ = name
        entry.__module__ = module
        entry.__doc__ = family.__doc__
        register_model(entry)


def _entry_point(
    name: str, levels: int, defaults: dict[str, Any]
) -> Callable[..., SpikingBackbone]:
    def entry(pretrained: bool = False, **kwargs: Any) -> SpikingBackbone:
        tagged = f"{name}.{kwargs.get('pretrained_cfg')}"
        if tagged in zoo.trained():
            kwargs = {**zoo.card(tagged)["model"]["kwargs"], **kwargs}
        model: SpikingBackbone = build_model_with_cfg(
            SpikingBackbone,
            name,
            pretrained,
            feature_cfg={"out_indices": tuple(range(levels)), "feature_cls": "getter"},
            **{**defaults, **kwargs},
        )
        if isinstance(model, SpikingBackbone):  # and no extractor of features
            cfg: Any = model.pretrained_cfg
            reduction = model.feature_info[-1]["reduction"]  # other stages and stems reduce more
            cfg["pool_size"] = tuple(side // reduction for side in cfg["input_size"][1:])
        return model

    return entry
