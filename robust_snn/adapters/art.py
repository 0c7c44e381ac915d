"""ART: `to_art(victim)` gives a `PyTorchClassifier` that every evasion attack of ART may rebuild.

Several attacks (AutoPGD with a named loss, conjugate gradients, ART's AutoAttack) make a plain
`PyTorchClassifier` of `estimator.model` and drop the estimator. So whatever makes the victim the
victim (averaging, gradient mode, noise policy) stays inside the module, and the estimator below
only fixes what the stock class does to numbers: float64 inputs, and gradients of weights that
nobody asked for, one place where EOT averages losses, and activations batch first.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn.adapters._caller import Craft, seeded, view_for
from robust_snn.utils.errors import InputError, missing_extra, unknown
from robust_snn.utils.modules import device_of
from robust_snn.victim import Victim
from robust_snn.victim_scoring import count_classes

try:
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier
except ImportError as error:
    raise missing_extra("adversarial-robustness-toolbox", "art") from error

TENSORFLOW = "it attacks TensorFlow models"
SPEECH = "it attacks speech recognition"
DETECTION = "it attacks object detectors"
PATCH = "it makes a patch, which to_art(victim) and ART's apply_patch put on images"
GUIDED = "it wants more than images and labels; run it on to_art(victim)"
EXCLUDED = {
    "AdversarialPatch": PATCH,
    "AdversarialPatchNumpy": PATCH,
    "AdversarialPatchPyTorch": PATCH,
    "AdversarialPatchTensorFlowV2": TENSORFLOW,
    "AdversarialTexturePyTorch": "it attacks object trackers",
    "CarliniWagnerASR": SPEECH,
    "CompositeAdversarialAttackPyTorch": "it needs kornia; run it on to_art(victim)",
    "DPatch": DETECTION,
    "DecisionTreeAttack": "it attacks decision trees",
    "FeatureAdversariesNumpy": GUIDED,
    "FeatureAdversariesPyTorch": GUIDED,
    "FeatureAdversariesTensorFlowV2": TENSORFLOW,
    "FrameSaliencyAttack": "it attacks sequences of frames, through another attack",
    "GRAPHITEBlackbox": GUIDED,
    "GeoDA": "it calls numpy.mat, which NumPy 2 removed",
    "GRAPHITEWhiteboxPyTorch": GUIDED,
    "HighConfidenceLowUncertainty": "it attacks Gaussian processes",
    "ImperceptibleASR": SPEECH,
    "ImperceptibleASRPyTorch": SPEECH,
    "LaserAttack": "it draws on images whose channels come last",
    "LowProFool": "it attacks tables of features",
    "MalwareGDTensorFlow": TENSORFLOW,
    "OverTheAirFlickeringPyTorch": "it attacks classifiers of videos",
    "OverloadPyTorch": DETECTION,
    "ProjectedGradientDescentTensorFlowV2": TENSORFLOW,
    "RobustDPatch": DETECTION,
    "SNAL": DETECTION,
}
ATTACKS = tuple(
    name
    for name, found in sorted(vars(evasion).items())
    if isinstance(found, type) and name not in EXCLUDED
)
# They fail on batches; BrendelBethgeAttack on all images where one has no start.
ONE_BY_ONE = ("BrendelBethgeAttack", "ShadowAttack", "SimBA", "ZooAttack")
ON_PROBABILITIES = ("SimBA", "VirtualAdversarialMethod")
# Attacks that follow gradients; all others compare calls of the victim with each other.
GRADIENTS = (
    "AutoConjugateGradient",
    "AutoProjectedGradientDescent",
    "BasicIterativeMethod",
    "FastGradientMethod",
    "MomentumIterativeMethod",
    "ProjectedGradientDescent",
    "ProjectedGradientDescentNumpy",
    "ProjectedGradientDescentPyTorch",
    "RescalingAutoConjugateGradient",
    "ShadowAttack",
    "VirtualAdversarialMethod",
    "Wasserstein",
)
TIME_REDUCTIONS = ("mean", "none")
Array = Any  # ART takes and returns `numpy.ndarray` or `torch.Tensor`, the same kind


class SNNClassifier(PyTorchClassifier):
    """A victim as ART sees it: `model` is the whole `Victim`, with its averaging and its noise.

    Attributes:
        eot_samples: Draws whose logits the victim averages.
        grad_mode: The victim's gradient mode, as text.
        noise: The victim's noise policy.
        n_predict_draws: Calls that `predict` averages.
        eot_loss: Calls over which `loss_gradient` averages the gradient of the loss. Attacks that
            rebuild the estimator see the victim's own `eot` alone.
    """

    estimator_params: ClassVar[list[str]] = [
        *PyTorchClassifier.estimator_params,
        "eot_samples",
        "grad_mode",
        "noise",
        "n_predict_draws",
        "eot_loss",
    ]

    def __init__(
        self, *args: Any, n_predict_draws: int = 1, eot_loss: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.n_predict_draws = n_predict_draws
        self.eot_loss = eot_loss

    @property
    def eot_samples(self) -> int:
        return self.model.eot

    @eot_samples.setter
    def eot_samples(self, value: int) -> None:
        self._review(eot=value)

    @property
    def grad_mode(self) -> str:
        return str(self.model.gradient)

    @grad_mode.setter
    def grad_mode(self, value: str) -> None:
        if value != self.grad_mode:
            self._review(gradient=value)

    @property
    def noise(self) -> str:
        return self.model.noise

    @noise.setter
    def noise(self, value: str) -> None:
        self._review(noise=value)

    def _review(self, **overrides: Any) -> None:
        """Puts another view of the victim in place."""
        self._model = self._make_model_wrapper(self.model.replace(**overrides))

    def predict(
        self, x: np.ndarray, batch_size: int = 128, training_mode: bool = False, **kwargs: Any
    ) -> np.ndarray:
        """Logits `[N, K]`, averaged over `n_predict_draws` calls."""
        x = _float32(x)
        calls = (
            super(SNNClassifier, self).predict(x, batch_size, training_mode, **kwargs)
            for _ in range(self.n_predict_draws)
        )
        return np.mean(list(calls), axis=0)

    def loss_gradient(
        self, x: Array, y: Array, training_mode: bool = False, **kwargs: Any
    ) -> Array:
        """Gradient of the loss with respect to `x`, and of nothing else."""
        if not self.all_framework_preprocessing:
            return super().loss_gradient(_float32(x), y, training_mode, **kwargs)
        self._model.train(training_mode)
        inputs = torch.as_tensor(_float32(x), device=self.device).detach().clone().requires_grad_()
        targets = torch.as_tensor(y, device=self.device)
        prepared, targets = self._apply_preprocessing(inputs, targets, fit=False, no_grad=False)
        targets, gradient = self.reduce_labels(targets), torch.zeros_like(inputs)
        for _ in range(self.eot_loss):
            loss = self._loss(self._model(prepared)[-1], targets)
            (drawn,) = torch.autograd.grad(loss, inputs, retain_graph=self.eot_loss > 1)
            gradient += drawn / self.eot_loss
        return gradient if isinstance(x, torch.Tensor) else gradient.cpu().numpy()

    def class_gradient(self, x: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        """Gradients of logits with respect to `x`."""
        return super().class_gradient(_float32(x), *args, **kwargs)

    def compute_loss(self, x: Array, *args: Any, **kwargs: Any) -> Array:
        """The loss, per image by default."""
        return super().compute_loss(_float32(x), *args, **kwargs)

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers that `get_activations` knows: all modules of the net."""
        return [name for name, _ in self.model.net.named_modules() if name]

    def get_activations(
        self,
        x: Array,
        layer: int | str | None = None,
        batch_size: int = 128,
        framework: bool = False,
        time_reduce: str = "mean",
    ) -> Array:
        """Output of a layer, batch first, averaged over the victim's draws.

        Args:
            x: Images `[N, C, H, W]`.
            layer: Path of a module of the net, such as `"stages.0"`, or its number in
                `layer_names`.
            batch_size: Images per call.
            framework: Whether a tensor comes back, with its graph.
            time_reduce: `"mean"` over time steps, or `"none"` for `[N, T, ...]`.

        Raises:
            InputError: If the layer or the reduction is not known.
        """
        if time_reduce not in TIME_REDUCTIONS:
            raise unknown("time_reduce", time_reduce, TIME_REDUCTIONS)
        if layer is None:
            raise InputError("get_activations needs a layer; layer_names lists them")
        if isinstance(layer, int) and not -len(self.layer_names) <= layer < len(self.layer_names):
            raise InputError(f"layer must be below {len(self.layer_names)}, got {layer}")
        path = self.layer_names[layer] if isinstance(layer, int) else layer
        if path not in self.layer_names:
            raise unknown("layer", path, self.layer_names)
        self._model.eval()
        images = torch.as_tensor(_float32(x), device=self.device)
        with torch.set_grad_enabled(framework):
            found = torch.cat(
                [self._activations(path, part, time_reduce) for part in images.split(batch_size)]
            )
        return found if framework else found.cpu().numpy()

    def _activations(self, path: str, x: Tensor, time_reduce: str) -> Tensor:
        view, seen = self.model.replace(eot=1), list[Tensor]()
        hook = self.model.net.get_submodule(path).register_forward_hook(
            lambda module, inputs, out: seen.append(out[0] if isinstance(out, tuple) else out)
        )
        try:
            for call in range(self.model.eot if view.stochastic else 1):
                view.calls = call
                view(x)
        finally:
            hook.remove()
        draws = [_batch_first(out, len(x), time_reduce) for out in seen]
        return torch.stack(draws).mean(0)

    def as_probabilities(self) -> SNNClassifier:
        """The same victim with probabilities for outputs, as SimBA and VAT want it."""
        twin = copy.copy(self)
        twin._review(output="probabilities")
        return twin

    def clone_for_refitting(self) -> SNNClassifier:
        """A copy with fresh weights, on the same device, with the same view of the victim."""
        clone: SNNClassifier = super().clone_for_refitting()
        clone._device = self.device
        clone._model.to(self.device)
        return clone

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_model", "_model_wrapper"):
            del state[name]
        on_cpu = self._device.type == "cpu"
        state["inner_model"] = self.model if on_cpu else copy.deepcopy(self.model).cpu()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._model = self._make_model_wrapper(self.__dict__.pop("inner_model"))
        device: torch.device = state["_device"]
        lost = device.type == "cuda" and not torch.cuda.is_available()
        self._device = torch.device("cpu") if lost else device
        self._model.to(self._device)


def to_art(
    victim: Victim,
    *,
    input_shape: tuple[int, int, int] | None = None,
    loss: nn.Module | None = None,
    **kwargs: Any,
) -> SNNClassifier:
    """Wraps a victim for ART, on the device where it is.

    Args:
        victim: What to attack.
        input_shape: `(C, H, W)` of one image; read from the net's `pretrained_cfg` if left out.
        loss: Loss on logits and integer labels; cross-entropy by default.
        **kwargs: More arguments of `SNNClassifier` and `PyTorchClassifier`.

    Raises:
        InputError: If the shape of an image is not known.
    """
    shape = input_shape or getattr(victim.net, "pretrained_cfg", {}).get("input_size")
    if shape is None:
        raise InputError("to_art needs input_shape=(C, H, W): the net does not say what it takes")
    device = device_of(victim)
    settings: dict[str, Any] = {
        "nb_classes": count_classes(victim, torch.zeros(1, *shape, device=device)),
        "clip_values": (0.0, 1.0),
        "device_type": "gpu" if device.type == "cuda" else "cpu",
    }
    return SNNClassifier(victim, loss or nn.CrossEntropyLoss(), shape, **(settings | kwargs))


def _float32(x: Array) -> Array:
    """BoundaryAttack and others pass float64, which the stock class hands to the net."""
    return x.float() if isinstance(x, torch.Tensor) else np.asarray(x, dtype=np.float32)


def _batch_first(out: Tensor, batch: int, time_reduce: str) -> Tensor:
    """Turns `[T, B, ...]` or `[T * B, ...]` into `[B, ...]` or `[B, T, ...]`."""
    if out.dim() in (2, 4) and len(out) == batch:
        return out
    if out.dim() in (2, 4):
        out = out.unflatten(0, (-1, batch))
    return out.mean(0) if time_reduce == "mean" else out.transpose(0, 1)


def attack(
    victim: Victim,
    name: str,
    *,
    seed: int = 0,
    noise: str | None = None,
    loss: nn.Module | None = None,
    **arguments: Any,
) -> Craft:
    """Makes an evasion attack of ART that leaves victim, mode and global generators as they were.

    Args:
        victim: What to attack; its `eot` is what the attack sees.
        name: Name of a class of `art.attacks.evasion`, such as `"SquareAttack"`.
        seed: Seed of the attack. Call `i` of the result has random numbers of its own.
        noise: Noise policy. By default the victim's, and `"frozen"` in place of `"fresh"` for
            attacks that compare calls with each other.
        loss: Loss on logits and integer labels; cross-entropy by default.
        **arguments: Arguments of the class.

    Returns:
        A function of images `[N, C, H, W]` in [0, 1] and labels `[N]` that returns adversarial
        images.

    Raises:
        InputError: If the attack or an argument is not known, or the attack is one of `EXCLUDED`.
    """
    if name in EXCLUDED:
        raise InputError(f"ART's {name} cannot run here: {EXCLUDED[name]}")
    if name not in ATTACKS:
        raise unknown("ART attack", name, ATTACKS)
    kind = getattr(evasion, name)
    accepted = list(signature(kind.__init__).parameters)
    for argument in arguments:
        if argument not in accepted:
            raise unknown(f"argument of {name}", argument, accepted)
    if name in ONE_BY_ONE:
        arguments["batch_size"] = 1
    if "verbose" in accepted:
        arguments.setdefault("verbose", False)
    view = view_for(victim, noise, name not in GRADIENTS)

    def craft(images: Tensor, labels: Tensor, stream: int) -> Tensor:
        shape = (images.shape[1], images.shape[2], images.shape[3])
        estimator = to_art(view, input_shape=shape, loss=loss)
        if name in ON_PROBABILITIES:
            estimator = estimator.as_probabilities()
        x, y = images.cpu().numpy(), np.eye(estimator.nb_classes, dtype=np.float32)[labels.cpu()]
        size = 1 if name in ONE_BY_ONE else len(x)
        made_by = kind(estimator, **arguments)
        with _seeded_states():
            made = [
                _generate(made_by, x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)
            ]
        return torch.as_tensor(np.concatenate(made).astype(np.float32), device=images.device)

    return seeded(victim, seed, craft)


def _generate(attack_: evasion.EvasionAttack, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The attack's images; `x` where BrendelBethgeAttack finds no start, as its siblings do."""
    try:
        return attack_.generate(x, y)
    except AssertionError:
        if not isinstance(attack_, evasion.BrendelBethgeAttack):
            raise
        message = "BrendelBethgeAttack drew no random image that is adversarial: raise init_size"
        warnings.warn(message, stacklevel=2)
        return x


@contextmanager
def _seeded_states() -> Iterator[None]:
    """Seeds `RandomState()`, from which boundary attacks draw starts, by NumPy's generator."""

    class Seeded(np.random.RandomState):
        def __init__(self, seed: Any = None) -> None:
            super().__init__(np.random.randint(2**31) if seed is None else seed)

    with mock.patch.object(np.random, "RandomState", Seeded):
        yield
