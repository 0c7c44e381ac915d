"""What a verdict says of a run whose numbers mean little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.diagnostics import Diagnostic, clean_accuracy
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.scoring import verdict_checks
from robust_snn.eval.scoring.gradient_checks import on_survivors
from robust_snn.eval.scoring.noise_draws import batch_influence, gradient_influence, score
from robust_snn.eval.scoring.verdict_checks import (
    attacked,
    beside,
    black_box,
    copies,
    devices,
    noise,
    reach,
    same_answer,
)
from victims import SHAPE, StandIn, tiny_victim


@pytest.mark.parametrize(
    ("accuracy", "classes", "fails"),
    [(0.1, 10, True), (0.09, 10, True), (0.11, 10, False), (0.5, 2, True), (0.0, 1000, True)],
)
def test_a_network_no_better_than_chance_fails(accuracy: float, classes: int, fails: bool) -> None:
    found = clean_accuracy(accuracy, classes)
    assert [note.status for note in found] == (["fail"] if fails else [])
    assert all("labels shifted" in note.why for note in found)


@pytest.mark.parametrize(
    ("alone", "status"),
    [((), "fail"), ((0.48,), "warn"), ((0.3, 0.9), "pass")],  # the worst of all is 0.4
)
def test_what_came_before_the_gradients_hides_nothing(alone: Any, status: str) -> None:
    """Where every attack met all images, a search before the gradients has not broken more."""
    course = [(0.9, True), (0.5, False), (0.4, True)]
    (found,) = black_box(course, 50, alone=alone)
    assert found.status == status


@pytest.mark.parametrize(
    ("said", "share", "status"),
    [
        ("fail", 0.5, "fail"),
        ("warn", 0.5, "warn"),
        ("fail", 0.1, "warn"),
        ("warn", 0.1, "pass"),
        ("pass", 0.1, "pass"),
    ],
)
def test_few_survivors_say_less_than_many(said: Any, share: float, status: str) -> None:
    (found,) = on_survivors([Diagnostic("finite differences", 0.0, said, "why")], share)
    assert (found.name, found.status) == ("finite differences on survivors", status)


@pytest.mark.parametrize(("images", "statuses"), [(0, ["fail"]), (1, [])])
def test_a_run_without_an_attack_fails(images: int, statuses: list[str]) -> None:
    assert [note.status for note in attacked(images)] == statuses


@pytest.mark.parametrize(
    ("norm", "eps", "statuses"),
    [
        ("Linf", 0.0, ["fail"]),
        ("L2", 0.0, ["fail"]),
        ("L0", 0.0, ["fail"]),
        ("Linf", 8 / 255, []),
        ("L2", 0.5, []),
        ("Linf", 0.5, ["warn"]),
    ],
)
def test_a_radius_that_allows_nothing_fails(norm: str, eps: float, statuses: list[str]) -> None:
    assert [note.status for note in reach(Threat(norm, eps))] == statuses
    assert not reach(Threat(norm, eps), own_bounds=True)


class Counted(StandIn):
    """Its answer is the number that the first pixel stands for."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        meant = (x.flatten(1)[:, :1] * self.classes).round()
        return -(torch.arange(self.classes, device=x.device) - meant).abs()


@pytest.mark.parametrize("classes", [10, 2**15, 2**15 + 1, 70_000])
def test_predictions_hold_every_class(classes: int, device: torch.device) -> None:
    victim = Victim(Counted(classes).to(device))
    labels = torch.tensor([0, classes - 1], device=device)
    images = (labels / classes).view(2, 1, 1, 1)
    found = score(victim, images, labels, torch.arange(2), draws=1, purpose="report")
    assert np.array_equal(found.predictions[:, 0], labels.cpu()) and found.accuracy.all()


def test_results_of_several_kinds_of_device_are_named() -> None:
    assert not devices({"NVIDIA H100": 4}) and not devices({})
    (note,) = devices({"NVIDIA H200": 1, "NVIDIA H100": 4})
    assert note.status == "warn"
    assert "NVIDIA H100 (4 results), NVIDIA H200 (1 results)" in note.why


@pytest.mark.parametrize(
    ("declared", "spread", "repeats", "status"),
    [
        (False, 0.0, True, "pass"),
        (True, 0.5, True, "pass"),
        (False, 0.5, False, "warn"),
        (True, 0.5, False, "warn"),  # of a generator that no seed reaches
        (True, 0.0, True, "warn"),
    ],
)
def test_noise_that_no_seed_reaches_warns(
    declared: bool, spread: float, repeats: bool, status: str
) -> None:
    found = noise(declared, spread, repeats)
    assert found.status == status and ("not under control" in found.why) is not repeats


@pytest.mark.parametrize(
    ("answers", "labels", "fails"),
    [
        ([0] * 8, [0, 0, 0, 0, 0, 0, 0, 1], True),  # 87.5 % right, and says nothing
        ([0] * 8, [0] * 8, False),
        ([0] * 7 + [1], [0, 0, 0, 0, 0, 0, 0, 1], False),
        ([0] * 4, [0, 0, 0, 1], False),
    ],
)
def test_the_same_answer_to_all_images_fails(
    answers: list[int], labels: list[int], fails: bool
) -> None:
    found = same_answer(np.array(answers)[:, None].repeat(3, 1), np.array(labels))
    assert [note.status for note in found] == (["fail"] if fails else [])


class ByBatch(StandIn):
    """Turns its answers in batches of more images than a limit."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] * (-1 if len(x) > self.limit else 1)


@pytest.mark.parametrize(("limit", "status"), [(4, ["fail"]), (8, [])])
def test_an_image_whose_answer_depends_on_its_batch_fails(limit: int, status: list[str]) -> None:
    found = beside(batch_influence(Victim(ByBatch(limit)), torch.rand(8, 1, 2, 2)))
    assert [note.status for note in found] == status


class Watching(nn.Module):
    """Another network where something tells it that it is attacked."""

    def __init__(self, net: nn.Module, turns: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.net, self.turns = net, turns

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return -logits if self.turns(x) else logits


@pytest.mark.parametrize(
    ("turns", "status"),
    [
        (lambda x: torch.is_grad_enabled(), ["fail"]),
        (lambda x: x.requires_grad, ["fail"]),
        (lambda x: False, []),
    ],
)
@pytest.mark.parametrize("noisy", [False, True])
def test_a_network_that_asks_for_the_gradient_fails(
    turns: Callable[[Tensor], bool], status: list[str], noisy: bool
) -> None:
    victim = Victim(Watching(tiny_victim(noisy).net, turns), eot=2, noise="mean", bf16=True)
    found = verdict_checks.followed(gradient_influence(victim, torch.rand(8, *SHAPE)))
    assert [note.status for note in found] == status


@pytest.mark.parametrize(
    ("claimed", "images", "exact", "status"),
    [
        (0.1, 20, True, "fail"),
        (0.1, 20, False, "warn"),
        (0.7, 20, True, "warn"),
        (0.9, 20, True, "pass"),
        (0.0, 1, True, "warn"),  # at the edge of a class rounding decides
    ],
)
def test_claims_on_a_network_without_noise_must_be_so(
    claimed: float, images: int, exact: bool, status: str
) -> None:
    each = np.arange(images)
    said, right = each < images * claimed, each[:, None] < 0.95 * images
    (found,) = verdict_checks.claims({"pgd": (said, right)}, exact)
    assert found.status == status
    assert ("otherwise than when it is scored" in found.why) == (status == "fail")


@pytest.mark.parametrize(("distinct", "status"), [(100, []), (95, []), (94, ["warn"])])
def test_copies_of_images_warn(distinct: int, status: list[str]) -> None:
    found = copies([str(n % distinct) for n in range(100)])
    assert [note.status for note in found] == status


def test_what_could_not_be_looked_at_or_follows_a_counter_is_told() -> None:
    assert [d.status for d in verdict_checks.not_looked_at("what", "why", hidden=True)] == ["warn"]
    assert [d.status for d in verdict_checks.not_looked_at("what", "why")] == ["pass"]
    assert not verdict_checks.counted_calls(None)
    (told,) = verdict_checks.counted_calls("n")
    assert told.status == "warn" and "begin where it was when it was adapted" in told.why
