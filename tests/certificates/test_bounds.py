"""Bounds and exact answers, against points of the box and against a grid of the whole ball."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.attacks import PGD
from robust_snn.certificates import bounds, certify
from robust_snn.certificates.bounded_network import BoundedNetwork
from robust_snn.certificates.exact import decide, spike_cells
from robust_snn.certificates.interval import Interval
from robust_snn.certificates.linear_relaxation import relaxed_differences
from robust_snn.neurons import DLIF, LIF
from robust_snn.utils.errors import InputError
from zoo import awake, narrow

NETWORKS: dict[str, dict[str, Any]] = {
    "snn_vgg5": {},
    "snn_vgg5_dlif": {"reset": "soft"},
    "snn_wrn16": {"decay": 0.8, "readout": "membrane"},
    "snn_resnet20": {},
    "snn_sew7b": {},
    "snn_cifarnet": {"reset": "soft"},
}
LAYERS = {
    "hard": lambda: LIF(),
    "leaky": lambda: LIF(decay=0.6, v_reset=-0.3),
    "soft": lambda: LIF(decay=0.7, reset="soft", gain=1.3),
    "dlif": lambda: _factors(DLIF(4, "membrane", decay=0.9)),
}


def _factors(layer: DLIF) -> DLIF:
    layer.factor.data = torch.tensor([1.0, 0.7, 1.2, -0.4])
    return layer


class TwoPixels(nn.Module):
    """Two pixels, two spiking layers: small enough to try every image of a ball."""

    def __init__(self, layer: str, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second, self.last = nn.Linear(2, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        for linear in (self.first, self.second):
            nn.init.normal_(linear.weight, 0, 2 / linear.in_features**0.5)
        self.neurons = nn.ModuleList([LAYERS[layer](), LAYERS[layer]()])

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neurons[0](self.first(x.flatten(1)).unsqueeze(0), steps=4)
        return self.last(self.neurons[1](self.second(spikes)).mean(0))


def box_around(x: Tensor, eps: float) -> Interval:
    return Interval((x.double() - eps).clamp(0, 1), (x.double() + eps).clamp(0, 1))


def network(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    images = torch.rand(3, 3, 16, 16)
    net = narrow(name, "fresh", T=3, img_size=16, num_classes=4, **NETWORKS[name])
    return awake(net, images).eval(), images


@pytest.mark.parametrize("name", NETWORKS)
def test_bounds_hold_at_points_of_the_box(name: str) -> None:
    net, images = network(name)
    bounded = BoundedNetwork(net)
    box = box_around(images, eps := 0.003)
    logits, layers = bounded.bounds(box)
    label = net(images).argmax(1)
    leads = logits.differences(label)
    linear = relaxed_differences(bounded, box, label, layers, 4)
    generator = torch.Generator().manual_seed(1)
    exact = copy.deepcopy(net).double()
    for _ in range(8):
        share = torch.rand(images.shape, generator=generator).round().double()
        x = box.lower + share * (box.upper - box.lower)
        assert (x - images).abs().max() <= eps + 1e-7
        found = exact(x)
        assert (found >= logits.lower - 1e-9).all()
        assert (found <= logits.upper + 1e-9).all()
        lead = found.gather(1, label[:, None]) - found
        assert (lead >= leads - 1e-9).all()
        assert (lead >= linear - 1e-9).all()
    undecided = layers[0].spikes.lower != layers[0].spikes.upper
    assert undecided.any(), "a box without an undecided spike shows nothing"


@pytest.mark.parametrize("name", NETWORKS)
def test_bounds_of_a_point_are_the_logits(name: str) -> None:
    net, images = network(name)
    bounded = BoundedNetwork(net, tolerance=0.0)
    logits, layers = bounded.bounds(box_around(images, 0.0))
    exact = copy.deepcopy(net).double()(images.double())
    for end in (logits.lower, logits.upper):
        torch.testing.assert_close(end, exact, rtol=0, atol=1e-9)
    label = exact.argmax(1)
    linear = relaxed_differences(bounded, box_around(images, 0.0), label, layers, 4)
    torch.testing.assert_close(linear, exact.gather(1, label[:, None]) - exact, rtol=0, atol=1e-9)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_image_is_decided_as_a_grid_says(layer: str) -> None:
    eps, line = 0.1, torch.linspace(-0.1, 0.1, 61)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 1, 1, 2)
    seen = set()
    for seed in (1, 5):
        net = TwoPixels(layer, seed).eval()
        images = torch.rand(8, 1, 1, 2)
        labels = net(images).argmax(1)
        bounds = certify(net, images, labels, eps)
        for x, label, sure, broken, method in zip(
            images, labels, bounds.certified, bounds.broken, bounds.method, strict=True
        ):
            falls = bool((net((x + grid).clamp(0, 1)).argmax(1) != label).any())
            assert sure != broken, "neither proven nor refuted"
            assert broken or not falls, "certified, and an image of the grid is misclassified"
            seen.add((method, bool(broken)))
    assert ("exact", False) in seen
    assert ("exact", True) in seen


def test_what_breaks_an_image_is_in_its_ball_and_misclassified() -> None:
    for seed in range(6):
        net, x = TwoPixels("hard", seed).eval(), torch.full((1, 1, 1, 2), 0.4)
        label = int(net(x).argmax())
        found = decide(BoundedNetwork(net), x[0], label, 0.3)
        if found.image is not None:
            assert (found.image - x[0]).abs().max() <= 0.3 + 1e-6
            assert int(net(found.image[None]).argmax()) != label
            return
    pytest.fail("no image of six networks was broken")


@pytest.mark.parametrize("layer", LAYERS)
def test_cells_are_the_spike_trains_of_currents(layer: str) -> None:
    neuron = LAYERS[layer]()
    cells = spike_cells(neuron, 4, -1.0, 3.0)
    assert cells[0].low == -1.0
    assert cells[-1].high == 3.0
    assert len(cells) > 3
    for cell in (cell for cell in cells if cell.high - cell.low > 1e-6):
        middle = torch.full((1, 1, 1), (cell.low + cell.high) / 2)
        assert tuple(neuron(middle, steps=4).flatten().int().tolist()) == cell.train


def test_no_attack_breaks_a_certified_image() -> None:
    net, images = network("snn_sew7b")
    victim = Victim(net)
    labels = net(images).argmax(1)
    radius = next(
        eps
        for eps in (3e-4, 1e-4, 3e-5, 1e-5, 1e-6)
        if certify(net, images, labels, eps, nodes=0).certified.any()
    )
    sure = certify(net, images, labels, radius, nodes=0).certified
    attacked = PGD(steps=10)(victim, images, labels, eps=radius).images
    assert torch.equal(net(attacked).argmax(1)[sure], labels[sure])


def test_a_false_certificate_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images = TwoPixels("hard", 5).eval(), torch.rand(8, 1, 1, 2)
    labels = net(images).argmax(1)
    assert not certify(net, images, labels, 0.5, nodes=0).certified.all()
    monkeypatch.setattr(bounds, "least_lead", lambda *_: torch.ones(8))
    with pytest.raises(AssertionError, match="a certified image is misclassified"):
        certify(net, images, labels, 0.5, nodes=0)


def test_a_membrane_at_the_threshold_is_undecided() -> None:
    net = TwoPixels("hard", 0).eval()
    net.first.weight.data.zero_()
    net.first.bias.data.fill_(1.0)
    _, layers = BoundedNetwork(net).bounds(box_around(torch.rand(1, 1, 1, 2), 0.0))
    assert (layers[0].spikes.lower == 0).all()
    assert (layers[0].spikes.upper == 1).all()


def test_event_frames_have_bounds() -> None:
    net = awake(narrow("snn_vgg5", "fresh", T=3, img_size=8, in_chans=2), torch.rand(4, 3, 2, 8, 8))
    frames = torch.rand(2, 3, 2, 8, 8)
    labels = net.eval()(frames).argmax(1)
    assert certify(net, frames, labels, 1e-7).certified.all()
    assert certify(net, frames, 1 - labels.clamp(max=1), 1e-7).method.count("clean")


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (lambda: narrow("snn_vgg5_stog", "fresh", T=2), "random numbers"),
        (lambda: narrow("snn_vgg5_poisson", "fresh", T=2), "noise='rate'"),
        (lambda: narrow("snn_vgg5_feel", T=2), "no bounds of a EvolvingLeakLIF"),
        (lambda: narrow("snn_vgg5", T=2, early_exit="entropy"), "no bounds of a EarlyExit"),
        (lambda: narrow("snn_qkformer", T=2), "no bounds of a TokenAttention"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "has others"),
    ],
)
def test_networks_without_bounds_are_refused(net: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        certify(net(), torch.rand(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64), 0.01)
