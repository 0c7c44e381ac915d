"""Modes that a network refuses, or that reach none of its neurons, are left out with a reason."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
import torch

from picky import Picky, pictures, reaches_all, reaches_nothing, refuses_rates
from robust_snn import InputError, Victim
from robust_snn.attacks import rank_modes
from robust_snn.attacks.mode_ranking import RankingEffort
from robust_snn.attacks.mode_reach import choose_modes, tried_reach
from robust_snn.gradients import GradientMode, Reach, parse_mode

ASKED = tuple(map(parse_mode, ("bptt", "bptr", "ste")))


@pytest.mark.parametrize(
    ("reach", "taken", "left_out"),
    [
        (reaches_all, ["bptt", "bptr", "ste", "own"], {}),
        (refuses_rates, ["bptt", "ste", "own"], {"bptr": "choose bptt"}),
        (reaches_nothing, ["own"], dict.fromkeys(("bptt", "bptr", "ste"), "reaches no neuron")),
    ],
)
def test_a_choice_names_what_it_leaves_out(
    reach: Callable[[GradientMode], Reach], taken: list[str], left_out: dict[str, str]
) -> None:
    net = Picky(reach)
    images, labels = pictures(net, 4)
    choice = choose_modes(Victim(net), images, ASKED)
    assert [mode.name for mode in choice.taken] == taken
    reasons = {parse_mode(mode).name: why for mode, why in choice.left_out.items()}
    assert reasons.keys() == left_out.keys()
    assert all(left_out[name] in why for name, why in reasons.items())
    few = RankingEffort(steps=2, searched=0)
    trials = rank_modes(Victim(net), images, labels, eps=0.1, modes=ASKED, effort=few)
    assert {parse_mode(trial.gradient).name for trial in trials} == set(taken)


def test_networks_of_ours_take_every_mode_but_own(digits: Any) -> None:
    choice = choose_modes(digits.victim, digits.images[:2], ASKED)
    assert choice == (ASKED, {})


def test_whatever_fails_in_a_gradient_is_the_refusal() -> None:
    class Detached(Picky):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()

    net = Detached(reaches_all)
    images, labels = pictures(net, 4)
    victim = Victim(net)
    refusal = tried_reach(victim, images).refusal
    assert refusal is not None and "no gradient of Detached reaches the image" in refusal
    assert tried_reach(victim, images, backward=False).refusal is None
    assert not choose_modes(victim, images, ASKED).taken
    with pytest.raises(InputError, match="no gradient mode can be used: no gradient of"):
        rank_modes(victim, images, labels, eps=0.1)
    assert not victim.cost.backwards and not victim.calls

    class Broken(Picky):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("two\nlines")

    refusal = tried_reach(Victim(Broken(reaches_all)), images).refusal
    assert refusal == "no gradient under bptt: RuntimeError: two"


def test_a_mistake_of_ours_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Picky(reaches_all)
    images, _ = pictures(net, 2)
    monkeypatch.setattr("robust_snn.attacks.mode_reach.device_of", None)
    with pytest.raises(TypeError, match="NoneType"):
        tried_reach(Victim(net), images)


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_of_the_system_is_no_refusal(wrapped: bool) -> None:
    class Full(Picky):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            full = OSError(errno.ENOSPC, "No space left on device")
            if wrapped:  # as where Triton cannot keep a kernel
                raise InputError(f"Triton does not run here: {full}") from full
            raise full

    net = Full(reaches_all)
    images, _ = pictures(Picky(reaches_all), 2)
    with pytest.raises((OSError, InputError), match="No space left"):
        tried_reach(Victim(net), images)


def test_a_forked_process_without_gradients_is_no_fault_of_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError(
            "Unable to handle autograd's threading in combination with fork-based multiprocessing."
        )

    net = Picky(reaches_all)
    images, _ = pictures(net, 2)
    monkeypatch.setattr(torch.autograd, "grad", refuse)
    with pytest.raises(InputError, match="start processes by multiprocessing"):
        tried_reach(Victim(net), images)
