"""The victim as ART sees it: a `PyTorchClassifier` that keeps numbers as they are.

The estimator fixes what the stock class does to numbers: float64 inputs, and gradients of weights
that nobody asked for, one place where EOT averages losses, and activations batch first.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any, ClassVar

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from robust_snn.data.checks import check_labels
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import device_of

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
        outside: How far out of the range of pixels images may lie, as a share of it; images of
            another range are refused. Attacks step out a little, ShadowAttack far.
    """

    outside = 0.25

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
        device = device_of(kwargs["model"] if "model" in kwargs else args[0])
        super().__init__(*args, **kwargs)
        self._device = device
        self._model.to(device)  # ART has moved it to the CPU or to the current GPU
        self.n_predict_draws = n_predict_draws
        self.eot_loss = eot_loss
        self._heard: list[str] | None = None

    @property
    def eot_samples(self) -> int:
        return self.model.eot

    @eot_samples.setter
    def eot_samples(self, value: int) -> None:
        self._replace_victim(eot=value)

    @property
    def grad_mode(self) -> str:
        return str(self.model.gradient)

    @grad_mode.setter
    def grad_mode(self, value: str) -> None:
        if value != self.grad_mode:
            self._replace_victim(gradient=value)

    @property
    def noise(self) -> str:
        return self.model.noise

    @noise.setter
    def noise(self, value: str) -> None:
        self._replace_victim(noise=value)

    def _replace_victim(self, **changes: Any) -> None:
        """Puts a victim with other settings in place."""
        self._model = self._make_model_wrapper(self.model.replace(**changes))

    def predict(
        self, x: np.ndarray, batch_size: int = 128, training_mode: bool = False, **kwargs: Any
    ) -> np.ndarray:
        """Logits `[N, K]`, averaged over `n_predict_draws` calls."""
        x = self._float32(x)
        calls = (
            super(SNNClassifier, self).predict(x, batch_size, training_mode, **kwargs)
            for _ in range(self.n_predict_draws)
        )
        return np.mean(list(calls), axis=0)

    def loss_gradient(
        self, x: Array, y: Array, training_mode: bool = False, **kwargs: Any
    ) -> Array:
        """Gradient of the loss with respect to `x`, and of nothing else.

        Args:
            x: Images `[N, C, H, W]`.
            y: Labels `[N]`, or one row per image `[N, K]`.
            training_mode: Whether layers such as dropout run as in training.
            **kwargs: Ignored, as ART does.

        Raises:
            InputError: If the labels are neither.
        """
        y = self._rows(y, len(x))
        if not self.all_framework_preprocessing:
            return super().loss_gradient(self._float32(x), y, training_mode, **kwargs)
        self._model.train(training_mode)
        inputs = (
            torch.as_tensor(self._float32(x), device=self.device).detach().clone().requires_grad_()
        )
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
        return super().class_gradient(self._float32(x), *args, **kwargs)

    def compute_loss(self, x: Array, y: Array, *args: Any, **kwargs: Any) -> Array:
        """The loss, per image by default; labels as in `loss_gradient`."""
        return super().compute_loss(self._float32(x), self._rows(y, len(x)), *args, **kwargs)

    def _float32(self, x: Array) -> Array:
        """Images as float32: BoundaryAttack and others pass float64, which the net would get.

        Raises:
            InputError: If they are bytes, or far outside of the range of pixels.
        """
        pixels = torch.as_tensor(x)
        if not pixels.is_floating_point():
            raise InputError(
                f"pixels must be floats in [0, 1], got {pixels.dtype}; divide bytes by 255"
            )
        if self.clip_values is not None and pixels.numel():
            low, high = (float(np.ravel(bound)[0]) for bound in self.clip_values)
            least, most = (bound.item() for bound in pixels.detach().aminmax())
            margin = self.outside * (high - low)
            if least < low - margin or most > high + margin:
                raise InputError(
                    f"pixels must lie in [{low:g}, {high:g}], got {least:.6g} to {most:.6g}; "
                    "divide bytes by 255, leave normalisation to the model, and set the "
                    "estimator's outside for attacks that step farther out"
                )
        return x.float() if isinstance(x, torch.Tensor) else np.asarray(x, dtype=np.float32)

    def _rows(self, y: Array, count: int) -> Array:
        """Labels as one row per image, `[N, K]`."""
        rows, classes = torch.as_tensor(y), self.nb_classes
        if rows.shape == (count, classes):
            return y
        check_labels(rows, count, classes)
        rows = torch.nn.functional.one_hot(rows.long(), classes).float()
        return rows if isinstance(y, torch.Tensor) else rows.numpy()

    def fit(self, *args: Any, **kwargs: Any) -> None:
        """Refuses: the weights of a victim are frozen.

        Raises:
            InputError: Always.
        """
        raise InputError(
            "a Victim is attacked and not trained, its weights are frozen: train the network, by "
            "robust-snn train or in a PyTorchClassifier(victim.net, ...) of ART"
        )

    fit_generator = fit

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers that `get_activations` knows: all that give a tensor in a pass."""
        if self._heard is None:
            black = torch.zeros(1, *self.input_shape, device=self.device)
            with torch.no_grad():
                self._heard = list(self._outputs(black, dict(self.model.net.named_modules()), 0))
        return self._heard

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
        images = torch.as_tensor(self._float32(x), device=self.device)
        with torch.set_grad_enabled(framework):
            activations = torch.cat(
                [self._activations(path, part, time_reduce) for part in images.split(batch_size)]
            )
        return activations if framework else activations.cpu().numpy()

    def _activations(self, path: str, x: Tensor, time_reduce: str) -> Tensor:
        layer = {path: self.model.net.get_submodule(path)}
        draws = self.model.eot if self.model.stochastic else 1
        outputs = [self._outputs(x, layer, draw)[path] for draw in range(draws)]
        return torch.stack([_batch_first(out, len(x), time_reduce) for out in outputs]).mean(0)

    def _outputs(self, x: Tensor, layers: dict[str, nn.Module], call: int) -> dict[str, Tensor]:
        """What layers give in a pass of one draw: tensors, the last of a layer that runs often."""
        found: dict[str, Tensor] = {}

        def hear(name: str, out: Any) -> None:
            out = out[0] if isinstance(out, tuple) else out
            if name and isinstance(out, Tensor) and out.dim() > 1:
                found[name] = out

        single = self.model.replace(eot=1, graph=False)
        single.calls = call
        with ExitStack() as stack:
            for name, layer in layers.items():
                hook = layer.register_forward_hook(
                    lambda _, inputs, out, name=name: hear(name, out)
                )
                stack.callback(hook.remove)
            single(x)
        return found

    def as_probabilities(self) -> SNNClassifier:
        """The same victim with probabilities for outputs, as SimBA and VAT want it."""
        other = copy.copy(self)
        other._replace_victim(output="probabilities")
        return other

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


def _batch_first(out: Tensor, batch: int, time_reduce: str) -> Tensor:
    """Turns `[T, B, ...]` or `[T * B, ...]` into `[B, ...]` or `[B, T, ...]`."""
    timed = out.dim() in (3, 5) and out.shape[1] == batch
    if len(out) == batch and not timed:
        return out
    if not timed:
        out = out.unflatten(0, (-1, batch))
    return out.mean(0) if time_reduce == "mean" else out.transpose(0, 1)
