"""`AutoAttack` for scripts that are written for github.com/fra31/auto-attack."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import pyautoattack
import torch
from torch import Tensor, nn

from robust_snn.adapters._autoattack_engine import VERSIONS, AttackSettings, logging_to
from robust_snn.adapters._autoattack_run import AUTOATTACK_NORMS, AutoAttackResult, run_attacks
from robust_snn.foreign import adapt
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import device_of, undisturbed


class AutoAttack(pyautoattack.AutoAttack):
    """Stands in for `autoattack.AutoAttack` of github.com/fra31/auto-attack in existing scripts.

    The constructor, `run_standard_evaluation` and its individual form are those of that class, and
    numbers set on `apgd`, `apgd_targeted`, `fab` and `square` count. Any number of classes works,
    runs resume from `state_path`, and the caller's process stays as it was. For a noisy victim the
    images of highest loss come back, not those that one call happened to misclassify.

    Args:
        model: A victim, or a net that becomes one.
        norm: `"Linf"`, `"L2"` or `"L1"`.
        eps: Radius of the norm ball.
        seed: Seed of every attack; 0 if left out.
        verbose: Let the library's log through, on the logger `auto-attack`.
        attacks_to_run: Attacks of `version="custom"`.
        version: `"standard"`, `"plus"`, `"rand"` or `"custom"`; also `"auto"`, see `autoattack`.
        is_tf_model: Only False.
        device: Ignored: attacks run where the victim is.
        log_path: A file that the log is appended to.

    Raises:
        InputError: If an argument is not known.
    """

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 0.3,
        seed: int | None = None,
        verbose: bool = True,
        attacks_to_run: Iterable[str] = (),
        version: str = "standard",
        is_tf_model: bool = False,
        device: str | torch.device = "cuda",
        log_path: str | Path | None = None,
    ) -> None:
        if is_tf_model:
            raise InputError("is_tf_model=True is not supported: a victim is a PyTorch module")
        if norm not in AUTOATTACK_NORMS:
            raise unknown("norm", norm, AUTOATTACK_NORMS)
        if version not in ("auto", "custom", *VERSIONS):
            raise unknown("AutoAttack version", version, ("auto", "custom", *VERSIONS))
        with undisturbed(model):
            self.victim = adapt(model)
        released = version if version in VERSIONS else "standard"
        super().__init__(
            self.victim,
            eps=eps,
            norm=norm,
            seed=0 if seed is None else seed,
            version=released,
            device=device_of(self.victim),
        )
        self.version, self.verbose, self.log_path = version, verbose, log_path
        if version == "custom":
            self.attacks_to_run = list(attacks_to_run)

    def run_standard_evaluation(
        self,
        x_orig: Tensor,
        y_orig: Tensor,
        bs: int = 250,
        return_labels: bool = False,
        state_path: str | Path | None = None,
    ) -> Any:
        """Returns adversarial images `[N, C, H, W]`, and their predicted labels if asked."""
        return self._returned(self._run(x_orig, y_orig, bs, None, state_path), return_labels)

    def run_standard_evaluation_individual(
        self, x_orig: Tensor, y_orig: Tensor, bs: int = 250, return_labels: bool = False
    ) -> dict[str, Any]:
        """Runs each attack on all images; returns what `run_standard_evaluation` does, by name."""
        return {
            name: self._returned(self._run(x_orig, y_orig, bs, [name], None), return_labels)
            for name in self.attacks_to_run
        }

    def set_version(self, version: str = "standard") -> None:
        """Takes the numbers of a released version."""
        self._set_version(version)
        self.version = version

    def _run(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        attacks: list[str] | None,
        state_path: str | Path | None,
    ) -> AutoAttackResult:
        if attacks is None and self.version == "custom":
            attacks = self.attacks_to_run
        settings = AttackSettings(
            eps=self.epsilon,
            norm=self.norm,
            version="standard" if self.version == "custom" else self.version,
            batch_size=batch_size,
            seed=self.seed,
            like=self,
        )
        with logging_to(self.log_path):
            return run_attacks(
                self.victim,
                images,
                labels,
                settings,
                attacks,
                verbose=self.verbose,
                resume=state_path,
            )

    def _returned(self, result: AutoAttackResult, return_labels: bool) -> Any:
        images = result.strongest
        if not return_labels:
            return images
        device = device_of(self.victim)
        with undisturbed(self.victim), torch.no_grad():
            predicted = [self.victim(x.to(device)).argmax(1) for x in images.split(250)]
        return images, torch.cat(predicted).to(images.device)


def shim() -> None:
    """Lets `import autoattack` find `AutoAttack` where fra31's package is not installed.

    RobustBench's own code imports that name. Opt-in: nothing here calls it.
    """
    try:
        import autoattack  # noqa: F401
    except ImportError:
        sys.modules["autoattack"] = import_module("robust_snn.adapters.autoattack")
