"""A network that stops once it is sure: where, with which answer, and with which gradient."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import assert_close_rms
from robust_snn import Victim
from robust_snn.models.early_exit import EarlyExit, exit_steps, stopping
from robust_snn.models.readout import step_logits
from robust_snn.utils.errors import InputError
from zoo import awake, images, narrow


def of(*probabilities: float) -> Tensor:
    """Logits of every step, averaged so far, of an image of two classes with these chances."""
    running = [torch.tensor([math.log(p), math.log(1 - p)]) for p in probabilities]
    steps, before = [], torch.zeros(2)
    for count, mean in enumerate(running, 1):
        steps.append(count * mean - before)
        before = count * mean
    return torch.stack(steps)


@pytest.mark.parametrize("rule", ["confidence(at=0.9)", "entropy(at=0.325)"])
def test_it_stops_at_the_first_step_that_is_sure(rule: str) -> None:
    trains = ((0.95, 0.6, 0.99), (0.6, 0.05, 0.7), (0.6, 0.7, 0.8), (0.6, 0.89, 0.91))
    logits = torch.stack([of(*train) for train in trains], 1)
    leave = EarlyExit(rule)
    assert leave.steps(logits).tolist() == [1, 2, 3, 3]
    answers = torch.softmax(leave(logits), -1)[:, 0]
    assert_close_rms(answers, torch.tensor([0.95, 0.05, 0.8, 0.91]))


def test_the_chances_to_stop_are_those_of_a_sequence() -> None:
    surplus = torch.tensor([[0.0], [math.log(3)], [-9.0]])
    assert_close_rms(stopping(surplus)[:, 0], torch.tensor([0.5, 0.375, 0.125]))


def test_the_answer_is_one_and_the_gradients_are_three() -> None:
    logits = torch.randn(5, 6, 4, dtype=torch.float64, requires_grad=True)
    answers, gradients = {}, {}
    for kind in ("aware", "taken", "unaware"):
        leave = EarlyExit("confidence(at=0.6)", kind)
        answers[kind] = leave(logits)
        loss = F.cross_entropy(answers[kind], torch.arange(6) % 4, reduction="sum")
        (gradients[kind],) = torch.autograd.grad(loss, logits)
    for kind in ("aware", "unaware"):
        assert_close_rms(answers[kind], answers["taken"], 1e-12)
    after = torch.arange(5)[:, None] >= leave.steps(logits)
    assert not gradients["taken"][after].any() and after.any()
    assert_close_rms(gradients["unaware"], gradients["unaware"][:1].expand(5, -1, -1), 1e-12)
    assert gradients["aware"][after].any()


def test_the_aware_gradient_is_that_of_the_mixture() -> None:
    """A narrow chance to stop makes the mixture the answer itself, so that both can be compared."""
    logits = torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True)
    leave = EarlyExit("confidence(at=0.55)", "aware", width=0.3)

    def mixture(logits: Tensor) -> Tensor:
        running, surplus = leave._read(logits)
        return (stopping(surplus / 0.3)[..., None] * running).sum(0).square().sum()

    direction, step = torch.randn_like(logits), 1e-6
    slope = (mixture(logits + step * direction) - mixture(logits - step * direction)) / (2 * step)
    running, surplus = leave._read(logits)
    mixed = (stopping(surplus / 0.3)[..., None] * running).sum(0)
    (gradient,) = torch.autograd.grad(leave(logits), logits, grad_outputs=2 * mixed.detach())
    assert_close_rms((gradient * direction).sum(), slope, 1e-5)


def test_a_network_stops_in_eval_mode_alone() -> None:
    x = images("snn_vgg5", 8)
    plain = awake(narrow("snn_vgg5"), x)
    with torch.no_grad():
        plain.fc.weight *= 30  # as sure as a trained network
        every = step_logits(plain, x)
        running = every.cumsum(0) / torch.arange(1, 5).view(-1, 1, 1)
        certainty = torch.softmax(running[:3], -1).amax(-1).amax(0)
    rule = f"confidence(at={float(certainty.median()):.4f})"
    net = narrow("snn_vgg5", early_exit=rule)
    net.load_state_dict(plain.state_dict())
    taken = exit_steps(net, x)
    assert taken.min() < taken.max() == 4
    with torch.no_grad():
        assert_close_rms(net(x), running[taken - 1, torch.arange(8)])
        assert_close_rms(net.train()(x), plain.train()(x))
    net.eval().reset_classifier(0)
    assert net(x).shape == (8, net.head_hidden_size)
    with pytest.raises(InputError, match="has no early exit"):
        exit_steps(plain, x)


@pytest.mark.parametrize("name", ["snn_vgg5", "snn_vgg5_stog"])
def test_victims_attack_what_stops(name: str) -> None:
    x = images(name)
    net = awake(narrow(name, noise="fresh", early_exit="confidence(at=0.3)"), x)
    x.requires_grad_()
    for victim in (Victim(net, eot=2), Victim(net, gradient="bptr")):
        (gradient,) = torch.autograd.grad(victim(x).logsumexp(1).sum(), x)
        assert gradient.isfinite().all() and gradient.any()
    ids = torch.arange(2)
    assert torch.equal(victim.sample(x, ids, draw=3), victim.sample(x, ids, draw=3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"early_exit": "confidense"}, "did you mean 'confidence'"),
        ({"early_exit": "confidence(at=1.5)"}, "at of confidence must be in"),
        ({"early_exit": "entropy(at=-1)"}, "at of entropy must be at least 0"),
        ({"early_exit": "entropy", "exit_gradient": "awere"}, "did you mean 'aware'"),
        ({"early_exit": "entropy", "readout": "membrane"}, "leave readout at 'mean'"),
    ],
)
def test_what_is_no_rule_is_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        narrow("snn_vgg5", **arguments)
