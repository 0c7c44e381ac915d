"""Every entry point refuses the same inputs in the same words, and takes what is honest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from robust_snn import InputError, Victim, evaluate
from robust_snn.adapters import art, foolbox, torchattacks
from robust_snn.adapters.autoattack import AutoAttack, autoattack
from robust_snn.attacks import FGSM, PGD, Transfer
from robust_snn.diagnostics import cheap, full
from robust_snn.victim.checked_inputs import checked_inputs
from robust_snn.victim.scoring import accuracy, correct
from victims import StandIn, tiny_victim, told_by

Entry = Callable[[Victim, Any, Any], object]
VICTIM = tiny_victim(False)
IMAGES, LABELS = told_by(VICTIM, 6)
ENTRIES: dict[str, Entry] = {
    "FGSM": lambda v, x, y: FGSM()(v, x, y, eps=0.1),
    "PGD": lambda v, x, y: PGD(steps=1)(v, x, y, eps=0.1),
    "transfer": lambda v, x, y: Transfer(steps=1)(v, x, y, eps=0.1),
    "autoattack": lambda v, x, y: autoattack(v, x, y, 0.1, attacks=["square"], n_queries=2),
    "AutoAttack": lambda v, x, y: _original(v, x, y),
    "torchattacks": lambda v, x, y: torchattacks.attack(v, "FGSM", eps=0.1)(x, y),
    "art": lambda v, x, y: art.attack(v, "FastGradientMethod", eps=0.1)(x, y),
    "foolbox": lambda v, x, y: foolbox.attack(v, "FGSM", 0.1)(x, y),
    "accuracy": accuracy,
    "correct": correct,
    "cheap": cheap,
    "full": lambda v, x, y: full(v, x, y, eps=0.1),
    "checked": checked_inputs,
}
QUICK = ("FGSM", "torchattacks", "accuracy", "checked")  # by which the honest inputs go


def _original(victim: Victim, images: Any, labels: Any) -> object:
    attack = AutoAttack(victim, eps=0.1, version="custom", attacks_to_run=["square"], verbose=False)
    attack.square.n_queries = 2
    return attack.run_standard_evaluation(images, labels)


def put(value: float) -> Tensor:
    images = IMAGES.clone()
    images[2, 1, 0, 0] = value
    return images


BAD_IMAGES: dict[str, tuple[Any, str]] = {
    "[-1, 1]": (2 * IMAGES - 1, r"must lie in \[0, 1\]"),
    "[0, 255]": (255 * IMAGES, r"must lie in \[0, 1\]"),
    "normalised": ((IMAGES - 0.5) / 0.25, r"must lie in \[0, 1\]"),
    "a little above": (put(1.001), r"must lie in \[0, 1\]"),
    "uint8": ((255 * IMAGES).byte(), "divide bytes by 255"),
    "int64": ((255 * IMAGES).long(), "floats"),
    "bool": (IMAGES > 0.5, "floats"),
    "complex": (IMAGES.to(torch.complex64), "floats"),
    "float8": (IMAGES.to(torch.float8_e4m3fn), "floats"),
    "NaN": (put(torch.nan), "1 NaN pixels, first in image 2"),
    "infinite": (put(torch.inf), "1 infinite pixels"),
    "sparse": (IMAGES.to_sparse(), "to_dense"),
    "meta": (IMAGES.to("meta"), "meta"),
    "numpy": (IMAGES.numpy(), "torch.Tensor"),
    "a list": (IMAGES.tolist(), "torch.Tensor"),
    "None": (None, "torch.Tensor"),
    "one image": (IMAGES[0], r"\[B, C, H, W\]"),
    "flat": (IMAGES.flatten(1), r"\[B, C, H, W\]"),
    "six axes": (IMAGES[None, None], r"\[B, C, H, W\]"),
    "no pixels": (IMAGES[:, :0], "without pixels"),
    "channels": (IMAGES[:, :1], "expected images"),
    "channels last": (IMAGES.permute(0, 2, 3, 1), "expected images"),
}
BAD_LABELS: dict[str, tuple[Any, str]] = {
    "a column": (LABELS[:, None], "labels.flatten"),
    "a row": (LABELS[None], "labels of shape"),
    "one-hot": (F.one_hot(LABELS, 4), "labels.argmax"),
    "soft": (F.one_hot(LABELS, 4).float(), "labels.argmax"),
    "floats": (LABELS.float(), "labels.long"),
    "bool": (LABELS > 0, "integers"),
    "complex": (LABELS.to(torch.complex64), "integers"),
    "negative": (LABELS - 9, "must lie in 0..3"),
    "ignored": (torch.full((6,), -100), "must lie in 0..3"),
    "too large": (LABELS + 4, "must lie in 0..3"),
    "wrapped": (torch.full((6,), 2**64 - 1, dtype=torch.uint64), "must lie in 0..3"),
    "too few": (LABELS[:3], "labels of shape"),
    "too many": (LABELS.repeat(2), "labels of shape"),
    "one": (LABELS[:1], "labels of shape"),
    "scalar": (LABELS[0], "labels of shape"),
    "numpy": (LABELS.numpy(), "torch.Tensor"),
    "a list": (LABELS.tolist(), "torch.Tensor"),
    "None": (None, "torch.Tensor"),
    "meta": (LABELS.to("meta"), "meta"),
    "sparse": (LABELS.to_sparse(), "to_dense"),
}
HONEST_IMAGES: dict[str, Tensor] = {
    "half": IMAGES.half(),
    "double": IMAGES.double(),
    "bfloat16": IMAGES.bfloat16(),
    "channels last": IMAGES.to(memory_format=torch.channels_last),
    "strided": torch.stack([IMAGES, IMAGES], -1)[..., 0],
    "expanded": IMAGES[:1].expand(6, -1, -1, -1),
    "with gradient": IMAGES.clone().requires_grad_(),
    "parameter": nn.Parameter(IMAGES.clone()),
    "black": torch.zeros_like(IMAGES),
    "white": torch.ones_like(IMAGES),
    "minus zero": torch.full_like(IMAGES, -0.0),
}
HONEST_LABELS = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)


def refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", ENTRIES)
def test_wrong_images_are_refused(entry: str) -> None:
    for images, message in BAD_IMAGES.values():
        refused(lambda x=images: ENTRIES[entry](VICTIM, x, LABELS), message)


@pytest.mark.parametrize("entry", ENTRIES)
def test_wrong_labels_are_refused(entry: str) -> None:
    for labels, message in BAD_LABELS.values():
        refused(lambda y=labels: ENTRIES[entry](VICTIM, IMAGES, y), message)


@pytest.mark.parametrize("entry", QUICK)
def test_honest_inputs_are_taken(entry: str) -> None:
    for images in HONEST_IMAGES.values():
        ENTRIES[entry](VICTIM, images, LABELS)
    for kind in HONEST_LABELS:
        ENTRIES[entry](VICTIM, IMAGES, LABELS.to(kind))
    with torch.inference_mode():
        images, labels = IMAGES.clone(), LABELS.clone()
    ENTRIES[entry](VICTIM, images, labels)


@pytest.mark.parametrize("entry", [name for name in ENTRIES if name not in ("cheap", "full")])
def test_no_images_are_no_error_but_have_no_accuracy(entry: str) -> None:
    if entry in ("accuracy", "correct"):
        refused(lambda: ENTRIES[entry](VICTIM, IMAGES[:0], LABELS[:0]), "no images to score")
    elif entry not in ("art", "foolbox", "torchattacks"):  # whose libraries need one
        ENTRIES[entry](VICTIM, IMAGES[:0], LABELS[:0])


class Changed(StandIn):
    """A classifier whose logits somebody has changed."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.fc, self.change = nn.Linear(192, 4), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.fc(x.flatten(1)))


BAD_LOGITS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "one class": (lambda z: z[:, :1], "1 logits per image"),
    "no class": (lambda z: z[:, :0], "0 logits per image"),
    "[B]": (lambda z: z[:, 0], r"expected float logits \[B, K\]"),
    "[1, K]": (lambda z: z.mean(0, keepdim=True), r"expected float logits \[B, K\]"),
    "[2B, K]": (lambda z: torch.cat([z, z]), r"expected float logits \[B, K\]"),
    "[K, B]": (lambda z: z.T, r"expected float logits \[B, K\]"),
    "[B, K, 1, 1]": (lambda z: z[..., None, None], r"expected float logits \[B, K\]"),
    "[B, T, K]": (lambda z: torch.stack([z, z], 1), "robust_snn.adapt"),
    "[T, B, K]": (lambda z: torch.stack([z, z]), "robust_snn.adapt"),
    "scalar": (lambda z: z.sum(), r"expected float logits \[B, K\]"),
    "NaN": (lambda z: z * torch.nan, "not finite"),
    "infinite": (lambda z: z / 0, "not finite"),
    "a mask of -inf": (lambda z: z.masked_fill(z < z.amax(1, True), -torch.inf), "not finite"),
    "complex": (lambda z: z.to(torch.complex64), r"expected float logits \[B, K\]"),
    "answers": (lambda z: z.argmax(1), r"expected float logits \[B, K\]"),
    "bool": (lambda z: z > 0, r"expected float logits \[B, K\]"),
    "a tuple": (lambda z: (z, None), "gives tuple for 2 images"),
    "a mapping": (lambda z: {"logits": z}, "gives dict for 2 images"),
    "None": (lambda z: None, "gives NoneType for 2 images"),
    "an error": (lambda z: z @ z, "cannot take images of shape"),
}


@pytest.mark.parametrize("case", BAD_LOGITS)
def test_networks_that_are_no_classifiers_are_refused(case: str) -> None:
    change, message = BAD_LOGITS[case]
    victim = Victim(Changed(change).eval())
    for entry in QUICK:
        refused(lambda e=entry: ENTRIES[e](victim, IMAGES, LABELS), message)


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: net.half(), "weights are float16, and images float32: give net.float()"),
        (lambda net: net.bfloat16(), "weights are bfloat16"),
        (lambda net: net.to("meta"), "on the meta device, without values: load them first"),
    ],
)
def test_weights_that_cannot_meet_images_are_named(change: Any, message: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(IMAGES[0].numel(), 10)).eval()
    victim = Victim(change(net))
    for entry in QUICK:
        refused(lambda e=entry: ENTRIES[e](victim, IMAGES, LABELS), message)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (list(IMAGES), "use torch.stack"),
        (IMAGES.tolist(), "use torch.as_tensor"),
        ([Image.new("L", (8, 8))], r"give a data set whose items are \(image, label\)"),
        (DataLoader(TensorDataset(IMAGES)), "give its data set: loader.dataset"),
    ],
)
def test_what_is_no_tensor_is_told_how_to_become_one(images: Any, message: str) -> None:
    refused(lambda: PGD()(VICTIM, images, LABELS, eps=0.1), message)
    refused(lambda: evaluate(VICTIM, images, LABELS, suite="quick", eps=0.1), message)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_logits_of_another_precision_are_taken(kind: torch.dtype) -> None:
    victim = Victim(Changed(lambda z: z.to(kind)).eval())
    for entry in QUICK:
        ENTRIES[entry](victim, IMAGES, LABELS)


def test_what_is_no_victim_is_refused() -> None:
    refused(lambda: PGD()(VICTIM.net, IMAGES, LABELS, eps=0.1), "Victim")
    refused(lambda: art.to_art(VICTIM.net), "robust_snn.adapt")
    refused(lambda: foolbox.to_foolbox(VICTIM.net), "robust_snn.adapt")
    refused(lambda: torchattacks.attack(VICTIM.net, "PGD"), "robust_snn.adapt")
    refused(lambda: Victim(VICTIM), "already")
    refused(lambda: Victim(nn.Sequential(nn.Identity(), VICTIM)), "holds a Victim")
    refused(lambda: accuracy(Victim(nn.Flatten()), IMAGES[:1], IMAGES[:1]), "labels of shape")


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), torch.tensor(3), np.int32(3)])
def test_seeds_of_any_kind_are_the_number(seed: Any) -> None:
    for row in ("FGSM", "PGD"):
        attack = torchattacks.attack(VICTIM, row, eps=np.float32(0.1), seed=seed)
        expected = torchattacks.attack(VICTIM, row, eps=float(np.float32(0.1)), seed=3)
        assert torch.equal(attack(IMAGES, LABELS), expected(IMAGES, LABELS))
    images = [PGD(steps=1)(VICTIM, IMAGES, LABELS, eps=0.1, seed=s).images for s in (seed, 3)]
    assert torch.equal(*images)
    assert accuracy(VICTIM, IMAGES, LABELS, batch_size=np.int64(4)) == 1


@pytest.mark.parametrize("seed", ["a", 1.5, None, [1], float("nan"), True])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    refused(lambda: PGD(steps=1)(VICTIM, IMAGES, LABELS, eps=0.1, seed=seed), "seed must be")
    refused(lambda: VICTIM.replace(seed=seed), "seed must be")
