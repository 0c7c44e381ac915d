"""ART: `to_art(victim)` gives a `PyTorchClassifier` that every evasion attack of ART may rebuild.

Several attacks (AutoPGD with a named loss, conjugate gradients, ART's AutoAttack) make a plain
`PyTorchClassifier` of `estimator.model` and drop the estimator. So whatever makes the victim the
victim (averaging, gradient mode, noise policy) stays inside the module, and the estimator below
only fixes what the stock class does to numbers: float64 inputs, and gradients of weights that
nobody asked for.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from robust_snn.adapters._caller import count_classes, device_of
from robust_snn.errors import InputError, missing_extra
from robust_snn.victim import Victim

try:
    from art.estimators.classification import PyTorchClassifier
except ImportError as error:
    raise missing_extra("adversarial-robustness-toolbox", "art") from error

Array = Any  # ART takes and returns `numpy.ndarray` or `torch.Tensor`, the same kind


class SNNClassifier(PyTorchClassifier):
    """A victim as ART sees it: `model` is the whole `Victim`, with its averaging and its noise.

    Attributes:
        eot_samples: Draws whose logits the victim averages.
        grad_mode: The victim's gradient mode, as text.
        noise: The victim's noise policy.
        n_predict_draws: Calls that `predict` averages.
    """

    estimator_params: ClassVar[list[str]] = [
        *PyTorchClassifier.estimator_params,
        "eot_samples",
        "grad_mode",
        "noise",
        "n_predict_draws",
    ]

    def __init__(self, *args: Any, n_predict_draws: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.n_predict_draws = n_predict_draws

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
        self._review(gradient=value)

    @property
    def noise(self) -> str:
        return self.model.noise

    @noise.setter
    def noise(self, value: str) -> None:
        self._review(noise=value)

    def _review(self, **overrides: Any) -> None:
        """Puts another view of the victim in place."""
        self._model = self._make_model_wrapper(self.model.with_(**overrides))

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
        loss = self._loss(self._model(prepared)[-1], self.reduce_labels(targets))
        (gradient,) = torch.autograd.grad(loss, inputs)
        return gradient if isinstance(x, torch.Tensor) else gradient.cpu().numpy()

    def class_gradient(self, x: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        """Gradients of logits with respect to `x`."""
        return super().class_gradient(_float32(x), *args, **kwargs)

    def compute_loss(self, x: Array, *args: Any, **kwargs: Any) -> Array:
        """The loss, per image by default."""
        return super().compute_loss(_float32(x), *args, **kwargs)

    def get_activations(self, x: Array, *args: Any, **kwargs: Any) -> Array:
        """Output of a layer of the victim."""
        return super().get_activations(_float32(x), *args, **kwargs)


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
