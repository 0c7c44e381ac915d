"""The ball, losses, targets, adaptive draws and the choice of the hardest point."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack_targeted
from torch import Tensor, nn
from torch.nn import functional as F

from robust_snn import InputError, Victim
from robust_snn.attacks import ATTACKS, SAPGD, make_attack
from robust_snn.attacks.candidates import Candidates
from robust_snn.attacks.eot_draws import AdaptiveDraws, FixedDraws, LossEstimate, parse_draws
from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.losses import Goal, choose_targets
from robust_snn.attacks.norm_ball import NormBall
from robust_snn.attacks.problem import AttackInputs, Problem
from robust_snn.gradients.modes import ASSG
from robust_snn.neurons.noise_source import NoisyModule

EVERY = torch.arange(64)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("eps", [0.0, 1e-7, 8 / 255, 0.5, 3.0])
def test_no_rounding_leads_out_of_the_ball(norm: str, eps: float) -> None:
    x = torch.rand(64, 3, 9, 9)
    ball, rng = NormBall(x, eps, norm), ImageRng(0, EVERY, x)
    far = x + 2 * eps * torch.randn_like(x) + eps * 1e-7
    for points in (ball.project(far), ball.random_inside(rng, 0), ball.random_surface(rng, 0)):
        delta = (points.double() - x.double()).flatten(1)
        size = delta.abs().amax(1) if norm == "Linf" else delta.norm(dim=1)
        assert (size <= eps).all() and points.min() >= 0 and points.max() <= 1
        if 0.01 < eps < 1:  # rounding aside, all of it is used
            assert size.max() > 0.98 * eps
    assert torch.equal(ball.project(x), x)


def test_random_starts_of_an_image_depend_on_its_id() -> None:
    x = torch.rand(3, 1, 4, 4)
    a = ImageRng(0, torch.tensor([5, 6, 7]), x).uniform("start", 0)
    b = ImageRng(0, torch.tensor([7, 5]), x).uniform("start", 0)
    assert torch.equal(a[[2, 0]], b)
    for other in (
        ImageRng(1, EVERY[5:8], x).uniform("start", 0),
        ImageRng(0, EVERY[5:8], x).normal("x"),
    ):
        assert not torch.equal(a, other)
    assert (a.abs() <= 1).all() and a.std() > 0.4


def test_targeted_dlr_is_the_released_one() -> None:
    logits, labels = torch.randn(64, 7), EVERY % 7
    targets = (labels + 3) % 7
    released = APGDAttack_targeted(None, eps=0.1, device="cpu")
    released.y_target = targets
    found = Goal("dlr", labels, targets).loss(logits, EVERY)
    assert torch.allclose(found, released.dlr_loss_targeted(logits, labels), atol=1e-6)


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
@pytest.mark.parametrize("targeted", [False, True])
def test_losses_rise_with_success(loss: str, targeted: bool) -> None:
    labels, targets = torch.zeros(2).long(), torch.ones(2).long()
    logits = torch.tensor([[2.0, 1.9, 0.0, -1.0], [1.9, 2.0, 0.0, -1.0]])
    goal = Goal(loss, labels, targets if targeted else None)
    easy, hard = goal.loss(logits, EVERY[:2])
    assert easy < hard and goal.wrong(logits, EVERY[:2]).tolist() == [0, 1]
    if loss == "dlr":
        with pytest.raises(InputError, match="classes"):
            goal.loss(logits[:, :2], EVERY[:2])


def test_tet_is_the_cross_entropy_of_every_step() -> None:
    logits, labels = torch.randn(3, 5, 4), torch.tensor([0, 1, 2, 3, 0])
    goal = Goal("tet", labels, None)
    steps = [F.cross_entropy(step, labels, reduction="none") for step in logits]
    assert torch.allclose(goal.loss(logits, EVERY[:5]), sum(steps) / 3)  # type: ignore[arg-type]
    wrong = logits.mean(0).argmax(1) != labels
    assert torch.equal(goal.wrong(logits, EVERY[:5]), wrong.float())


def test_the_logits_of_every_step_average_to_the_logits(digits: Any) -> None:
    x = digits.images[:4]
    steps = digits.victim.replace(output="steps")(x)
    assert steps.shape == (3, 4, 10)
    assert torch.allclose(steps.mean(0), digits.victim(x), atol=1e-5)
    with pytest.raises(InputError, match="every step"):
        Victim(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), output="steps")(x)


def test_targets_never_are_the_label() -> None:
    labels, logits = torch.arange(600) % 4, torch.randn(600, 4)
    rng = ImageRng(0, torch.arange(600), torch.zeros(600, 1))
    random = choose_targets("random", logits, labels, rng)
    shift = (random[0] - labels) % 4
    assert [int((shift == s).sum()) > 150 for s in range(4)] == [False, True, True, True]
    ranked = choose_targets(9, logits, labels, rng)
    assert ranked.shape == (3, 600) and (ranked != labels).all()
    values = logits.gather(1, ranked.T)
    assert (values[:, :-1] >= values[:, 1:]).all()
    least = choose_targets("least-likely", logits, labels, rng)
    assert torch.equal(least[0], ranked[2])
    with pytest.raises(InputError, match="targets"):
        choose_targets(labels, logits, labels, rng)


def noisy(noise: Tensor, generator: torch.Generator):  # type: ignore[no-untyped-def]
    """Draws of gradients whose mean is 1 in every entry and whose noise each image has its own."""

    def draw(rows: Tensor) -> LossEstimate:
        g = 1 + noise[rows, None] * torch.randn((len(rows), 500), generator=generator)
        ones = torch.ones(len(rows))
        return LossEstimate(g, ones, ones.clone(), ones.clone())

    return draw


@pytest.mark.parametrize("error", [0.2, 0.4])
def test_adaptive_draws_buy_the_stated_cosine(error: float) -> None:
    noise = torch.tensor([0.0, 1.0, 2.0, 4.0, 1000.0]).repeat(40)
    found = AdaptiveDraws(error, 30).estimate(
        noisy(noise, torch.Generator().manual_seed(0)), 200, noise.device
    )
    cosine = torch.cosine_similarity(found.gradient, torch.ones(200, 500)).reshape(40, 5).mean(0)
    sign = found.gradient.sign().mean(1).reshape(40, 5).mean(0)
    draws = found.draws.reshape(40, 5).mean(0)
    assert (cosine[:4] > 1 - error - 0.03).all() and (sign[:4] > 1 - error - 0.15).all()
    assert draws[0] == 2 and draws[1] < 2.5 and draws[1] < draws[2] < draws[3] < draws[4] == 30
    assert draws[3] < 2 + 16 / ((1 - error) ** -2 - 1)
    assert torch.equal(found.loss, torch.ones(200))


def test_images_without_gradient_get_two_draws() -> None:
    def draw(rows: Tensor) -> LossEstimate:
        return LossEstimate(torch.zeros(len(rows), 5), *torch.ones(3, len(rows)))

    found = AdaptiveDraws().estimate(draw, 3, torch.device("cpu"))
    assert found.draws.tolist() == [2, 2, 2] and (found.gradient == 0).all()


def test_numbers_of_draws_are_read_from_text() -> None:
    assert parse_draws(3) == FixedDraws(3)
    assert parse_draws("adaptive(error=0.3,most=50)") == AdaptiveDraws(0.3, 50)
    assert parse_draws(str(AdaptiveDraws(0.1))) == AdaptiveDraws(0.1)
    for wrong in (0, True, 1.5, "adaptive(error=2)", "adaptive(most=1)", "adaptive(m=1)", "all"):
        with pytest.raises(InputError):
            parse_draws(wrong)  # type: ignore[arg-type]


class Lucky(NoisyModule):
    """Right with a probability that falls with the mean pixel."""

    def forward(self, x: Tensor) -> Tensor:
        keys = self.draw(len(x), x.device).keys
        luck = (keys % 1000) / 1000
        right = (luck > x.flatten(1).mean(1)).float()
        return torch.stack([right, 1 - right], 1)


def test_fresh_draws_choose_and_luck_does_not() -> None:
    x = torch.zeros(2, 1, 2, 2)
    candidates = Candidates(x, 3)
    rows, ones = torch.arange(2), torch.ones(2)
    # the first point was wrong by luck on its draw, the second is wrong nine times of ten
    for level, wrong in [(0.1, 1.0), (0.9, 0.75), (0.2, 0.5), (0.3, 0.1)]:
        candidates.offer(rows, torch.full_like(x, level), LossEstimate(x, ones, wrong * ones, ones))
    kept = sorted(round(float(v), 2) for v in candidates.points[:, 0, 0, 0, 0])
    assert kept == [0.1, 0.2, 0.9]
    chosen, success = candidates.choose(Victim(nn.Sequential(Lucky())), rows * 0, rows, 50)
    assert torch.allclose(chosen, torch.full_like(x, 0.9)) and success.all()


def test_a_suite_can_ask_for_options_and_classes() -> None:
    options = ATTACKS["pgd"].option_names()
    assert {"steps", "alpha", "restarts", "eot_loss"} <= set(options)
    assert not {"eps", "norm", "seed", "victim", "name"} & set(options)
    asked = [("pgd", {}), ("apgd", {"loss": "dlr"}), ("apgd-t", {}), ("apgd-t", {"loss": "ce"})]
    assert [make_attack(*each).least_classes for each in asked] == [2, 3, 4, 2]
    with pytest.raises(InputError, match="apgd"):
        make_attack("apgt", {})
    assert all(cls.option_names() for cls in ATTACKS.values())


def test_adaptive_draws_keep_what_assg_remembers(digits: Any) -> None:
    """Draws of some images use the statistics of those images, and leave all as they were."""
    mode, x = ASSG(), digits.images[:4]
    victim = digits.victim.replace(gradient=mode)
    goal = Goal("ce", digits.labels[:4], None)
    kept: list[LossEstimate] = []
    inputs = AttackInputs(victim, x, digits.labels[:4], EVERY[:4], 0.1, "Linf", 0)
    problem = Problem(inputs, 0, goal, FixedDraws(1), lambda _, estimate: kept.append(estimate))
    problem.loss_gradient(x)
    before = {name: [t.clone() for t in pair] for name, pair in mode.memory.layers.items()}
    rows = torch.tensor([1, 3])
    part = problem._draw(x, rows)
    assert torch.allclose(part.gradient, kept[0].gradient[rows], rtol=1e-4, atol=1e-7)
    for name, pair in mode.memory.layers.items():
        assert all(torch.equal(a, b) for a, b in zip(pair, before[name], strict=True))
    problem.loss_gradient(x + 0.01)
    assert any(not torch.equal(before[n][0], pair[0]) for n, pair in mode.memory.layers.items())


def test_every_run_of_assg_starts_anew(digits: Any) -> None:
    victim = digits.victim.replace(gradient="assg")
    batch = digits.images[:6], digits.labels[:6]
    first, again = (SAPGD(steps=4, restarts=2)(victim, *batch, eps=0.1) for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert not victim.gradient.memory.layers
