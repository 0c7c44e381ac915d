"""Wrappers around noisy networks: a draw for every sample that passes, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robust_snn import InputError, Victim
from robust_snn.neurons.noise_source import NoisyModule
from robust_snn.victim.checked_inputs import steps_refusal
from zoo import awake, narrow

Shown = Callable[[nn.Module, Tensor], Tensor]
MECHANISMS = ("stog", "nlif", "poisson")
IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(3))
FOLLOWED: dict[str, Shown] = {
    "flips": lambda net, x: net(torch.cat([x, x.flip(3)])).unflatten(0, (2, -1)).mean(0),
    "five shifts": lambda net, x: (
        net(torch.cat([x.roll(i, 3) for i in range(5)])).unflatten(0, (5, -1)).mean(0)
    ),
    "ten crops": lambda net, x: (
        net(torch.stack([x.roll(i, 3) for i in range(10)], 1).flatten(0, 1))
        .unflatten(0, (-1, 10))
        .mean(1)
    ),
    "repeated": lambda net, x: net(x.repeat_interleave(3, 0)).unflatten(0, (-1, 3)).mean(1),
    "steps outside": lambda net, x: (
        net(x.expand(3, *x.shape).flatten(0, 1)).unflatten(0, (3, -1)).sum(0)
    ),
    "two calls": lambda net, x: net(x) + net(x.flip(2)),
    "three calls": lambda net, x: (net(x) + net(x) + net(x)) / 3,
    "one at a time": lambda net, x: torch.cat([net(image[None]) for image in x]),
    "halves": lambda net, x: torch.cat([net(part) for part in x.split((len(x) + 1) // 2)]),
    "with a reference": lambda net, x: net(torch.cat([x, 0 * x[:1]]))[:-1],
    "changed in place": lambda net, x: net(torch.cat([x.mul_(0.5), x.flip(3)])).unflatten(
        0, (2, -1)
    )[0],
}
LOST: dict[str, Shown] = {
    "crops of each image": lambda net, x: torch.stack(
        [net(torch.stack([image.roll(i, 2) for i in range(3)])).mean(0) for image in x]
    ),
    "the first alone": lambda net, x: net(x[:1]).expand(len(x), -1),
}


class Wrapper(nn.Module):
    def __init__(self, net: nn.Module, shown: Shown) -> None:
        super().__init__()
        self.net, self.shown = net, shown

    def forward(self, x: Tensor) -> Tensor:
        return self.shown(self.net, x)


NETS = {
    name: awake(narrow(f"snn_vgg5_{name}", "fresh", T=2, img_size=8, num_classes=4), IMAGES)
    for name in MECHANISMS
}


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("wrapper", FOLLOWED)
def test_draws_follow_images_through_a_wrapper(mechanism: str, wrapper: str) -> None:
    victim = Victim(Wrapper(NETS[mechanism], FOLLOWED[wrapper]))
    ids = torch.arange(5)
    together = victim.sample(IMAGES, ids)
    apart = torch.cat([victim.sample(IMAGES[i : i + 1], ids[i : i + 1]) for i in range(5)])
    turned = victim.sample(IMAGES.flip(0), ids.flip(0)).flip(0)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, turned, rtol=1e-4, atol=1e-5)
    assert not torch.equal(together, victim.sample(IMAGES, ids, draw=1))
    x = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(victim.replace(eot=2)(x).sum(), x)
    assert gradient.shape == x.shape
    assert victim.replace(noise="mean")(IMAGES).shape == (5, 4)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("wrapper", ["flips", "two calls", "three calls", "repeated"])
def test_no_two_samples_share_a_draw(
    mechanism: str, wrapper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int]] = []
    draw = NoisyModule.draw

    def noted(self: NoisyModule, batch: int, device: torch.device) -> object:
        found = draw(self, batch, device)
        drawn.extend((found.layer, key) for key in found.keys.tolist())
        return found

    monkeypatch.setattr(NoisyModule, "draw", noted)
    victim = Victim(Wrapper(NETS[mechanism], FOLLOWED[wrapper]))
    victim.sample(IMAGES, torch.arange(5))
    drawn.clear()  # of the first pass, which found out how it is grouped
    victim.sample(IMAGES, torch.arange(5))
    assert len(drawn) == len(set(drawn)) > 5


@pytest.mark.parametrize("before", ["flips", "repeated", "one at a time"])
def test_a_wrapper_that_changes_is_followed(before: str) -> None:
    wrapper, ids = Wrapper(NETS["stog"], FOLLOWED[before]), torch.arange(5)
    victim = Victim(wrapper)
    victim.sample(IMAGES, ids)
    for now in ("repeated", "flips"):
        wrapper.shown = FOLLOWED[now]
        alone = [victim.sample(IMAGES[i : i + 1], ids[i : i + 1]) for i in range(5)]
        assert torch.allclose(victim.sample(IMAGES, ids), torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("wrapper", LOST)
def test_what_cannot_be_followed_is_refused(wrapper: str) -> None:
    victim = Victim(Wrapper(NETS["stog"], LOST[wrapper]))
    for call in (lambda: victim.sample(IMAGES, torch.arange(5)), lambda: victim(IMAGES)):
        with pytest.raises(InputError, match="which samples of an image .* cannot be told"):
            call()


def test_a_bare_network_is_not_tried() -> None:
    net, calls = NETS["stog"], list[int]()
    handle = net.register_forward_hook(lambda *of: calls.append(1))
    Victim(net).sample(IMAGES, torch.arange(5))
    handle.remove()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("shown", "refused"),
    [
        (lambda net, x: net(x), False),
        (FOLLOWED["flips"], False),
        (lambda net, x: net(x).softmax(-1), True),
        (lambda net, x: net(x)[: len(x)], True),
        (FOLLOWED["one at a time"], True),
    ],
)
def test_logits_of_every_step_average_to_those_of_the_network(shown: Shown, refused: bool) -> None:
    victim = Victim(Wrapper(NETS["stog"], shown))
    why = steps_refusal(victim, IMAGES)
    assert (why is not None and "do not average" in why) == refused
    if not refused:
        assert victim.replace(output="steps")(IMAGES).shape == (2, 5, 4)
