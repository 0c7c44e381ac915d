"""From whatever a network returns to logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from robust_snn import InputError, adapt
from tests.foreign.own_step import Fire

T, CLASSES = 5, 3
IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Steps of its own, whose spikes and membranes `tell` makes an output of."""

    def __init__(self, tell: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.tell = nn.Linear(16, CLASSES), tell

    def forward(self, x: Tensor) -> Any:
        v, membranes = torch.zeros(len(x), CLASSES), []
        for _ in range(T):
            v = 0.9 * v + 4 * self.linear(x.flatten(1))
            membranes.append(v)
        membranes = torch.stack(membranes)
        return self.tell(torch.stack([Fire.apply(m - 1) for m in membranes.unbind(0)]), membranes)


class Named(NamedTuple):
    spikes: Tensor
    logits: Tensor


@dataclass(slots=True)
class Held:
    loss: Tensor
    logits: Tensor


OUTPUTS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "[B, K]": lambda s, v: s.mean(0),
    "[T, B, K]": lambda s, v: s,
    "[B, T, K]": lambda s, v: s.transpose(0, 1),
    "[B, K, T]": lambda s, v: s.permute(1, 2, 0),
    "[B, 1, K]": lambda s, v: s.mean(0)[:, None],
    "list of steps": lambda s, v: list(s.unbind(0)),
    "spikes and membranes": lambda s, v: (s, v),
    "logits and extras": lambda s, v: (s.mean(0), {"T": T}),
    "extras first": lambda s, v: (None, s.mean(0)),
    "dictionary": lambda s, v: {"loss": torch.zeros(()), "logits": s.mean(0)},
    "named tuple": lambda s, v: Named(v, s.mean(0)),
    "data class": lambda s, v: Held(torch.zeros(()), s.mean(0)),
    "object": lambda s, v: SimpleNamespace(hidden=[v], logits=s.mean(0)),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_logits_are_read(name: str) -> None:
    expected = Net(OUTPUTS["[B, K]"])(IMAGES)
    victim = adapt(Net(OUTPUTS[name]), images=IMAGES)
    for count in (6, T, CLASSES, 1):  # a batch may be as large as another axis
        found = victim.sample(IMAGES[:count], torch.arange(count))
        assert torch.allclose(found, expected[:count])


def test_what_is_not_read_counts_for_nothing() -> None:
    def tell(s: Tensor, v: Tensor) -> Any:
        return {"pred": s.mean(0).argmax(1), "logits": s.mean(0), "spikes": s.mean(0) > 0.5}

    reach = adapt(Net(tell), images=IMAGES).takes("bptt")
    assert reach.neurons and not reach.missed and reach.refusal is None


def test_a_list_that_may_be_one_of_heads_is_told(caplog: pytest.LogCaptureFixture) -> None:
    adapt(Net(OUTPUTS["list of steps"]), images=IMAGES)
    assert not caplog.text
    adapt(Net(lambda s, v: [s.mean(0), s[0], s[1]]), images=IMAGES)
    assert "a list of 3, which is read as its time steps, and its neurons run 5" in caplog.text


def test_what_is_read_can_be_chosen() -> None:
    net = Net(OUTPUTS["spikes and membranes"])
    spikes, membranes = net(IMAGES)
    for readout, expected in {
        "mean": spikes.mean(0),
        "sum": spikes.sum(0),
        "membrane last": membranes[-1],
        "membrane max": membranes.amax(0),
    }.items():
        assert torch.allclose(adapt(net, images=IMAGES, readout=readout)(IMAGES), expected)
    chosen = adapt(net, images=IMAGES, output=lambda out: out[1][0])
    assert torch.allclose(chosen(IMAGES), membranes[0])
    with pytest.raises(InputError, match="did you mean 'membrane mean'"):
        adapt(net, readout="membrane men")


@pytest.mark.parametrize(
    ("tell", "message"),
    [
        (lambda s, v: s.mean(), "it returns"),
        (lambda s, v: s.mean(0).mean(0, keepdim=True).expand(6, -1)[: s.shape[1]], "depend on its"),
        (lambda s, v: s.mean(0)[:1], "3 images|for batches of 3 and 2"),
        (lambda s, v: "spikes", "it returns str"),
    ],
)
def test_what_is_no_logits_is_refused(tell: Callable[[Tensor, Tensor], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapt(Net(tell), images=IMAGES)
