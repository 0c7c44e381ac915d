"""Spikes made by comparisons, with the tricks by which people give them a gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from robust_snn import InputError, adapt
from robust_snn.attacks.mode_reach import tried_reach
from robust_snn.foreign.straight_through import Sums
from tests.foreign.compared_nets import (
    COMPARED,
    HARD,
    IMAGES,
    MODE,
    SOFT,
    TRICKS,
    WITH_GRADIENT,
    WITHOUT,
    Net,
    assert_same_gradient,
    chosen,
    soft,
    through,
)
from tests.helpers import assert_close_rms


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_a_trick_is_exchanged_with_any_surrogate(name: str) -> None:
    net = Net(WITH_GRADIENT[name])
    victim = adapt(net, images=IMAGES)
    assert victim.net.neurons == ("Net#1", "Net#2")
    own = through(net)
    same = victim.replace(gradient=MODE)
    for found in (through(victim), through(same)):
        assert torch.equal(found[0], own[0])
        assert_close_rms(found[1], own[1])


def test_hooks_of_modules_change_the_own_gradient_alone() -> None:
    net = Net(SOFT)
    before = through(adapt(net, images=IMAGES, gradient="bptt"))
    net.two.register_full_backward_hook(lambda module, into, of: (-into[0],))
    victim = adapt(net, images=IMAGES)
    assert torch.equal(through(victim.replace(gradient="own"))[1], through(net)[1])
    assert_close_rms(through(victim.replace(gradient="bptt"))[1], before[1])
    assert net.two._backward_hooks


@pytest.mark.parametrize("name", WITHOUT)
def test_a_comparison_without_a_gradient_gets_one(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    net = Net(WITHOUT[name])
    victim = adapt(net, images=IMAGES)
    reference = through(adapt(Net(SOFT), images=IMAGES))
    found = through(victim.replace(gradient=MODE))
    assert torch.equal(found[0], net(IMAGES))
    if name != "sign":  # which is 1/2 at the threshold
        assert_close_rms(found[1], reference[1])
    is_zero = "the own gradient of Net is zero" in caplog.text
    assert is_zero == name.startswith("sign")  # and not missing
    if not is_zero:
        assert victim.gradient.name == "bptt"
        assert "no gradient by itself" in (victim.takes("own").refusal or "")


@pytest.mark.parametrize("name", HARD)
def test_a_soft_function_that_is_nearly_a_step_hides_no_spikes(name: str) -> None:
    reference = through(Net(SOFT))
    for trick in TRICKS[: 3 if name in ("set where", "floor") else 1]:
        net = Net(lambda v, trick=trick: trick(HARD[name](v), torch.sigmoid(50 * (v - 1))))
        victim = adapt(net, images=IMAGES)
        assert victim.net.neurons == ("Net#1", "Net#2")
        found = through(victim.replace(gradient=MODE))
        assert torch.equal(found[0], net(IMAGES))
        assert_close_rms(found[1], reference[1])


class Gated(Net):
    """Its leaks follow what comes in. Nothing fires in the first step, or is far from it."""

    def forward(self, x: Tensor) -> Tensor:
        v, u, total = torch.zeros(len(x), 24), torch.zeros(len(x), 4), torch.zeros(1)
        for _ in range(5):
            spikes, v = self.step(self.one(x.flatten(1)), v)
            out, u = self.step(3 * self.two(spikes), u)
            total = total + out
        return total

    def step(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.sigmoid(current - v)
        v = kept * v + (1 - kept) * current
        spikes = self.fire(v + 0.7)
        return spikes, v * (1 - spikes)


MASKED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of spikes, and of what they follow from
    "a gradient that is masked": lambda hard, z: hard + (z - z.detach()) * (z.abs() < 0.5),
    "injected before the spikes": lambda hard, z: (
        torch.exp(-z * z).detach() * z - (torch.exp(-z * z) * z).detach() + hard.detach()
    ),
    "masked twice": lambda hard, z: hard + (z * (z.abs() < 0.5) - (z * (z.abs() < 0.5)).detach()),
    "masked, from left to right": lambda hard, z: (
        hard + z * (z.abs() < 0.5) - (z * (z.abs() < 0.5)).detach()
    ),
    "clamped, from left to right": lambda hard, z: (
        hard + z.clamp(-0.5, 0.5) - z.clamp(-0.5, 0.5).detach()
    ),
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("build", [Net, Gated])
def test_a_gradient_alone_is_none_of_silent_spikes(name: str, build: type[Net]) -> None:
    for hard in (HARD["float"], lambda v: torch.heaviside(v.detach() - 1, torch.zeros(()))):
        net = build(lambda v, hard=hard: MASKED[name](hard(v), v - 1))
        victim = adapt(net, images=IMAGES)
        assert not victim.takes("bptt").missed
        found = through(victim.replace(gradient=MODE))
        expected = through(build(SOFT))
        assert (found[0] - expected[0]).abs().max() < 1e-6
        assert_close_rms(found[1], expected[1])


def chosen_ratio(v: Tensor) -> Tensor:
    """Spikes whose gradient above the threshold is that of a logarithm."""
    return torch.where(v > 1, soft(v) / soft(v).detach(), 0 * v)


def test_soft_values_that_are_chosen_are_a_gradient_alone() -> None:
    assert_same_gradient(adapt(Net(chosen_ratio), images=IMAGES, gradient=MODE), Net(chosen))


def test_a_mask_is_no_spike() -> None:
    for mask in (lambda v: (v > 0).float(), lambda v: ~(v <= 0)):
        victim = adapt(Net(lambda v, mask=mask: mask(v) * v), images=IMAGES)
        assert victim.net.neurons == () and victim.takes("bptt").neurons == ()


class Magnitude(Net):
    """It fires by the distance of a membrane from zero."""

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.fire(self.one(3 * x.flatten(1)).abs()))


def test_straight_through_has_the_sign_of_the_nearest_step() -> None:
    identity = lambda v: (v > 1).float() + v - v.detach()  # noqa: E731
    victim = adapt(Magnitude(COMPARED), images=IMAGES, gradient="ste")
    assert_same_gradient(victim, Magnitude(identity))


def test_a_gradient_that_reaches_no_image_is_refused() -> None:
    class Behind(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = x * 1
            return super().forward(x)

    victim = adapt(Behind(COMPARED), images=IMAGES)
    assert victim.takes("bptt").neurons == ()
    with pytest.raises(InputError, match="no gradient of Behind"):
        through(victim.replace(gradient="bptt"))
    with torch.no_grad():  # as attacks that need none
        assert torch.equal(victim.replace(gradient="bptt")(IMAGES), victim(IMAGES))
    assert tried_reach(victim.replace(gradient="bptt"), IMAGES, backward=False).refusal is None


def test_sums_of_which_steps_do_not_agree_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sums, "mistaken", True)
    missed = adapt(Net(SOFT), images=IMAGES).takes("bptt").missed
    assert [name for name in missed if name.endswith("a sum of spikes")]
