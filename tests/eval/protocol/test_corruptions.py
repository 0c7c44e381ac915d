"""Corruptions and flips inside an evaluation."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robust_snn
from robust_snn import InputError, Victim, evaluate
from robust_snn.data import load_dataset
from robust_snn.data.common_corruptions import KINDS, corrupted
from robust_snn.eval import load_suite
from robust_snn.eval.protocol.corruptions import (
    CORRUPTIONS,
    Corrupted,
    EventDrop,
    SpikeFlip,
    corruption,
)
from robust_snn.eval.protocol.suite import AttackSpec, Suite
from robust_snn.eval.scoring.corruption_accuracy import corruption_accuracy
from zoo import awake


@pytest.fixture(scope="module")
def events() -> tuple[Tensor, Tensor]:
    data = load_dataset("digits-events", n=12, steps=3, size=8)
    return data.images, data.labels


@pytest.fixture(scope="module")
def victim(events: tuple[Tensor, Tensor]) -> Victim:
    torch.manual_seed(0)
    size = {"T": 3, "img_size": 8, "in_chans": 2, "num_classes": 10}
    net = robust_snn.adapt("snn_vgg5_nlif", width=0.125, head_width=16, **size).net
    return Victim(awake(net, events[0]))


def test_no_damage_changes_nothing(victim: Victim, events: tuple[Tensor, Tensor]) -> None:
    ids = torch.arange(12)
    clean = victim.sample(events[0], ids, 3)
    for damage in (EventDrop(0.0, "random"), SpikeFlip(0.0), SpikeFlip(0.0, "exact")):
        assert torch.equal(Corrupted(victim, damage).sample(events[0], ids, 3), clean)


ROWS: list[tuple[str, dict[str, Any]]] = [
    ("event-drop", {"rho": 0.4}),
    ("spike-flip", {"beta": 0.1}),
    ("spike-flip", {"beta": 0.1, "kind": "exact"}),
    ("common", {"kind": "gaussian_noise", "severity": 3}),
]


def test_every_corruption_has_a_row() -> None:
    assert {name for name, _ in ROWS} == set(CORRUPTIONS)


@pytest.mark.parametrize(("name", "options"), ROWS)
def test_every_draw_is_a_fresh_one_of_its_image(
    name: str, options: dict[str, Any], victim: Victim, events: tuple[Tensor, Tensor]
) -> None:
    images = events[0]
    if name == "common":
        pytest.importorskip("corrupt_tta")
        victim = Victim(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        images = torch.rand(12, 1, 8, 8)
    corrupted, ids = Corrupted(victim, corruption(name, options)), torch.arange(12)
    whole = corrupted.sample(images, ids, 1)
    assert not torch.equal(whole, corrupted.sample(images, ids, 2))
    assert not torch.equal(whole, corrupted.sample(images, ids, 1, "select"))
    rows = torch.tensor([7, 2])
    assert torch.allclose(corrupted.sample(images[rows], rows, 1), whole[rows], atol=1e-5)


def test_measured_with_intervals(victim: Victim, events: tuple[Tensor, Tensor]) -> None:
    clean = corruption_accuracy([victim], *events, draws=4)
    blind = Corrupted(victim, EventDrop(1.0, "random"))
    lost = corruption_accuracy([blind], *events, draws=4)
    assert clean.loss_ci[0] < clean.loss < clean.loss_ci[1]
    assert clean.accuracy_ci[0] <= clean.accuracy <= clean.accuracy_ci[1]
    assert lost != clean
    split = corruption_accuracy([victim], *events, draws=4, batch_size=5)
    assert split.loss == pytest.approx(clean.loss, 1e-4)
    both = corruption_accuracy([victim, blind], *events, draws=4)
    assert both.each == pytest.approx((clean.accuracy, lost.accuracy))
    assert both.accuracy == pytest.approx((clean.accuracy + lost.accuracy) / 2)


def shortened(name: str, **changes: Any) -> Suite:
    suite = load_suite(name)
    rows = tuple(replace(r, steps=2 if r.steps else None, eot=1) for r in suite.attacks[-3:])
    draws = replace(suite.draws, select=2, report=3)
    return replace(suite, attacks=rows, draws=draws, **changes)


@pytest.mark.parametrize("name", ["nsnn-table2", "nsnn-table7", "events-sparse", "events-retiming"])
def test_suites_run_on_event_frames(
    name: str, victim: Victim, events: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    suite = shortened(name)
    verdict = evaluate(victim, *events, suite=suite, out=tmp_path / "a", batch_size=7)
    assert [row.name for row in verdict.attacks] == [row.name for row in suite.attacks]
    assert all(low <= row.accuracy <= high for row in verdict.attacks for low, high in [row.ci])
    if name == "nsnn-table2":  # nothing is searched for, so shards do not show
        again = evaluate(victim, *events, suite=suite, out=tmp_path / "b", batch_size=12)
        accuracies = ([row.accuracy for row in v.attacks] for v in (verdict, again))
        assert next(accuracies) == next(accuracies)


def test_flips_of_a_deterministic_net_are_drawn_too(
    events: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    size = {"T": 3, "img_size": 8, "in_chans": 2, "num_classes": 10}
    net = robust_snn.adapt("snn_vgg5", width=0.125, head_width=16, **size).net
    suite = shortened("nsnn-table7")
    verdict = evaluate(awake(net, events[0]), *events, suite=suite, out=tmp_path / "run")
    assert verdict.draws == {"select": 2, "report": 3} and verdict.stochastic


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("spike-flop", {"beta": 0.1}, "did you mean 'spike-flip'"),
        ("spike-flip", {"rho": 0.1}, "option of spike-flip"),
        ("spike-flip", {}, "needs 'beta'"),
        ("spike-flip", {"beta": 2}, r"in \[0, 1\]"),
        ("spike-flip", {"beta": 0.1, "kind": "exactly"}, "did you mean 'exact'"),
        ("event-drop", {"rho": 0.1, "strategy": "area2"}, "did you mean 'area'"),
        ("common", {"kind": "gaussian"}, "did you mean 'gaussian_"),
        ("common", {"kind": "fog", "severity": 6}, "from 1 to 5"),
        ("common", {"kind": "fog", "severity": 2.5}, "whole number"),
        ("common", {"kind": "fog", "severity": True}, "whole number"),
    ],
)
def test_wrong_corruptions_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        corruption(name, options)


def test_wrong_threats_are_refused(
    victim: Victim, events: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    own, theirs = (AttackSpec("a", name, "pgd") for name in ("robust_snn", "torchattacks"))
    for suite, images, message in [
        (Suite("s", (own,), norm="L0", eps=3), events[0], "knows no norm L0"),
        (replace(load_suite("events-sparse"), eps=0.5), events[0], "number of entries"),
        (replace(load_suite("events-sparse"), norm="L2", eps=1.0), events[0], "knows no norm L2"),
        (load_suite("nsnn-table2"), torch.rand(12, 2, 8, 8), "needs event frames"),
        (replace(load_suite("nsnn-table2"), eps=8 / 255), events[0], "eps must be 0, got 0.0313"),
        (replace(load_suite("nsnn-table2"), eps=75, norm="L0"), events[0], "eps must be 0, got 75"),
        (Suite("s", (replace(theirs, attack="PGD"),)), events[0], "static images"),
    ]:
        with pytest.raises(InputError, match=message):
            evaluate(victim, images, events[1], suite=suite, out=tmp_path / "run")


def test_what_cannot_be_corrupted_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    net, labels = nn.Sequential(nn.Flatten(), nn.Linear(32, 4)).eval(), torch.arange(3)
    monkeypatch.setitem(sys.modules, "corrupt_tta", None)
    with pytest.raises(ImportError, match="corruptions"):
        evaluate(net, torch.rand(3, 2, 4, 4), labels, suite="common-corruptions", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_suite_of_common_corruptions(tmp_path: Path) -> None:
    """Every kind follows its seed alone, and the suite scores all severities."""
    pytest.importorskip("corrupt_tta")
    images, state = torch.rand(3, 3, 32, 32), np.random.get_state()[1].copy()
    for kind in KINDS:
        made = corrupted(images, kind, 3, [5, 6, 7])
        assert made.shape == images.shape and made.min() >= 0 and made.max() <= 1
        assert torch.equal(made[1:], corrupted(images[1:], kind, 3, [6, 7])), kind
        assert not torch.equal(made, images)
        assert corrupted(images[:, :1], kind, 1, [0, 0, 0]).shape == (3, 1, 32, 32)
    assert (np.random.get_state()[1] == state).all()
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)).eval()
    verdict = evaluate(net, images, torch.arange(3), suite="common-corruptions", out=tmp_path)
    assert len(verdict.attacks) == 15 and verdict.draws["report"] == 10
    assert all(row.ci[0] <= row.accuracy <= row.ci[1] for row in verdict.attacks)
    assert all(said.name != "radius" for said in verdict.diagnostics)
    with pytest.raises(InputError, match="take 5 report draws, 10 and so on.*got 3"):
        evaluate(
            net, images, torch.arange(3), suite="common-corruptions", draws=3, out=tmp_path / "b"
        )
    with pytest.raises(InputError, match="1 or 3 channels"):
        corrupted(torch.rand(1, 2, 8, 8), "fog", 1, [0])
