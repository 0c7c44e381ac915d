"""Penalties on membranes against their definitions, and what a step of them does."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from helpers import assert_close_rms
from robust_snn.metrics import record
from robust_snn.training import load_recipe
from robust_snn.training.membrane_guards import GUARDS
from robust_snn.training.training_losses import objective
from zoo import awake, images, narrow

LABELS = torch.tensor([3, 7])


def distances(name: str) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    net = awake(narrow(name), images(name, 4))
    with torch.no_grad(), record(net) as activity:
        net(images(name))
    return net, [layer.distance for layer in activity.layers.values()]


@pytest.mark.parametrize("name", ["snn_vgg5", "snn_vgg5_stog", "snn_vgg5_ilif", "snn_vgg5_feel"])
def test_distances_are_those_that_fired(name: str) -> None:
    opened = {"gate_probability": 1.0} if name.endswith("stog") else {}
    net = awake(narrow(name, **opened), images(name, 4))
    with torch.no_grad(), record(net) as activity:
        net(images(name))
    for layer in activity.layers.values():
        assert torch.equal(layer.distance >= 0, layer.spikes > 0)


def test_penalties_are_their_formulas() -> None:
    name = "snn_vgg5"
    net, layers = distances(name)
    with record(net) as activity:
        net(images(name))
    hinge = sum((0.3 - z.abs()).clamp(min=0).mean() for z in layers)
    assert_close_rms(GUARDS["tgo"].penalty(activity, 0.3), hinge)
    mass = 0.0
    for z in layers:
        normal = Normal(z.double().mean(), z.double().std(correction=0))
        mass = mass + normal.cdf(torch.tensor(0.3)) - normal.cdf(torch.tensor(-0.3))
    assert_close_rms(GUARDS["mpd_sgr"].penalty(activity, 0.3), mass, 1e-4)


@pytest.mark.parametrize("kind", GUARDS)
def test_descent_moves_membranes_out_of_the_window(kind: str) -> None:
    """Steps on the penalty alone leave fewer membranes near the threshold."""
    name = "snn_vgg5"
    net = awake(narrow(name), images(name, 4)).train()
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    shares = []
    for _ in range(15):
        with record(net) as activity:
            net(images(name))
        z = torch.cat([layer.distance.flatten() for layer in activity.layers.values()])
        shares.append(float((z.abs() < 0.5).float().mean()))
        optimizer.zero_grad()
        GUARDS[kind].penalty(activity, 0.5).backward()
        optimizer.step()
    assert shares[-1] < 0.8 * shares[0]


def test_the_weight_joins_the_objective_and_tgo_grows() -> None:
    recipe = load_recipe("tgo-at").replace(epochs=10, guard=0.4)
    weights = [recipe.guard_weight(epoch) for epoch in (1, 5, 10)]
    assert weights == pytest.approx([0.4 * 0.0244717, 0.2, 0.4], rel=1e-4)
    assert load_recipe("mpd-sgr").guard_weight(1) == load_recipe("mpd-sgr").guard
    name = "snn_vgg5"
    net, layers = distances(name)
    hinge = sum((0.5 - z.abs()).clamp(min=0).mean() for z in layers)
    x = images(name)
    without = objective(net, x, x, LABELS, recipe.replace(guard=0))
    guarded = objective(net, x, x, LABELS, recipe, epoch=10)
    assert_close_rms(guarded.loss - without.loss, 0.4 * hinge, 1e-4)
