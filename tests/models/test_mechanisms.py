"""Mechanisms under a Victim, and with every gradient mode."""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close_rms
from robust_snn import Victim
from robust_snn.gradients import MODES
from robust_snn.kernels import sample_keys
from robust_snn.models import MECHANISMS
from robust_snn.neurons import gradient_mode, keyed
from zoo import awake, images, narrow

NOISY = {"stog", "nlif", "poisson", "randhet"}
over_mechanisms = pytest.mark.parametrize("mechanism", MECHANISMS)


def victim(mechanism: str, **settings: object) -> Victim:
    name = "snn_vgg5" if mechanism == "none" else f"snn_vgg5_{mechanism}"
    net = awake(narrow(name, noise="fresh"), images(name, 4))
    return Victim(net, **settings)


@over_mechanisms
def test_noise_is_declared(mechanism: str) -> None:
    assert victim(mechanism).stochastic == (mechanism in NOISY)


@over_mechanisms
def test_scores_depend_on_no_batch(mechanism: str) -> None:
    attacked, x = victim(mechanism), images("snn_vgg5", 5)
    ids = torch.tensor([7, 3, 11, 0, 5])
    whole = attacked.sample(x, ids, draw=1)
    parts = [attacked.sample(x[i : i + 1], ids[i : i + 1], draw=1) for i in (3, 0, 4)]
    assert_close_rms(torch.cat(parts), whole[[3, 0, 4]])
    again = attacked.sample(x, ids, draw=2)
    assert torch.equal(whole, again) != (mechanism in NOISY)


@over_mechanisms
def test_the_mean_over_draws_has_the_mean_gradient(mechanism: str) -> None:
    attacked = victim(mechanism, eot=3, noise="frozen")
    x = images("snn_vgg5").requires_grad_()
    logits = attacked(x)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert gradient.isfinite().all() and gradient.any()
    if mechanism not in NOISY:
        return
    total, mean = torch.zeros_like(x), torch.zeros_like(logits)
    for draw in range(3):
        keys = sample_keys(0, torch.zeros(2, dtype=torch.int64), draw)
        with keyed(keys), gradient_mode(attacked.net, "bptt"):
            alone = attacked.net(x)
        mean += alone.detach() / 3
        total += torch.autograd.grad(alone.sum(), x)[0] / 3
    assert_close_rms(logits, mean, 1e-4)
    assert_close_rms(gradient, total, 1e-4)


@over_mechanisms
def test_the_mean_field_is_a_function(mechanism: str) -> None:
    attacked, x = victim(mechanism, noise="mean"), images("snn_vgg5").requires_grad_()
    logits = attacked(x)
    assert torch.equal(logits, attacked(x))
    logits.sum().backward()
    assert x.grad.isfinite().all() and x.grad.any()


@pytest.mark.parametrize("mode", MODES)
@over_mechanisms
def test_every_gradient_mode_reaches_the_image_and_moves_no_spike(
    mechanism: str, mode: str
) -> None:
    text = "activation(relu)" if mode == "activation" else mode
    attacked, x = victim(mechanism, noise="frozen"), images("snn_vgg5").requires_grad_()
    expected = attacked(x)
    logits = attacked.replace(gradient=text)(x)
    assert torch.equal(logits, expected) or mode == "activation"
    logits.sum().backward()
    assert x.grad.isfinite().all() and x.grad.any()
