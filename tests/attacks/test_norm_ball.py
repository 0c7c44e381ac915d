"""Points of the ball stay in it, and those of an image depend on nothing else."""

from __future__ import annotations

import pytest
import torch
from pyautoattack.autopgd_base import L1_projection

from robust_snn.attacks.image_rng import ImageRng
from robust_snn.attacks.norm_ball import NormBall


def every() -> torch.Tensor:
    return torch.arange(64)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("eps", [0.0, 1e-7, 8 / 255, 0.5, 3.0])
def test_no_rounding_leads_out_of_the_ball(norm: str, eps: float) -> None:
    x = torch.rand(64, 3, 9, 9)
    ball, rng = NormBall(x, eps, norm), ImageRng(0, every(), x)
    far = x + 2 * eps * torch.randn_like(x) + eps * 1e-7
    inside = [] if norm == "L1" else [ball.random_inside(rng, 0)]
    for points in (ball.project(far), *inside, ball.random_surface(rng, 0)):
        delta = (points.double() - x.double()).flatten(1)
        size = delta.norm({"Linf": torch.inf, "L2": 2, "L1": 1}[norm], dim=1)
        assert (size <= eps).all() and points.min() >= 0 and points.max() <= 1
        if 0.01 < eps < 1:  # rounding aside, all of it is used
            assert size.max() > 0.98 * eps
    assert torch.equal(ball.project(x), x)


@pytest.mark.parametrize("eps", [0.1, 2.0, 12.0, 400.0])
def test_the_l1_projection_is_the_nearest_point(eps: float) -> None:
    x = torch.rand(16, 3, 9, 9)
    x[0], x[1] = 0, 1
    far = x + torch.randn_like(x) * torch.logspace(-3, 1, 16).view(-1, 1, 1, 1)
    found = NormBall(x, eps, "L1").project(far)
    released = far + L1_projection(x.cpu(), (far - x).cpu(), eps).to(
        x.device
    )  # which leaves the ball by rounding errors
    ours, theirs = ((p.double() - far.double()).flatten(1).norm(dim=1) for p in (found, released))
    assert (ours <= theirs * (1 + 1e-4) + 1e-6).all()


def test_random_starts_of_an_image_depend_on_its_id() -> None:
    x = torch.rand(3, 1, 4, 4)
    a = ImageRng(0, torch.tensor([5, 6, 7]), x).uniform("start", 0)
    b = ImageRng(0, torch.tensor([7, 5]), x).uniform("start", 0)
    assert torch.equal(a[[2, 0]], b)
    for other in (
        ImageRng(1, every()[5:8], x).uniform("start", 0),
        ImageRng(0, every()[5:8], x).normal("x"),
    ):
        assert not torch.equal(a, other)
    assert (a.abs() <= 1).all() and a.std() > 0.4
