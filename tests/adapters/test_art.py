"""ART on a victim: the estimator, and attacks that rebuild it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from robust_snn import InputError, Victim
from victims import SHAPE, tiny_victim, told_by

pytest.importorskip("art")
import art.attacks.evasion as evasion  # noqa: E402
from art.estimators.classification import PyTorchClassifier  # noqa: E402

from robust_snn.adapters.art import SNNClassifier, to_art  # noqa: E402

EPS = 0.1
APGD = {"eps": EPS, "eps_step": EPS / 4, "max_iter": 3, "nb_random_init": 1, "verbose": False}
PGD = {"eps": EPS, "eps_step": EPS / 4, "max_iter": 3, "verbose": False}
SHORT = {"max_iter": 2, "verbose": False}
ATTACKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "fgm": (evasion.FastGradientMethod, {"eps": EPS}),
    "pgd": (evasion.ProjectedGradientDescent, PGD),
    "apgd": (evasion.AutoProjectedGradientDescent, APGD),
    "apgd-ce": (evasion.AutoProjectedGradientDescent, {**APGD, "loss_type": "cross_entropy"}),
    "apgd-dlr": (
        evasion.AutoProjectedGradientDescent,
        {**APGD, "loss_type": "difference_logits_ratio"},
    ),
    "square": (evasion.SquareAttack, {**SHORT, "eps": EPS}),
    "deepfool": (evasion.DeepFool, {**SHORT, "nb_grads": 4}),
    "boundary": (evasion.BoundaryAttack, {**SHORT, "targeted": False, "num_trial": 2}),
}
SEARCH_A_BOUNDARY = {"deepfool", "boundary"}


@pytest.fixture(params=[False, True], ids=["deterministic", "noisy"])
def victim(request: pytest.FixtureRequest) -> Victim:
    return tiny_victim(request.param)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(victim: Victim, name: str) -> None:
    images, labels = told_by(victim, 3)
    attack, arguments = ATTACKS[name]
    noise = "frozen" if name in SEARCH_A_BOUNDARY else "fresh"
    estimator = to_art(victim.with_(noise=noise, eot=2), input_shape=SHAPE)
    adversarial = attack(estimator, **arguments).generate(images.numpy(), labels.numpy())
    assert adversarial.shape == images.shape and adversarial.dtype == np.float32
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    if name not in SEARCH_A_BOUNDARY:
        assert np.abs(adversarial - images.numpy()).max() <= EPS + 1e-6
    assert all(p.grad is None for p in victim.parameters())


def test_autoattack_of_art() -> None:
    pytest.importorskip("multiprocess")  # ART needs it and does not install it
    victim = tiny_victim(False)
    images, labels = told_by(victim, 2)
    estimator = to_art(victim, input_shape=SHAPE)
    parts = [
        evasion.AutoProjectedGradientDescent(estimator, **APGD, loss_type="cross_entropy"),
        evasion.SquareAttack(estimator, eps=EPS, max_iter=4, verbose=False),
    ]
    attack = evasion.AutoAttack(estimator, eps=EPS, eps_step=EPS / 4, attacks=parts)
    adversarial = attack.generate(images.numpy(), labels.numpy())
    assert np.abs(adversarial - images.numpy()).max() <= EPS + 1e-6


def test_estimator_is_the_stock_one_where_that_is_right() -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 4)
    x, y = images.numpy(), np.eye(4, dtype=np.float32)[labels]
    ours = to_art(victim, input_shape=SHAPE)
    stock = PyTorchClassifier(
        victim, torch.nn.CrossEntropyLoss(), SHAPE, 4, clip_values=(0, 1), device_type="cpu"
    )
    assert isinstance(ours, PyTorchClassifier) and ours.nb_classes == 4 and ours.model is victim
    np.testing.assert_array_equal(ours.predict(x), stock.predict(x))
    np.testing.assert_allclose(ours.loss_gradient(x, y), stock.loss_gradient(x, y), rtol=1e-6)
    np.testing.assert_allclose(ours.class_gradient(x), stock.class_gradient(x), rtol=1e-6)
    gradient = ours.loss_gradient(images, torch.from_numpy(y))
    np.testing.assert_allclose(gradient.numpy(), stock.loss_gradient(x, y), rtol=1e-6)


def test_float64_is_cast() -> None:
    estimator = to_art(tiny_victim(False), input_shape=SHAPE)
    x = np.random.rand(2, *SHAPE)
    y = np.eye(4)[[0, 1]]
    for result in (
        estimator.predict(x),
        estimator.loss_gradient(x, y),
        estimator.class_gradient(x),
        estimator.compute_loss(x, y),
    ):
        assert result.dtype == np.float32


def test_parameters_reach_the_module() -> None:
    victim = tiny_victim(True)
    estimator = to_art(victim, input_shape=SHAPE, n_predict_draws=3)
    estimator.set_params(eot_samples=5, grad_mode="bptr", noise="frozen")
    model = estimator.model
    assert (model.eot, str(model.gradient), model.noise) == (5, "bptr", "frozen")
    parameters = estimator.get_params()
    assert parameters["eot_samples"] == 5 and parameters["n_predict_draws"] == 3
    assert isinstance(estimator, SNNClassifier) and victim.eot == 1


def test_predict_averages_draws() -> None:
    victim = tiny_victim(True)
    images, _ = told_by(victim, 4)

    def spread(draws: int) -> float:
        estimator = to_art(victim, input_shape=SHAPE, n_predict_draws=draws)
        calls = np.stack([estimator.predict(images.numpy()) for _ in range(12)])
        return float(calls.std(0).mean())

    assert spread(16) < spread(1) / 2


def test_shape_must_be_known() -> None:
    class Bare(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :3]

    with pytest.raises(InputError, match="input_shape"):
        to_art(Victim(Bare()))
    assert to_art(Victim(Bare()), input_shape=SHAPE).nb_classes == 3
