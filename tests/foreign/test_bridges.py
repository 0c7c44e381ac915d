"""Gradients cross what has none, and no number of the forward pass changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import robust_snn
from masks import Around, flipped, hooked, own, same
from robust_snn.foreign import unadapted
from robust_snn.foreign.bridges import Bridge, named, readouts
from robust_snn.models import create_network

OPERATIONS, DETACHED = Bridge(operations=True), Bridge(operations=True, detached=True)


TABLE = nn.Embedding.from_pretrained(torch.linspace(0, 1, 33)[:, None])


class Squares(nn.Module):
    """Four logits of an image."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4].square()


def unrecorded(x: Tensor) -> Tensor:
    with torch.no_grad():
        return 1 * x


def by_its_own_gradient(x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        squares = x.square()
        torch.autograd.grad(squares.sum(), x)
    return squares.sqrt()


@pytest.mark.parametrize(
    ("before", "bridge"),
    [
        (lambda x: (16 * x).round() / 16, OPERATIONS),
        (lambda x: (255 * x).floor() / 255, OPERATIONS),
        (lambda x: (255 * x).byte().float() / 255, OPERATIONS),
        (lambda x: ((256 * x).int() // 8).float() / 32, OPERATIONS),
        (lambda x: x // (1 / 32) / 32, OPERATIONS),
        (lambda x: torch.div((256 * x).int(), 8, rounding_mode="floor") / 32, OPERATIONS),
        (lambda x: torch.div(x, 1 / 32, rounding_mode="trunc") / 32, OPERATIONS),
        (lambda x: (255 * x).to(torch.int32).to(torch.float32) / 255, OPERATIONS),
        (lambda x: (x[..., None] > torch.linspace(0, 1, 33)).float().mean(-1), OPERATIONS),
        (lambda x: (torch.linspace(0, 1, 33) < x[..., None]).to(x.dtype).mean(-1), OPERATIONS),
        (lambda x: (255 * x).byte() / 255, OPERATIONS),
        (lambda x: (x[..., None] > torch.linspace(0, 1, 33)).sum(-1) / 33, OPERATIONS),
        (lambda x: torch.bucketize(x, torch.linspace(0, 1, 33)) / 33, OPERATIONS),
        (lambda x: torch.searchsorted(torch.linspace(0, 1, 33), x).float() / 33, OPERATIONS),
        (
            lambda x: torch.stack([torch.where(x > e / 33, 1.0, 0.0) for e in range(33)]).mean(0),
            OPERATIONS,
        ),
        (lambda x: sum((x > e / 33).int() for e in range(33)) / 33, OPERATIONS),
        (lambda x: torch.linspace(0, 1, 33)[(32 * x).round().long()], OPERATIONS),
        (lambda x: TABLE((32 * x).round().long())[..., 0], OPERATIONS),
        (lambda x: x.detach() + x.clamp(max=0), OPERATIONS),
        (lambda x: x.detach() + nn.functional.hardtanh(x, -1.0, 0.0), OPERATIONS),
        (own(same, torch.neg), OPERATIONS),
        (own(lambda x: (16 * x).round() / 16, torch.zeros_like), OPERATIONS),
        (own(same, torch.randn_like), OPERATIONS),
        (flipped, OPERATIONS),
        (hooked(), OPERATIONS),
        (lambda x: x.detach(), DETACHED),
        (unrecorded, DETACHED),
        (by_its_own_gradient, DETACHED),
        (lambda x: 0.01 * x + 0.99 * x.detach(), DETACHED),
    ],
)
def test_what_has_no_gradient_passes_one_on(
    before: Callable[[Tensor], Tensor], bridge: Bridge
) -> None:
    victim = robust_snn.adapt(Around(Squares(), before))
    x = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    bridged = bridge.across(victim)
    assert torch.equal(bridged.sample(x, torch.arange(6)), victim.sample(x, torch.arange(6)))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(bridged(leaf).sum(), leaf)
    assert torch.allclose(gradient, 2 * x, atol=0.15), gradient - 2 * x
    assert named(bridge, victim, x).crossed and "pass gradients on" in str(bridge)


def test_a_network_of_ours_that_was_looked_at_needs_no_look_behind_a_bridge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    victim = robust_snn.Victim(
        Around(create_network("snn_vgg5", width=0.1, T=2, img_size=8, in_chans=1)).eval()
    )
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = victim(x)
    monkeypatch.setattr(unadapted, "what_is_not_ours", lambda *_: "it looked")
    assert torch.equal(OPERATIONS.across(victim)(x), logits)


def test_attacks_see_the_layer_before_a_readout_that_hides() -> None:
    net = Around(Squares(), after=lambda z: (z == z.amax(1, keepdim=True)).float())
    victim = robust_snn.adapt(net)
    x = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert readouts(victim, x) == ["net"]
    bridge = Bridge(readout="net")
    leaf = x.clone().requires_grad_()
    assert torch.allclose(bridge.across(victim)(leaf), Squares()(x))
    assert str(bridge) == "attacks see the output of net"
