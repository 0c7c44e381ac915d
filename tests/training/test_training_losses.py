"""Losses and penalties against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import assert_close_rms
from robust_snn import InputError
from robust_snn.kernels import sample_keys
from robust_snn.metrics import mppd, ms_mppd, record, spike_train_distance, tasad
from robust_snn.models.readout import OneStep, step_logits
from robust_snn.neurons import keyed
from robust_snn.training import Recipe
from robust_snn.training.training_losses import (
    DISTANCES,
    TASK_LOSSES,
    divergence,
    gradient_penalty,
    objective,
    tet_loss,
)
from zoo import BACKBONES, awake, images, narrow

LABELS = torch.tensor([3, 7])


def recipe(**changes: Any) -> Recipe:
    return Recipe("test", "test", **{"perturbation": "fgsm", "eps": 0.1, **changes})


def test_tet_averages_the_loss_of_every_step() -> None:
    logits = torch.randn(5, 2, 10)
    each = torch.stack([F.cross_entropy(step, LABELS) for step in logits])
    assert_close_rms(tet_loss(logits, LABELS, weight=0.0), each.mean())
    assert_close_rms(tet_loss(logits, LABELS, weight=1.0), ((logits - 1) ** 2).mean())
    assert_close_rms(
        tet_loss(logits, LABELS), 0.95 * each.mean() + 0.05 * ((logits - 1) ** 2).mean()
    )
    assert each.mean() >= F.cross_entropy(logits.mean(0), LABELS)  # Jensen


@pytest.mark.parametrize("name", BACKBONES)
def test_the_mean_over_steps_gives_the_logits(name: str) -> None:
    net = awake(narrow(name), images(name, 4))
    with torch.no_grad():
        steps = step_logits(net, images(name))
        assert steps.shape == (4, 2, 10)
        assert_close_rms(steps.mean(0), net(images(name)))
        assert net(images(name)).shape == (2, 10)  # nothing stays behind
    assert not torch.equal(steps[0], steps[-1])


@pytest.mark.parametrize(("share", "step"), [(0.0, 0), (0.3, 1), (0.99, 3)])
def test_a_sub_network_answers_with_one_step(share: float, step: int) -> None:
    net = awake(narrow("snn_vgg5_stog"), images("snn_vgg5", 4))
    x = images("snn_vgg5")
    with torch.no_grad():
        assert torch.equal(OneStep(net, share)(x), step_logits(net, x)[step])


def test_the_self_ensemble_averages_the_loss_of_every_step() -> None:
    logits = torch.randn(5, 2, 10)
    each = torch.stack([F.cross_entropy(step, LABELS) for step in logits])
    assert_close_rms(TASK_LOSSES["rte"].value(logits, LABELS, recipe(loss="rte")), each.mean())


def test_step_logits_need_a_readout() -> None:
    with pytest.raises(InputError, match="a spiking network of this package"):
        step_logits(nn.Flatten(), torch.rand(1, 3))


def test_divergence_is_that_of_two_distributions() -> None:
    clean, moved = torch.randn(2, 6, 10).double()
    p, q = clean.softmax(-1), moved.softmax(-1)
    assert_close_rms(divergence(clean, moved), (p * (p / q).log()).sum(-1))
    assert divergence(clean, clean).abs().max() < 1e-12
    assert divergence(1e4 * clean, 1e4 * moved).isfinite().all()


def test_the_gradient_penalty_is_the_squared_slope_along_the_sign() -> None:
    """Of two classes with score `w x`: f = sigmoid(+-w x), |df/dx|_1 = f (1 - f) |w|_1."""
    weight = torch.tensor([2.0, -3.0, 0.5], dtype=torch.float64)

    def net(x: Tensor) -> Tensor:
        score = x.flatten(1) @ weight
        return torch.stack([torch.zeros_like(score), score], 1)

    x, labels = torch.rand(4, 1, 1, 3).double(), torch.tensor([0, 1, 1, 0])
    f = torch.sigmoid(torch.where(labels == 1, 1.0, -1.0) * (x.flatten(1) @ weight))
    slope = f * (1 - f) * weight.abs().sum()
    assert_close_rms(gradient_penalty(net, x, labels, step=1e-6), slope**2, 1e-4)
    assert_close_rms(gradient_penalty(net, x, labels, step=1e-6, power=1), slope, 1e-4)
    far = 1e4 * x  # raw exponentials would overflow
    assert gradient_penalty(net, far, labels).isfinite().all()


@pytest.mark.parametrize("form", ["membrane", "input"])
def test_distances_of_the_last_layer_are_right_for_dlif(form: str) -> None:
    net = awake(narrow("snn_vgg5_dlif", dlif_form=form), images("snn_vgg5", 4))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("factor"):
                parameter.copy_(torch.tensor([0.7, 1.1, 0.9, 1.3]))
    x = images("snn_vgg5")
    pair = []
    for batch in (x, (x + 0.1).clamp(0, 1)):
        with torch.no_grad(), record(net) as activity:
            net(batch)
        pair.append(activity.last)
    clean, moved = pair
    factor, one = torch.tensor([0.7, 1.1, 0.9, 1.3]), torch.ones(4)
    leak, gain = (0.99 * factor, one) if form == "membrane" else (0.99 * one, factor)
    currents = [layer.current * gain[:, None, None] for layer in pair]
    expected = ms_mppd(*currents, leak)
    assert_close_rms(DISTANCES["ms_mppd"](clean, moved), expected)
    neurons = clean.current[0, 0].numel()
    assert_close_rms(DISTANCES["ms_mppd_mean"](clean, moved), expected / (4 * neurons))
    error = mppd(*currents, leak).abs().transpose(0, 1).flatten(1)
    assert_close_rms(DISTANCES["mppd_l1"](clean, moved), error.sum(1))
    assert_close_rms(DISTANCES["mppd_l1_mean"](clean, moved), error.mean(1))
    assert_close_rms(DISTANCES["tasad"](clean, moved), tasad(clean.spikes, moved.spikes))
    assert_close_rms(
        DISTANCES["std"](clean, moved), spike_train_distance(clean.spikes, moved.spikes)
    )


def _pieces(net: nn.Module, clean: Tensor, moved: Tensor) -> dict[str, Tensor]:
    return {
        "clean": F.cross_entropy(net(clean), LABELS),
        "moved": F.cross_entropy(net(moved), LABELS),
        "kl": divergence(net(clean), net(moved)).mean(),
        "sr": gradient_penalty(net, clean, LABELS).mean(),
    }


@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        ({}, {"moved": 1}),
        ({"clean_share": 0.3}, {"clean": 0.3, "moved": 0.7}),
        ({"trades": 6}, {"clean": 1, "kl": 6}),
        ({"sr": 2}, {"moved": 1, "sr": 2}),
    ],
)
@pytest.mark.parametrize("name", ["snn_vgg5", "snn_vgg5_stog"])
def test_the_objective_is_the_sum_of_its_parts(
    name: str, changes: dict[str, float], weights: dict[str, float]
) -> None:
    net = awake(narrow(name), images(name, 4))
    clean = images(name)
    moved = (clean + 0.1).clamp(0, 1)
    with keyed(sample_keys(0, torch.arange(2))):
        outcome = objective(net, clean, moved, LABELS, recipe(**changes))
        parts = _pieces(net, clean, moved)
        assert_close_rms(outcome.loss, sum(w * parts[part] for part, w in weights.items()))
        assert_close_rms(outcome.task, parts["moved"].detach())
        assert_close_rms(outcome.logits, net(moved).detach())


@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_the_distance_joins_with_its_weight_and_teaches(distance: str) -> None:
    net = awake(narrow("snn_wrn16"), images("snn_wrn16", 4)).train()
    clean = images("snn_wrn16")
    moved = (clean + 0.2 * torch.randn(clean.shape)).clamp(0, 1)
    losses = [
        objective(net, clean, moved, LABELS, recipe(clean_share=0.5, **how))
        for how in ({}, {"rho": 1.0, "distance": distance}, {"rho": 3.0, "distance": distance})
    ]
    plain, one, three = (outcome.loss for outcome in losses)
    assert one > plain
    assert_close_rms(three - plain, 3 * (one - plain), 1e-3)
    (one - plain.detach()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    same = objective(net, clean, clean, LABELS, recipe(clean_share=0.5, rho=1, distance=distance))
    assert_close_rms(same.loss, F.cross_entropy(net(clean), LABELS), 1e-4)


@pytest.mark.parametrize("loss", TASK_LOSSES)
def test_a_loss_teaches_every_weight(loss: str) -> None:
    net = awake(narrow("snn_vgg5"), images("snn_vgg5", 4)).train()
    outcome = objective(net, images("snn_vgg5"), images("snn_vgg5"), LABELS, recipe(loss=loss))
    assert outcome.loss.isfinite() and outcome.logits.shape == (2, 10)
    outcome.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert net.fc.weight.grad.any()


def test_equal_logits_are_worth_chance() -> None:
    net = timm.create_model("snn_vgg5", T=2, width=0.1, head_width=16, img_size=8, in_chans=1)
    nn.init.zeros_(net.fc.weight)
    x = torch.rand(2, 1, 8, 8)
    for how in ({"loss": "ce"}, {"loss": "tet", "tet_weight": 0.0}):
        outcome = objective(net, x, x, LABELS, recipe(**how))
        assert float(outcome.task) == pytest.approx(math.log(10))
