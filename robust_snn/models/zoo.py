"""Trained networks inside the package.

    timm.create_model("snn_vgg5_stog.digits", pretrained=True)

Each is a `.safetensors` file in `weights/`, named like the model with its tag, and a card beside
it: the arguments, data and recipe that it was trained with, its accuracy, and what an evaluation
found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from timm.models import generate_default_cfgs
from timm.models._pretrained import DefaultCfg

from robust_snn.utils.errors import unknown
from robust_snn.utils.share_texts import percent

FOLDER = Path(__file__).parent / "weights"


@cache
def trained() -> tuple[str, ...]:
    """Names of the trained networks, such as `"snn_vgg5_stog.digits"`."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.safetensors")))


@cache
def card(name: str) -> Mapping[str, Any]:
    """What a trained network is: its model, data, recipe, accuracy and `evaluation`.

    Args:
        name: Such as `"snn_vgg5_stog.digits"`.

    Raises:
        InputError: If there is no such network.
    """
    if name not in trained():
        raise unknown("trained network", name, trained())
    found: Mapping[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def with_zoo(cfgs: Mapping[str, dict[str, Any]]) -> dict[str, DefaultCfg]:
    """timm's table of a family's configurations, the trained networks' among them.

    Args:
        cfgs: Configuration of each model of the family.
    """
    entries: dict[str, Any] = {}
    for name, cfg in cfgs.items():
        tags = [full for full in trained() if full.split(".")[0] == name]
        for full in tags:
            about = card(full)
            kwargs, data = about["model"]["kwargs"], about["data"]
            size = kwargs["img_size"]
            entries[full] = {
                **cfg,
                "file": str(FOLDER / f"{full}.safetensors"),
                "input_size": (kwargs["in_chans"], size, size),
                "pool_size": None,  # the network says when it is built
                "num_classes": kwargs["num_classes"],
                "description": f"trained on {data['n']} images of {data['name']}; {_found(about)}",
            }
        # a star keeps the network of the paper what the name without a tag means
        entries[f"{name}.*" if tags else name] = cfg
    return generate_default_cfgs(entries)


def _found(about: Mapping[str, Any]) -> str:
    """Its accuracies in a few words."""
    evaluation = about.get("evaluation")
    if evaluation is None:
        return f"test accuracy {percent(about['accuracy']['test'])}, robustness not evaluated"
    clean, robust = (evaluation[kind]["accuracy"] for kind in ("clean", "robust"))
    return (
        f"accuracy {clean:.0%} clean and {robust:.0%} at eps {evaluation['eps']:g} "
        f"({evaluation['norm']}) under suite {evaluation['suite']}"
    )
