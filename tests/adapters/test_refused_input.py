"""No library is handed labels or pixels that it would misread."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from robust_snn import InputError, Victim
from robust_snn.adapters import art, foolbox, torchattacks
from robust_snn.adapters.autoattack import autoattack
from robust_snn.victim.scoring import accuracy
from victims import tiny_victim, told_by

Call = Callable[[Victim, Tensor, Tensor], object]
ATTACKS: dict[str, Call] = {
    "autoattack": lambda v, x, y: autoattack(v, x, y, 0.1, attacks=["square"], n_queries=2),
    "torchattacks": lambda v, x, y: torchattacks.attack(v, "FGSM", eps=0.1)(x, y),
    "art": lambda v, x, y: art.attack(v, "FastGradientMethod", eps=0.1)(x, y),
    "foolbox": lambda v, x, y: foolbox.attack(v, "FGSM", 0.1)(x, y),
}
LABELS: dict[str, tuple[Callable[[Tensor], Tensor], str | None]] = {
    "int32": (Tensor.int, None),
    "uint8": (lambda y: y.to(torch.uint8), None),
    "a column": (lambda y: y[:, None], "labels.flatten()"),
    "one-hot": (lambda y: F.one_hot(y, 4), "labels.argmax"),
    "soft": (lambda y: F.one_hot(y, 4).float(), "labels.argmax"),
    "floats": (Tensor.float, "labels.long()"),
    "too low": (lambda y: y - 4, "labels must lie in 0..3"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_labels_are_taken_or_refused_by_name(attack: str) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 3)
    for change, refusal in LABELS.values():
        for call in (ATTACKS[attack], accuracy):
            if refusal is None:
                call(victim, images, change(labels))
                continue
            with pytest.raises(InputError, match=refusal):
                call(victim, images, change(labels))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("scale", [lambda x: 2 * x - 1, lambda x: 255 * x])
def test_pixels_outside_their_range_are_refused(
    attack: str, scale: Callable[[Tensor], Tensor]
) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 2)
    with pytest.raises(InputError, match=r"pixels must lie in \[0, 1\]"):
        ATTACKS[attack](victim, scale(images), labels)


@pytest.mark.parametrize("method", ["predict", "loss_gradient", "class_gradient"])
@pytest.mark.parametrize(
    "scale", [lambda x: 2 * x - 1, lambda x: 255 * x, lambda x: (255 * x).byte()]
)
def test_arts_estimator_refuses_other_ranges(
    method: str, scale: Callable[[Tensor], Tensor]
) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 2)
    estimator = art.to_art(victim, input_shape=tuple(images.shape[1:]))
    more = () if method == "predict" else (labels.cpu().numpy(),)
    with pytest.raises(InputError, match=r"pixels must (lie|be floats) in \[0, 1\]"):
        getattr(estimator, method)(scale(images).cpu().numpy(), *more)
    getattr(estimator, method)(images.cpu().numpy() + 0.1, *more)  # as an attack may look
