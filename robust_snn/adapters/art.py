"""ART: `to_art(victim)` gives a `PyTorchClassifier` that every evasion attack of ART may rebuild.

Several attacks (AutoPGD with a named loss, conjugate gradients, ART's AutoAttack) make a plain
`PyTorchClassifier` of `estimator.model` and drop the estimator. So whatever makes the victim the
victim (averaging, gradient mode, noise policy) stays inside the module.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.adapters._crafting import Craft, SeededAttack, attacked_variant
from robust_snn.attacks.threat_radius import checked_radius
from robust_snn.utils.errors import InputError, missing_extra, unknown
from robust_snn.utils.modules import device_of
from robust_snn.utils.values import number
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import CheckedInputs, check_victim, count_classes

try:
    from art.attacks import evasion

    from robust_snn.adapters._art_classifier import SNNClassifier
    from robust_snn.adapters._art_sign_opt import BatchedSignOPT
except ImportError as error:
    raise missing_extra("adversarial-robustness-toolbox", "art") from error

TENSORFLOW = "it attacks TensorFlow models"
SPEECH = "it attacks speech recognition"
DETECTION = "it attacks object detectors"
PATCH = "it makes a patch, which to_art(victim) and ART's apply_patch put on images"
GUIDED = "it wants more than images and labels; run it on to_art(victim)"
EXCLUDED = {
    "AdversarialPatch": PATCH,
    "AdversarialPatchNumpy": PATCH,
    "AdversarialPatchPyTorch": PATCH,
    "AdversarialPatchTensorFlowV2": TENSORFLOW,
    "AdversarialTexturePyTorch": "it attacks object trackers",
    "CarliniWagnerASR": SPEECH,
    "CompositeAdversarialAttackPyTorch": "it needs kornia; run it on to_art(victim)",
    "DPatch": DETECTION,
    "DecisionTreeAttack": "it attacks decision trees",
    "FeatureAdversariesNumpy": GUIDED,
    "FeatureAdversariesPyTorch": GUIDED,
    "FeatureAdversariesTensorFlowV2": TENSORFLOW,
    "FrameSaliencyAttack": "it attacks sequences of frames, through another attack",
    "GRAPHITEBlackbox": GUIDED,
    "GeoDA": "it calls numpy.mat, which NumPy 2 removed",
    "GRAPHITEWhiteboxPyTorch": GUIDED,
    "HighConfidenceLowUncertainty": "it attacks Gaussian processes",
    "ImperceptibleASR": SPEECH,
    "ImperceptibleASRPyTorch": SPEECH,
    "LaserAttack": "it draws on images whose channels come last",
    "LowProFool": "it attacks tables of features",
    "MalwareGDTensorFlow": TENSORFLOW,
    "OverTheAirFlickeringPyTorch": "it attacks classifiers of videos",
    "OverloadPyTorch": DETECTION,
    "ProjectedGradientDescentTensorFlowV2": TENSORFLOW,
    "RobustDPatch": DETECTION,
    "SNAL": DETECTION,
}
ATTACKS = tuple(
    name
    for name, found in sorted(vars(evasion).items())
    if isinstance(found, type) and name not in EXCLUDED
)
NORMS = {"inf": "Linf", "2": "L2", "1": "L1"}  # by ART's name
# They fail on batches; BrendelBethgeAttack on all images where one has no start.
ONE_BY_ONE = ("BrendelBethgeAttack", "ShadowAttack", "SimBA", "ZooAttack")
# They ask about an image at a time, so that on CPUs, too, the draws of a query pass together.
ON_DECISIONS = ("BoundaryAttack", "HopSkipJump", "SignOPTAttack")
QUERIES_TOGETHER = 16
ON_PROBABILITIES = ("SimBA", "VirtualAdversarialMethod")
# Attacks that follow gradients; all others compare calls of the victim with each other.
GRADIENTS = (
    "AutoConjugateGradient",
    "AutoProjectedGradientDescent",
    "BasicIterativeMethod",
    "FastGradientMethod",
    "MomentumIterativeMethod",
    "ProjectedGradientDescent",
    "ProjectedGradientDescentNumpy",
    "ProjectedGradientDescentPyTorch",
    "RescalingAutoConjugateGradient",
    "ShadowAttack",
    "VirtualAdversarialMethod",
    "Wasserstein",
)


def to_art(
    victim: Victim,
    *,
    input_shape: tuple[int, int, int] | None = None,
    loss: nn.Module | None = None,
    **kwargs: Any,
) -> SNNClassifier:
    """Wraps a victim for ART, on the device where it is.

    Args:
        victim: What to attack.
        input_shape: `(C, H, W)` of one image; read from the net's `pretrained_cfg` if left out.
        loss: Loss on logits and integer labels; cross-entropy by default.
        **kwargs: More arguments of `SNNClassifier` and `PyTorchClassifier`.

    Raises:
        InputError: If the shape of an image is not known, or `device_type` says another device.
    """
    check_victim(victim)
    shape = input_shape or getattr(victim.net, "pretrained_cfg", {}).get("input_size")
    if shape is None:
        raise InputError("to_art needs input_shape=(C, H, W): the net does not say what it takes")
    device = device_of(victim)
    place = "gpu" if device.type == "cuda" else "cpu"
    if kwargs.get("device_type", place) != place:
        raise InputError(
            f"the victim is on {device}, and stays there: move it by victim.to(...), and leave "
            f"device_type={kwargs['device_type']!r} out"
        )
    settings: dict[str, Any] = {
        "clip_values": (0.0, 1.0),
        "device_type": place,
    }
    if "nb_classes" not in kwargs:
        settings["nb_classes"] = count_classes(victim, torch.zeros(1, *shape, device=device))
    return SNNClassifier(victim, loss or nn.CrossEntropyLoss(), shape, **(settings | kwargs))


def attack(
    victim: Victim,
    name: str,
    *,
    seed: int = 0,
    noise: str | None = None,
    loss: nn.Module | None = None,
    **arguments: Any,
) -> Craft:
    """Makes an evasion attack of ART that leaves victim, mode and global generators as they were.

    Args:
        victim: What to attack; its `eot` is what the attack sees.
        name: Name of a class of `art.attacks.evasion`, such as `"SquareAttack"`.
        seed: Seed of the attack. Call `i` of the result has random numbers of its own.
        noise: Noise policy. By default the victim's, and `"frozen"` in place of `"fresh"` for
            attacks that compare calls with each other.
        loss: Loss on logits and integer labels; cross-entropy by default.
        **arguments: Arguments of the class.

    Returns:
        A function of images `[N, C, H, W]` in [0, 1] and labels `[N]` that returns adversarial
        images.

    Raises:
        InputError: If the attack or an argument is not known, or the attack is one of `EXCLUDED`.
    """
    if name in EXCLUDED:
        raise InputError(f"ART's {name} cannot run here: {EXCLUDED[name]}")
    if name not in ATTACKS:
        raise unknown("ART attack", name, ATTACKS)
    accepted = signature(_kind(name).__init__).parameters
    for argument in arguments:
        if argument not in accepted:
            raise unknown(f"argument of {name}", argument, accepted)
    if name in ONE_BY_ONE:
        arguments["batch_size"] = 1
    if "verbose" in accepted:
        arguments.setdefault("verbose", False)
    if "eps" in arguments and not np.ndim(arguments["eps"]):  # ART also takes one per image
        usual = accepted["norm"].default if "norm" in accepted else np.inf
        norm = NORMS.get(str(arguments.get("norm", usual)))
        eps = arguments["eps"]
        arguments["eps"] = number(eps, "eps") if norm is None else checked_radius(eps, norm)
    attacked = attacked_variant(victim, noise, name not in GRADIENTS)
    if name in ON_DECISIONS:
        arguments.setdefault("batch_size", QUERIES_TOGETHER)
        if victim.eot_batch == "auto":
            attacked = attacked.replace(eot_batch=victim.eot, cost=victim.cost)

    return SeededAttack(attacked, seed, partial(_craft, name, loss, arguments))


def _kind(name: str) -> Any:
    return BatchedSignOPT if name == "SignOPTAttack" else getattr(evasion, name)


def _craft(
    name: str,
    loss: nn.Module | None,
    arguments: dict[str, Any],
    victim: Victim,
    inputs: CheckedInputs,
    stream: int,
) -> Tensor:
    images, labels, classes = inputs
    if images.ndim != 4:
        raise InputError(f"ART's {name} needs images [N, C, H, W], got {tuple(images.shape)}")
    shape = (images.shape[1], images.shape[2], images.shape[3])
    estimator = to_art(victim, input_shape=shape, loss=loss, nb_classes=classes)
    if name == "ShadowAttack":
        estimator.outside = np.inf
    if name in ON_PROBABILITIES:
        estimator = estimator.as_probabilities()
    x, y = images.cpu().numpy(), np.eye(classes, dtype=np.float32)[labels.cpu()]
    size = 1 if name in ONE_BY_ONE else len(x)
    gpu = torch.cuda.device(estimator.device if estimator.device.type == "cuda" else -1)
    with gpu, _seeded_states():  # ART rebuilds estimators on the current GPU
        made_by = _kind(name)(estimator, **arguments)
        made = [
            _generate(made_by, x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)
        ]
    return torch.as_tensor(np.concatenate(made).astype(np.float32), device=images.device)


def _generate(attack_: evasion.EvasionAttack, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The attack's images; `x` where BrendelBethgeAttack finds no start, as its siblings do."""
    try:
        return attack_.generate(x, y)
    except AssertionError:
        if not isinstance(attack_, evasion.BrendelBethgeAttack):
            raise
        message = "BrendelBethgeAttack drew no random image that is adversarial: raise init_size"
        warnings.warn(message, stacklevel=2)
        return x


@contextmanager
def _seeded_states() -> Iterator[None]:
    """Seeds `RandomState()`, from which boundary attacks draw starts, by NumPy's generator."""

    class Seeded(np.random.RandomState):
        def __init__(self, seed: Any = None) -> None:
            super().__init__(np.random.randint(2**31) if seed is None else seed)

    with mock.patch.object(np.random, "RandomState", Seeded):
        yield
