"""What a run will cost is told before it runs, and without running or writing anything."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from robust_snn import InputError, evaluate
from robust_snn.eval import AttackSpec, Draws, Suite, estimate
from robust_snn.eval.execution import estimate as module
from robust_snn.eval.execution.estimate import say_if_long
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.row_passes import QUERIES, is_blind, row_passes
from robust_snn.eval.protocol.implementation import CraftInputs
from robust_snn.eval.protocol.implementations import implementation
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.reporting.terminal import render_cost
from robust_snn.utils import machine
from robust_snn.victim import Victim
from victims import tiny_victim, told_by

APGD = AttackSpec("apgd", "robust_snn", "apgd", steps=10, eot=2, restarts=3)
SQUARE = AttackSpec("square", "autoattack", "square", steps=30)
SUITE = Suite("s", (APGD, SQUARE), draws=Draws(4, 2), eps=1e-4)


@pytest.mark.parametrize(
    ("settings", "gradients"),
    [
        ({"suite": SUITE}, {"apgd": 66, "square": 31}),
        ({"suite": SUITE, "steps": 4, "eot": 1}, {"apgd": 15, "square": 5}),
        ({"suite": "adaptive-small", "eps": 0.1}, {"apgd-ce-best": 84, "sapgd-ce-assg": 202}),
    ],
)
def test_rows_are_those_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], gradients: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    victim = tiny_victim(True)
    images, labels = told_by(victim, 12)
    cost = estimate(victim, images, labels, **settings)
    told = {row.name: row.gradients for row in cost.rows}
    assert told["clean images"] == 0 and gradients.items() <= told.items()
    assert cost.seconds > 0 and cost.memory > 0 and cost.disk > 0
    assert not list(tmp_path.iterdir())


def test_gradients_are_those_that_were_taken(tmp_path: Path) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 8)
    suite = Suite("s", (AttackSpec("a", "robust_snn", "apgd", steps=10),), eps=1e-6)
    cost = estimate(victim, images, labels, suite=suite)
    (row,) = evaluate(victim, images, labels, suite=suite, out=tmp_path / "run").attacks
    told = next(each for each in cost.rows if each.name == "a")
    assert 0.8 < row.backwards / (told.images * told.gradients) < 1.25


DECISIONS = {
    "HopSkipJump": (20, {"max_eval": 200, "init_eval": 20}),
    "SignOPTAttack": (20, {"targeted": False, "k": 20, "num_trial": 10, "query_limit": 1000}),
    "BoundaryAttack": (30, {"targeted": False, "sample_size": 10}),
}


@pytest.mark.parametrize("name", QUERIES)
def test_queries_on_decisions_are_about_those_that_were_taken(name: str) -> None:
    pytest.importorskip("art")
    steps, options = DECISIONS[name]
    row = AttackSpec("a", "art", name, steps=steps, options=options)
    assert is_blind(row)
    victim = tiny_victim(False)
    images, labels = told_by(victim, 2)
    asked = CraftInputs(victim, images, labels, row, Threat("L2", 1.0), 0, torch.arange(2))
    implementation(row).craft(asked)
    assert 0.5 < victim.cost.forwards / (2 * row_passes(row)) < 2


@pytest.mark.parametrize(
    ("library", "attack", "settings", "steps"),
    [
        ("foolbox", "L2BrendelBethgeAttack", {}, 1000),
        ("foolbox", "L2BrendelBethgeAttack", {"steps": 30}, 30),
        ("foolbox", "EADAttack", {}, 90_000),
        ("foolbox", "L2CarliniWagnerAttack", {"options": {"binary_search_steps": 2}}, 20_000),
        ("foolbox", "LinfPGD", {}, 40),
        ("art", "BrendelBethgeAttack", {"options": {"steps": 5}}, 5),
        ("art", "Wasserstein", {}, 400),
        ("torchattacks", "PGD", {}, 10),
        ("torchattacks", "EADL1", {}, 900),
        ("autoattack", "apgd-ce", {}, 100),
    ],
)
def test_a_row_without_steps_takes_those_of_its_library(
    library: str, attack: str, settings: dict[str, Any], steps: int
) -> None:
    pytest.importorskip(library if library != "autoattack" else "torch")
    assert row_passes(AttackSpec("a", library, attack, **settings)) == steps + 1


@pytest.mark.parametrize(("targets", "rounds"), [(3, 3), ("random", 1), ("least-likely", 1)])
def test_a_rule_that_names_targets_is_one_round(targets: int | str, rounds: int) -> None:
    row = AttackSpec("a", "robust_snn", "pgd", steps=9, options={"targets": targets})
    assert row_passes(row) == 10 * rounds


def test_what_would_be_refused_is_refused() -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 8)
    with pytest.raises(InputError, match="'square' of suite"):
        estimate(victim, images, labels, suite=Suite("s", (SQUARE,)), norm="L0", eps=3.0)


def test_hours_are_said_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    victim = tiny_victim(False)
    job = Job(victim, *told_by(victim, 4), SUITE, Threat("Linf", 0.1), 0, 4)
    monkeypatch.setattr(module._Timer, "gradient", lambda self, row: 0.01)
    with caplog.at_level(logging.WARNING, logger="robust_snn"):
        say_if_long(job, 1e5, 1)
        say_if_long(job, 1.0e6, 2)
        assert not caplog.messages
        say_if_long(job, 2.16e6, 1)
    assert caplog.messages[0].startswith("this may take 2.0 hours, less")


@pytest.mark.parametrize("computing", [0.95, 0.25])
def test_a_busy_machine_is_said(
    computing: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Processors that are used by others make passes longer, and they may be free later."""
    now = [0.0]

    def forward(self: Victim, x: torch.Tensor) -> torch.Tensor:
        now[0] += 0.1
        return x.flatten(1)[:, :3]

    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module.time, "process_time", lambda: computing * now[0])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(Victim, "forward", forward)
    victim = tiny_victim(False)
    job = Job(victim, torch.rand(4, 1, 2, 2), torch.arange(4) % 3, SUITE, Threat("Linf", 0.1), 0, 4)
    timed = module._Timer(job)
    assert timed.gradient(None) == pytest.approx(0.1 / 4)
    assert timed.computing == pytest.approx(computing)
    with caplog.at_level(logging.WARNING, logger="robust_snn"):
        say_if_long(job, 1.728e6, 1)
    alone = "4.0 hours (1.0 without the other programs" in caplog.text
    assert "take 4.0 hours" in caplog.text and alone == (computing < 0.5)
    cost = module.Estimate((module.RowEstimate("a", 1, 1, 3600.0),), 0, 0, 0.1, computing)
    said = str(render_cost(cost).renderables[1])
    assert ("About 1.0 h in all, 15.0 min without the other" in said) == (computing < 0.5)


def test_threads_that_wait_for_each_other_are_no_busy_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
    for load, share in ((3.0, 1.0), (16.0, 0.5)):
        monkeypatch.setattr(machine.os, "getloadavg", lambda load=load: (load, 0, 0))
        assert machine.share_of_processors(10.0, 20.0, 4) == pytest.approx(share)
