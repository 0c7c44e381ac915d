"""Modes that measure the membranes of an image find them wherever the batch is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import assert_close_rms
from robust_snn import InputError, adapt
from robust_snn.foreign.image_axis import ImageAxis, find_axis
from tests.foreign.own_step import Fire

T, SIZE, WIDTH, CLASSES = 4, 4, 6, 3
IMAGES = torch.rand(T, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))  # as many as T

AXES: dict[str, tuple[ImageAxis, Callable[[Tensor], Tensor], int]] = {  # of [T, B, C, N]
    "time first": (ImageAxis(1, 1, False), lambda v: v, 5),
    "one axis after time": (ImageAxis(1, 6, False), lambda v: v.flatten(1), 2),
    "one axis, images first": (ImageAxis(0, 24, False), lambda v: v.transpose(0, 1).flatten(), 2),
    "time and images": (ImageAxis(0, T, True), lambda v: v.flatten(0, 1), 4),
    "images last": (ImageAxis(2, 1, False), lambda v: v.movedim(1, -1).flatten(1, 2), 4),
}


@pytest.mark.parametrize("name", AXES)
def test_the_images_are_found_in_a_larger_batch(name: str) -> None:
    axis, arrange, dims = AXES[name]
    values = torch.rand(T, 6, 2, 3, generator=torch.Generator().manual_seed(0))
    membrane = arrange(values[:, :3])
    assert find_axis(membrane, arrange(values), 3) == axis
    first = axis.first(membrane)
    assert (len(first), first.dim()) == (3, dims) and torch.equal(
        first.flatten(1).sort().values, values[:, :3].transpose(0, 1).flatten(1).sort().values
    )
    assert torch.equal(axis.back(first, membrane), membrane)


@pytest.mark.parametrize(
    "more", [torch.rand(4, 5), torch.rand(2, 3), torch.rand(8), torch.ones(8, 5)]
)
def test_what_does_not_grow_with_the_batch_has_no_images(more: Tensor) -> None:
    assert find_axis(torch.rand(4, 3), more, 2) is None


class Net(nn.Module):
    """Neurons without a memory that fire in one call, whose membranes are arranged in some way.

    Args:
        arrange: Makes them of `[T, B, N]`.
        back: Makes `[T, B, N]` of them, given the size of the batch.
    """

    def __init__(
        self, arrange: Callable[[Tensor], Tensor], back: Callable[[Tensor, int], Tensor]
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(SIZE**2, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.arrange, self.back = arrange, back

    def forward(self, x: Tensor) -> Tensor:
        current = 4 * self.first(x.flatten(1))
        membrane = torch.stack([(1 - 0.5**step) * current for step in range(1, 1 + T)])
        spikes = self.back(Fire.apply(self.arrange(membrane)), len(x))
        logits: Tensor = self.last(spikes).mean(0)
        return logits


def psn(images: int) -> nn.Module:
    pytest.importorskip("spikingjelly", reason="needs spikingjelly")
    from spikingjelly.activation_based import layer, neuron

    torch.manual_seed(0)
    neurons = neuron.PSN(T) if images else neuron.SlidingPSN(k=2, step_mode="m")
    first = layer.Linear(SIZE**2, WIDTH, step_mode="m")
    first.weight.data *= 4
    return nn.Sequential(layer.Flatten(step_mode="m"), first, neurons, nn.Linear(WIDTH, CLASSES))


NETS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "time first": (lambda: Net(lambda v: v, lambda s, _: s), {}),
    "folded": (lambda: Net(lambda v: v.flatten(0, 1), lambda s, b: s.view(T, b, -1)), {}),
    "turned": (
        lambda: Net(
            lambda v: v.permute(2, 1, 0).flatten(0, 1),
            lambda s, b: s.view(-1, b, T).permute(2, 1, 0),
        ),
        {},
    ),
    "PSN": (lambda: psn(1), {"T": T}),
    "sliding PSN": (lambda: psn(0), {"T": T}),
}


def gradient(victim: Any, images: Tensor) -> Tensor:
    x = images.clone().requires_grad_()
    weights = torch.arange(1.0, 1 + CLASSES)
    (found,) = torch.autograd.grad((victim(x) * weights).sum(), x)
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("mode", ["pdsg", "assg"])
@pytest.mark.parametrize("name", NETS)
def test_the_gradient_of_an_image_does_not_depend_on_its_batch(name: str, mode: str) -> None:
    build, arguments = NETS[name]
    victim = adapt(build().eval(), images=IMAGES, **arguments)
    together = gradient(victim.replace(gradient=mode), IMAGES)
    alone = [gradient(victim.replace(gradient=mode), image[None]) for image in IMAGES]
    assert together.any() and torch.allclose(together, torch.cat(alone), 1e-4, 1e-6)


@pytest.mark.parametrize("name", NETS)
def test_statistics_restart_where_an_image_is_new(name: str) -> None:
    build, arguments = NETS[name]
    victim = adapt(build().eval(), images=IMAGES, **arguments)
    running, fresh = (victim.replace(gradient="assg") for _ in "12")
    gradient(running, IMAGES)
    changed = torch.cat([IMAGES[:1], 1 - IMAGES[1:2], IMAGES[2:]])
    assert_close_rms(gradient(running, changed)[1:2], gradient(fresh, changed[1:2]))


def test_what_is_not_found_is_refused() -> None:
    def back(spikes: Tensor, images: int) -> Tensor:
        return spikes.flip(1).view(T, images, -1)

    victim = adapt(Net(lambda v: v.flatten(1).flip(1), back).eval(), images=IMAGES)
    assert "belong to which image" in (victim.takes("pdsg").refusal or "")
    assert victim.takes("bptt").refusal is None
    with pytest.raises(InputError, match="belong to which image"):
        gradient(victim.replace(gradient="assg"), IMAGES)
