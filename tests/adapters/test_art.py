"""ART on a victim: the estimator, and attacks that rebuild it."""

from __future__ import annotations

import copy
import pickle
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch

from robust_snn import InputError, Victim
from robust_snn.utils.modules import device_of
from robust_snn.victim.scoring import accuracy
from victims import SHAPE, StandIn, tiny_victim, told_by, untouched

pytest.importorskip("art")
import art.attacks.evasion as evasion  # noqa: E402
from art.estimators.classification import PyTorchClassifier  # noqa: E402

from robust_snn.adapters._art_sign_opt import BatchedSignOPT  # noqa: E402
from robust_snn.adapters.art import (  # noqa: E402
    ATTACKS,
    EXCLUDED,
    SNNClassifier,
    attack,
    to_art,
)

EPS = 0.1
# Numbers that make an attack short, wherever it takes them.
SHORT: dict[str, Any] = {
    "batch_size": 16,
    "binary_search_steps": 1,
    "eps": EPS,
    "eps_step": EPS / 4,
    "init_eval": 4,
    "init_size": 4,
    "initial_const": 0.5,
    "k": 2,
    "max_doubling": 1,
    "max_eval": 10,
    "max_halving": 1,
    "max_iter": 2,
    "nb_grads": 4,
    "nb_parallel": 2,
    "nb_random_init": 1,
    "nb_restarts": 1,
    "nb_steps": 3,
    "num_random_init": 1,
    "num_trial": 2,
    "query_limit": 20,
    "use_importance": False,
    "use_resize": False,
}
OWN: dict[str, dict[str, Any]] = {
    "BrendelBethgeAttack": {"steps": 3},
    "CarliniLInfMethod": {"largest_const": 0.6, "decrease_factor": 0.5},
    "HopSkipJump": {"max_iter": 1},
    "PixelAttack": {"th": 2, "max_iter": 1},
    "SpatialTransformation": {
        "max_translation": 10,
        "num_translations": 2,
        "max_rotation": 10,
        "num_rotations": 2,
    },
    "SignOPTAttack": {"targeted": False},
    "TargetedUniversalPerturbation": {"attacker": "fgsm", "attacker_params": {"eps": EPS}},
    "ThresholdAttack": {"th": 10, "max_iter": 1},
    "UniversalPerturbation": {"attacker": "fgsm", "attacker_params": {"eps": EPS}},
    "VirtualAdversarialMethod": {"max_iter": 1},
    "Wasserstein": {"max_iter": 1, "conjugate_sinkhorn_max_iter": 5, "regularization": 30.0},
}
BOUNDED = {
    "AutoConjugateGradient",
    "AutoProjectedGradientDescent",
    "BasicIterativeMethod",
    "FastGradientMethod",
    "MomentumIterativeMethod",
    "ProjectedGradientDescent",
    "ProjectedGradientDescentNumpy",
    "ProjectedGradientDescentPyTorch",
    "RescalingAutoConjugateGradient",
    "SquareAttack",
    "UniversalPerturbation",
}
SLOW = {
    "BrendelBethgeAttack",
    "CarliniLInfMethod",
    "HopSkipJump",
    "VirtualAdversarialMethod",
}
APGD = {"eps": EPS, "eps_step": EPS / 4, "max_iter": 3, "nb_random_init": 1, "verbose": False}


@pytest.fixture(params=[False, True], ids=["deterministic", "noisy"])
def victim(request: pytest.FixtureRequest, device: torch.device) -> Victim:
    return tiny_victim(request.param)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in ATTACKS
        if name != "AutoAttack"  # below, with attacks that are short
    ],
)
def test_every_attack(victim: Victim, name: str) -> None:
    if name in ("PixelAttack", "ThresholdAttack"):
        pytest.importorskip("cma", reason="ART's pixel attacks need cma")
    images, labels = told_by(victim, 2)
    accepted = signature(getattr(evasion, name).__init__).parameters
    arguments = {k: v for k, v in SHORT.items() if k in accepted} | OWN.get(name, {})
    with untouched(victim):
        adversarial = attack(victim.replace(eot=2), name, **arguments)(images, labels)
    assert adversarial.shape == images.shape and adversarial.dtype == torch.float32
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    if name in BOUNDED:
        assert (adversarial - images).abs().max() <= EPS + 1e-6


@pytest.mark.parametrize("loss", ["cross_entropy", "difference_logits_ratio"])
def test_attacks_that_rebuild_the_estimator(victim: Victim, loss: str) -> None:
    images, labels = told_by(victim, 2)
    arguments = {**APGD, "loss_type": loss}
    made = attack(victim.replace(eot=2), "AutoProjectedGradientDescent", **arguments)(
        images, labels
    )
    assert (made - images).abs().max() <= EPS + 1e-6


def test_what_cannot_run_says_why() -> None:
    classes = {name for name, found in vars(evasion).items() if isinstance(found, type)}
    assert classes == {*ATTACKS, *EXCLUDED}
    with pytest.raises(InputError, match="DPatch cannot run here: it attacks object detectors"):
        attack(tiny_victim(False), "DPatch")
    with pytest.raises(InputError, match="did you mean 'SquareAttack'"):
        attack(tiny_victim(False), "SquareAtack")
    with pytest.raises(InputError, match="did you mean 'max_iter'"):
        attack(tiny_victim(False), "SquareAttack", max_iters=3)


@pytest.mark.parametrize(
    "kind", [evasion.FeatureAdversariesNumpy, evasion.FeatureAdversariesPyTorch]
)
def test_feature_adversaries_run_on_the_estimator(victim: Victim, kind: Any) -> None:
    estimator = to_art(victim, input_shape=SHAPE)
    images, _ = told_by(victim, 4)
    source, guide = images[:2].cpu().numpy(), images[2:].cpu().numpy()
    numpy = kind is evasion.FeatureAdversariesNumpy
    arguments: dict[str, Any] = (
        {"layer": 2} if numpy else {"layer": 2, "max_iter": 2, "step_size": 0.02, "random_start": 0}
    )
    options = {"maxiter": 1, "maxls": 1} if numpy else {}
    made = kind(estimator, delta=EPS, **arguments).generate(source, guide, **options)
    assert made.shape == source.shape and np.abs(made - source).max() <= EPS + 1e-6


def test_patches_run_on_the_estimator(victim: Victim) -> None:
    estimator = to_art(victim, input_shape=SHAPE)
    images, labels = told_by(victim, 2)
    attack_ = evasion.AdversarialPatchPyTorch(
        estimator, patch_shape=(3, 4, 4), max_iter=1, batch_size=2, verbose=False
    )
    attack_.generate(images.cpu().numpy(), np.eye(4, dtype=np.float32)[labels.cpu()])
    patched = attack_.apply_patch(images.cpu().numpy(), scale=0.5)
    assert patched.shape == images.shape and patched.min() >= 0 and patched.max() <= 1


def test_autoattack_of_art(device: torch.device) -> None:
    pytest.importorskip("multiprocess")  # ART needs it and does not install it
    if device.type not in ("cpu", "cuda"):
        pytest.skip("ART rebuilds the estimator on a CPU or GPU")
    victim = tiny_victim(False)
    images, labels = told_by(victim, 2)
    estimator = to_art(victim, input_shape=SHAPE)
    parts = [
        evasion.AutoProjectedGradientDescent(estimator, **APGD, loss_type="cross_entropy"),
        evasion.SquareAttack(estimator, eps=EPS, max_iter=4, verbose=False),
    ]
    whole = evasion.AutoAttack(estimator, eps=EPS, eps_step=EPS / 4, attacks=parts)
    adversarial = whole.generate(images.cpu().numpy(), labels.cpu().numpy())
    assert np.abs(adversarial - images.cpu().numpy()).max() <= EPS + 1e-6


def test_estimator_is_the_stock_one_where_that_is_right(device: torch.device) -> None:
    victim, place = tiny_victim(False), "gpu" if device.type == "cuda" else "cpu"
    images, labels = told_by(victim, 4)
    x, y = images.cpu().numpy(), np.eye(4, dtype=np.float32)[labels.cpu()]
    ours = to_art(victim, input_shape=SHAPE)
    stock = PyTorchClassifier(
        victim, torch.nn.CrossEntropyLoss(), SHAPE, 4, clip_values=(0, 1), device_type=place
    )
    stock._device = victim.to(device) and device  # ART knows CPUs and CUDA alone
    assert isinstance(ours, PyTorchClassifier) and ours.nb_classes == 4 and ours.model is victim
    np.testing.assert_array_equal(ours.predict(x), stock.predict(x))
    np.testing.assert_allclose(ours.loss_gradient(x, y), stock.loss_gradient(x, y), rtol=1e-6)
    np.testing.assert_allclose(ours.class_gradient(x), stock.class_gradient(x), rtol=1e-6)
    gradient = ours.loss_gradient(images, torch.from_numpy(y))
    np.testing.assert_allclose(gradient.cpu().numpy(), stock.loss_gradient(x, y), rtol=1e-6)


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
        calls = np.stack([estimator.predict(images.cpu().numpy()) for _ in range(12)])
        return float(calls.std(0).mean())

    assert spread(16) < spread(1) / 2


def test_shape_must_be_known() -> None:
    class Bare(StandIn):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :3]

    with pytest.raises(InputError, match="input_shape"):
        to_art(Victim(Bare()))
    assert to_art(Victim(Bare()), input_shape=SHAPE).nb_classes == 3


def test_the_victim_stays_where_it_is(device: torch.device) -> None:
    victim = tiny_victim(False)
    estimator = to_art(victim, input_shape=SHAPE)
    assert device_of(victim).type == estimator.device.type == device.type
    other = "cpu" if device.type == "cuda" else "gpu"
    with pytest.raises(InputError, match=rf"the victim is on {device.type}.*device_type='{other}'"):
        to_art(victim, input_shape=SHAPE, device_type=other)


def test_copies_keep_averaging_mode_and_device() -> None:
    victim = tiny_victim(True).replace(eot=3, gradient="bptr", noise="frozen")
    optimizer = torch.optim.SGD(victim.parameters(), lr=0.1)
    estimator = to_art(victim, input_shape=SHAPE, optimizer=optimizer, eot_loss=2)
    x = told_by(victim, 2)[0].cpu().numpy()
    expected = estimator.predict(x)
    for twin in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        np.testing.assert_array_equal(twin.predict(x), expected)
        assert (twin.eot_samples, twin.grad_mode, twin.noise) == (3, "bptr", "frozen")
        assert twin.device == estimator.device and twin.eot_loss == 2
    fresh = estimator.clone_for_refitting()
    assert (fresh.eot_samples, fresh.grad_mode, fresh.noise) == (3, "bptr", "frozen")
    assert fresh.eot_loss == 2 and fresh.device == estimator.device
    assert fresh.model is not victim and not np.array_equal(fresh.predict(x), expected)


def test_activations_come_batch_first() -> None:
    victim = tiny_victim(True)
    images, _ = told_by(victim, 3)
    estimator = to_art(victim.replace(noise="frozen", eot=2), input_shape=SHAPE)
    assert "stages.0" in estimator.layer_names
    hooks = [len(m._forward_hooks) for m in victim.modules()]
    mean = estimator.get_activations(images.cpu().numpy(), "stages.0", 2)
    steps = estimator.get_activations(images.cpu().numpy(), "stages.0", time_reduce="none")
    assert mean.shape[0] == 3 and steps.shape[:2] == (3, 2) and mean.shape[1:] == steps.shape[2:]
    np.testing.assert_allclose(steps.mean(1), mean, atol=1e-6)
    number = estimator.layer_names.index("stages.0")
    graph = estimator.get_activations(images.requires_grad_(), number, framework=True)
    assert torch.autograd.grad(graph.sum(), images)[0].abs().sum() > 0
    assert hooks == [len(m._forward_hooks) for m in victim.modules()]
    for layer, message in (("stages.9", "unknown layer"), (999, "below"), (None, "needs a layer")):
        with pytest.raises(InputError, match=message):
            estimator.get_activations(images.detach(), layer)


@pytest.mark.parametrize("noisy", [False, True])
def test_every_listed_layer_gives_its_activations(noisy: bool) -> None:
    victim = tiny_victim(noisy)
    images, _ = told_by(victim, 3)
    estimator = to_art(victim, input_shape=SHAPE)
    names = estimator.layer_names
    assert {"encoder", "stages.0.0.act.norm", "stages.0.0.act.neuron", "fc"} <= set(names)
    for name in names:
        assert estimator.get_activations(images.cpu().numpy(), name).shape[0] == 3, name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, x, y: e.fit(x, y), "weights are frozen"),
        (lambda e, x, y: e.fit_generator(None), "weights are frozen"),
        (lambda e, x, y: e.loss_gradient(x, y[:, None]), r"use labels.flatten\(\)"),
        (lambda e, x, y: e.compute_loss(x, y[:, None]), r"use labels.flatten\(\)"),
        (lambda e, x, y: e.loss_gradient(x, y + 4), r"labels must lie in 0\.\.3"),
        (lambda e, x, y: e.loss_gradient(x, y[:2]), "3 images need labels"),
    ],
)
def test_what_the_estimator_refuses(call: Any, message: str) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 3)
    with pytest.raises(InputError, match=message):
        call(to_art(victim, input_shape=SHAPE), images.cpu().numpy(), labels.cpu().numpy())


def test_labels_may_be_indices_or_rows() -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 3)
    x, y, estimator = images.cpu().numpy(), labels.cpu().numpy(), to_art(victim, input_shape=SHAPE)
    rows = np.eye(4, dtype=np.float32)[y]
    for method in (estimator.loss_gradient, estimator.compute_loss):
        np.testing.assert_array_equal(method(x, y), method(x, rows))
        np.testing.assert_array_equal(method(x, y.astype(np.uint8)), method(x, rows))


def test_probabilities_are_a_second_view() -> None:
    victim = tiny_victim(False)
    x = told_by(victim, 3)[0].cpu().numpy()
    estimator = to_art(victim, input_shape=SHAPE)
    twin = estimator.as_probabilities()
    np.testing.assert_allclose(twin.predict(x).sum(1), 1, rtol=1e-5)
    assert estimator.model is victim and abs(estimator.predict(x).sum(1) - 1).max() > 1e-3


def test_gradients_of_the_loss_are_averaged() -> None:
    victim = tiny_victim(True)
    images, labels = told_by(victim, 4)
    y = np.eye(4, dtype=np.float32)[labels.cpu()]

    def spread(draws: int) -> float:
        estimator = to_art(victim, input_shape=SHAPE, eot_loss=draws)
        calls = np.stack([estimator.loss_gradient(images.cpu().numpy(), y) for _ in range(8)])
        return float(calls.std(0).mean())

    assert spread(16) < spread(1) / 2


def test_null_attack_is_exposed() -> None:
    victim = tiny_victim(True)
    images, labels = told_by(victim, 32)
    arguments = {"eps": 1e-6, "eps_step": 1e-6, "max_iter": 2}
    made = attack(victim, "ProjectedGradientDescent", **arguments)(images, labels)
    clean = accuracy(victim, images, labels, draws=40)
    assert abs(accuracy(victim, made, labels, draws=40) - clean) < 0.05


def test_no_start_leaves_the_image() -> None:
    victim = tiny_victim(False)
    with torch.no_grad():
        victim.net.fc.weight.zero_()  # one class for every image
    images, labels = told_by(victim, 2)
    craft = attack(victim, "BrendelBethgeAttack", init_size=1, steps=1)
    with pytest.warns(UserWarning, match="raise init_size"):
        assert torch.equal(craft(images, labels), images)


@pytest.mark.parametrize("name", ["BoundaryAttack", "HopSkipJump"])
def test_seed_fixes_the_start(name: str) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 1)
    accepted = signature(getattr(evasion, name).__init__).parameters
    arguments = {k: v for k, v in SHORT.items() if k in accepted} | {"max_iter": 1}
    first, again, other = (
        attack(victim, name, seed=seed, **arguments)(images, labels) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_sign_opt_asks_about_directions_together(victim: Victim) -> None:
    images, _ = told_by(victim, 1)
    x = images[0].cpu().numpy()
    estimator = to_art(victim.replace(noise="frozen"), input_shape=SHAPE)
    label = int(estimator.predict(x[None]).argmax())
    gradients = []
    for kind in (BatchedSignOPT, evasion.SignOPTAttack):
        np.random.seed(0)
        theta = np.random.randn(*SHAPE).astype(np.float32)
        gradient, queries = kind(estimator, targeted=False, k=40)._sign_grad(
            x, label, 0.3, theta / np.linalg.norm(theta), 1.5, None
        )
        assert queries == 40
        gradients.append(gradient)
    np.testing.assert_allclose(*gradients, atol=1e-6)
