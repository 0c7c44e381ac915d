"""What gradients leave out is told from what does not matter, and from what attacks crossed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from known_truth import SIZE, Grouped, known
from robust_snn import Victim, adapt
from robust_snn.diagnostics.left_out_gradients import ACROSS, left_out

EPS = 0.08
EDGE = torch.zeros(SIZE, SIZE)
EDGE[2:-2, 2:-2] = 1


def half(x: Tensor) -> Tensor:
    rows = torch.arange(SIZE)[:, None] % 2
    return x * rows + (x * (1 - rows)).detach()


def far_cut(x: Tensor) -> Tensor:
    return x.clamp(-5, 5)


ROWS: dict[str, tuple[Callable[[Tensor], Tensor], set[str]]] = {
    "nothing": (torch.clone, set()),
    "an edge that is cut off": (lambda x: x * EDGE, set()),
    "a limit that is never met": (far_cut, set()),
    "an edge without a gradient": (
        lambda x: x * EDGE + (x * (1 - EDGE)).detach(),
        {"pixels without a gradient", "gradients left out"},
    ),
    "rows without a gradient": (half, {"pixels without a gradient", "gradients left out"}),
    "ripples": (lambda x: x + 0.02 * (900 * x).sin(), {"steady gradients"}),
}


def said(victim: Victim, images: Tensor, labels: Tensor, norm: str = "Linf") -> set[str]:
    size = EPS if norm == "Linf" else EPS * SIZE
    notes = left_out(victim, images, labels, ("bptt",), eps=size, norm=norm, seed=0)
    return {note.name for note in notes if note.status != "pass"}


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("name", ROWS)
def test_what_is_left_out_is_named(name: str, norm: str) -> None:
    before, names = ROWS[name]
    net, images, labels, _ = known(before, EPS, 16)
    victim = adapt(net, images=images[:4], gradient="bptt")
    right = victim.sample(images, torch.arange(16)).argmax(1) == labels
    assert said(victim, images[right], labels[right], norm) == names


def test_what_attacks_crossed_is_not_left_out() -> None:
    net, images, labels, _ = known(half, EPS, 16)
    victim = ACROSS[1].across(adapt(net, images=images[:4], gradient="bptt"))
    assert isinstance(net, Grouped) and said(victim, images, labels) == set()
