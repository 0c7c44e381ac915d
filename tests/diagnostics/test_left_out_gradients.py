"""What gradients leave out is told from what does not matter, and from what attacks crossed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from known_truth import SIZE, Grouped, known
from robust_snn import Victim, adapt
from robust_snn.diagnostics.left_out_gradients import ACROSS, leads_elsewhere, left_out
from robust_snn.models import create_network
from robust_snn.neurons import NoisyLIF

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


def test_noise_is_no_other_gradient() -> None:
    images, labels = torch.rand(8, 1, 8, 8), torch.zeros(8, dtype=torch.long)
    net = create_network("snn_vgg5_stog", width=0.1, T=2, img_size=8, in_chans=1).eval()
    refused = dict[str, str]()
    for bridge in ACROSS:
        assert not leads_elsewhere(bridge, Victim(net), images, labels, 0, refused)
    assert not refused


def test_a_limit_that_is_never_met_changes_no_gradient_of_a_noisy_network() -> None:
    net, images, labels, _ = known(far_cut, EPS, 8)
    net.neuron = NoisyLIF(noise="gaussian(sigma=0.3)", reset="soft")
    victim = adapt(net, images=images[:4], gradient="bptt")
    assert victim.stochastic
    assert not leads_elsewhere(ACROSS[0], victim, images, labels, 0, {})
