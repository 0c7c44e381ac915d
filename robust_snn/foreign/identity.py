"""What ran: everything of a victim that its numbers depend on, to be kept beside them.

That is the structure of its network with all attributes, its tensors, its settings, the libraries
behind it, and what it answers: logits and input gradients of a few images. Answers are compared
within rounding, so that a run that began on one processor may go on on another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.data.lazy_images import Images
from robust_snn.foreign.hidden_state import moving_places
from robust_snn.foreign.shown_net import ShownNet
from robust_snn.utils.atomic_files import differences
from robust_snn.utils.machine import processor
from robust_snn.utils.module_description import describe_modules, libraries_of, unmoved
from robust_snn.utils.modules import device_of, weights_sha256
from robust_snn.victim import Victim

SETTINGS = ("gradient", "sparse", "channels_last", "bf16", "tf32")  # that change an attack's passes
UNDECIDING = ("backend", "pretrained_model_args")  # attributes that change no answer
BEHAVIOUR = "behaviour"  # the part that is compared within rounding
SHOWN, FEWER = 4, 3  # images that are answered, and those whose gradient is looked at
PROJECTIONS = 16  # numbers that stand for the gradient of an image
# relative distances of answers: on one machine, and on two, where rounding moves spikes
SAME_MACHINE = {"logits": 1e-3, "gradients": 1e-3}
OTHER_MACHINE = {"logits": 0.3, "gradients": 1.5}


def identity(victim: Victim, images: Images) -> dict[str, Any]:
    """Everything that the numbers of a victim depend on, as JSON values.

    Args:
        victim: The victim, in eval mode.
        images: Images that it will get, `[N, C, H, W]`; the first few are shown to it.
    """
    net = victim.net
    rows = torch.arange(SHOWN) % len(images)
    shown = images[rows].to(device_of(victim)).float()
    judge = victim.replace(seed=0)
    logits, again = (judge.sample(shown, torch.arange(SHOWN), purpose="identity") for _ in "12")
    before = _described(net)
    gradients = _gradients(victim, shown[:FEWER])  # of another batch size, so that states move
    answers = {"logits": _rounded(logits), "gradients": gradients, "machine": _machine(shown)}
    repeat = torch.allclose(logits, again, rtol=1e-2, atol=1e-4)  # not under noise from elsewhere
    return {
        "network": unmoved(before, _described(net)),
        "weights": weights_sha256(net),
        "settings": {name: _plain(getattr(victim, name)) for name in SETTINGS},
        "libraries": libraries_of(net),
        BEHAVIOUR: answers if repeat else {},
    }


def _described(net: nn.Module) -> dict[str, Any]:
    """A network's modules, without what moves in a call: that tells which images came last."""
    found = describe_modules(net)
    shown_nets = [(path, m) for path, m in net.named_modules() if isinstance(m, ShownNet)]
    for outer, shown in shown_nets:
        for (inner, name), kept in shown.rest.items():
            if () in moving_places(kept):
                path = ".".join(part for part in (outer, "net", inner) if part)
                found.get(path, {}).pop(name, None)
    return found


def structure_sha256(what_ran: Mapping[str, Any]) -> str:
    """Digest of what tells networks of the same tensors apart: steps, thresholds and the like.

    Gradient modes and kernel backends are left out, which change no spike.

    Args:
        what_ran: What `identity` gives.
    """
    text = json.dumps(_deciding(public(what_ran["network"])), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def public(tree: Any) -> Any:
    """A description without private attributes, and seeds, which a victim replaces by its own."""
    if isinstance(tree, dict):
        kept = {key: value for key, value in tree.items() if key != "seed" and key[:1] != "_"}
        return {key: public(value) for key, value in kept.items()}
    return tree


def _deciding(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    kept = {key: _deciding(value) for key, value in tree.items() if key not in UNDECIDING}
    return {key: value for key, value in kept.items() if not _is_gradient(value)}


def _is_gradient(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("class")).startswith("robust_snn.gradients.")


def without_behaviour(tree: Any) -> Any:
    """A tree of JSON values without what is compared within rounding."""
    if isinstance(tree, dict):
        kept = {key: value for key, value in tree.items() if key != BEHAVIOUR}
        return {key: without_behaviour(value) for key, value in kept.items()}
    return tree


def changes(old: Any, new: Any, key: str = "") -> list[str]:
    """What differs between two trees of JSON values that hold identities, in words; answers are
    named where nothing else differs, since those of other images, say, are no news."""
    told = list(differences(without_behaviour(old), without_behaviour(new), key))
    return told or _behaviour(old, new, key)


def _behaviour(old: Any, new: Any, key: str) -> list[str]:
    """Where answers differ, in trees that are the same otherwise."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return list(differences(old, new, key))
    if key.split(".")[-1] == BEHAVIOUR:
        return _answers(old, new, key)
    parts = [(old.get(n), new.get(n), f"{key}.{n}" if key else n) for n in {**old, **new}]
    return [line for part in parts for line in _behaviour(*part)]


def _answers(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> list[str]:
    found = []
    here = new.get("machine")
    same = here is not None and here == old.get("machine")
    for name, most in (SAME_MACHINE if same else OTHER_MACHINE).items():
        distance = _distance(old.get(name), new.get(name))
        if distance > most:
            found.append(f"{key}.{name}: {distance:.0%} apart on the same images")
    return found


def _distance(old: Any, new: Any) -> float:
    """Root-mean-square distance of two lists of numbers relative to them; 0 where one is none."""
    try:
        first, second = np.asarray(old, float), np.asarray(new, float)
    except (TypeError, ValueError):
        return float("inf")
    if old is None or new is None:
        return 0.0 if old is new else float("inf")
    if first.shape != second.shape:
        return float("inf")
    size = np.sqrt((first**2).sum() * (second**2).sum()) ** 0.5
    apart = float(np.sqrt(((first - second) ** 2).sum()))
    return apart / size if size > 0 else float(apart > 0)


def _gradients(victim: Victim, images: Tensor) -> list[list[float]] | None:
    """Projections of the gradient of the summed logits, under frozen noise; None without one."""
    generator = torch.Generator().manual_seed(0)
    onto = torch.randn(PROJECTIONS, images[0].numel(), generator=generator)
    shown = images.clone().requires_grad_()
    judge = victim.replace(seed=0, noise="frozen", eot=1, output="logits", graph=False)
    try:
        with torch.enable_grad():
            logits = judge(shown)
            signs = (-1.0) ** torch.arange(logits.shape[1], device=logits.device)
            (gradient,) = torch.autograd.grad((logits * signs).sum(), shown)
    except (ValueError, RuntimeError):  # attacks that need none may still run
        return None
    finite = gradient.nan_to_num(0.0, 0.0, 0.0)  # what is not finite, JSON cannot hold
    return _rounded(finite.flatten(1).cpu() @ onto.T)


def _machine(images: Tensor) -> str | None:
    """Where answers repeat to the last digits; None on GPUs, where sums have no fixed order."""
    if images.device.type != "cpu":
        return None
    return f"{processor()}, {torch.get_num_threads()} threads"


def _rounded(values: Tensor) -> list[list[float]]:
    return [[float(f"{v:.5g}") for v in row] for row in values.detach().double().cpu().tolist()]


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | str) else str(value)
