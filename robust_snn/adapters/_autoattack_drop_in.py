"""`AutoAttack` for scripts that are written for github.com/fra31/auto-attack."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pyautoattack
import torch
from torch import Tensor, nn

from robust_snn.adapters._autoattack_engine import VERSIONS, AttackSettings, logging_to
from robust_snn.adapters._autoattack_run import (
    AUTOATTACK_NORMS,
    LEAST_CLASSES,
    AutoAttackResult,
    run_attacks,
)
from robust_snn.adapters._autoattack_state import check_state, images_beside, note
from robust_snn.attacks.threat_radius import checked_radius
from robust_snn.foreign import adapt, as_network
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import device_of, undisturbed

_log = logging.getLogger("robust_snn")


class AutoAttack(pyautoattack.AutoAttack):
    """Stands in for `autoattack.AutoAttack` of github.com/fra31/auto-attack in existing scripts.

    The constructor, `run_standard_evaluation` and its individual form are those of that class, and
    what is set afterwards counts: `attacks_to_run`, the seed, and every number of `apgd`,
    `apgd_targeted`, `fab` and `square`. The same seed gives the same images. Beyond it, any number
    of classes works, the caller's process stays as it was, and a run resumes from `state_path` with
    the images that were found before. For a noisy victim the images of highest loss come back, not
    those that one call happened to misclassify.

    Args:
        model: A victim, a network that becomes one, or a function of images.
        norm: `"Linf"`, `"L2"` or `"L1"`.
        eps: Radius of the norm ball.
        seed: Seed of every attack; 0 if left out.
        verbose: Show the log, which is that of the logger `auto-attack`.
        attacks_to_run: Attacks of `version="custom"`.
        version: `"standard"`, `"plus"` or `"rand"`; `"custom"`, with the original's own numbers; or
            `"auto"`, see `autoattack`.
        is_tf_model: Only False.
        device: Ignored: attacks run where the victim is.
        log_path: A file that the log is appended to.

    Raises:
        InputError: If an argument is not known, or attacks are named and the version names others.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], Tensor],
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
        attacks = list(attacks_to_run)
        if is_tf_model:
            raise InputError("is_tf_model=True is not supported: a victim is a PyTorch module")
        if norm not in AUTOATTACK_NORMS:
            raise unknown("norm", norm, AUTOATTACK_NORMS)
        eps = checked_radius(eps, norm)
        _check_version(version)
        if attacks and version != "custom":
            raise InputError(
                f"version='{version}' names its own attacks; give attacks_to_run={attacks} with "
                "version='custom', or set it afterwards"
            )
        net = as_network(model)
        with undisturbed(net):
            self.victim = adapt(net)
        super().__init__(
            self.victim,
            eps=eps,
            norm=norm,
            seed=0 if seed is None else seed,
            version="custom",
            attacks=attacks,
            device=device_of(self.victim),
        )
        self.verbose, self.log_path = verbose, log_path
        self.set_version(version)

    def run_standard_evaluation(
        self,
        x_orig: Tensor,
        y_orig: Tensor,
        bs: int = 250,
        return_labels: bool = False,
        state_path: str | Path | None = None,
    ) -> Any:
        """Returns adversarial images `[N, C, H, W]`, and their predicted labels if asked.

        Args:
            x_orig: `[N, C, H, W]` in [0, 1].
            y_orig: `[N]`.
            bs: Images attacked together.
            return_labels: Whether to return labels too.
            state_path: Where the run is noted as `EvaluationState`, with its images beside it. The
                same call resumes from there, to the result of an uninterrupted one.

        Raises:
            InputError: If there is no attack to run, one of them is not known or not possible, or
                the state is that of another run.
        """
        path = None if state_path is None else Path(state_path)
        return self._returned(self._run(x_orig, y_orig, bs, None, path), x_orig, return_labels)

    def run_standard_evaluation_individual(
        self, x_orig: Tensor, y_orig: Tensor, bs: int = 250, return_labels: bool = False
    ) -> dict[str, Any]:
        """Runs each attack on all images; returns what `run_standard_evaluation` does, by name."""
        return {
            name: self._returned(self._run(x_orig, y_orig, bs, [name], None), x_orig, return_labels)
            for name in self.attacks_to_run
        }

    def set_version(self, version: str = "standard") -> None:
        """Takes the attacks and the numbers of a released version; `"custom"` changes nothing."""
        _check_version(version)
        self.version = version
        if version != "custom":
            self._set_version("standard" if version == "auto" else version)
        self._versions_attacks = None if version == "custom" else list(self.attacks_to_run)

    def _run(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        attacks: list[str] | None,
        state_path: Path | None,
    ) -> AutoAttackResult:
        if attacks is None and self.attacks_to_run != self._versions_attacks:
            attacks = list(self.attacks_to_run)
            if not attacks:
                known = ", ".join(LEAST_CLASSES)
                raise InputError(f"no attack to run: attacks_to_run is empty; choose of {known}")
        settings = AttackSettings(
            eps=self.epsilon,
            norm=self.norm,
            version="standard" if self.version == "custom" else self.version,
            batch_size=batch_size,
            seed=0 if self.seed is None else self.seed,
            like=self,
        )
        resume = noted = None
        if state_path is not None:
            check_state(state_path)
            resume, noted = images_beside(state_path), partial(note, state_path)
        with logging_to(self.log_path, shown=self.verbose):
            result = run_attacks(
                self.victim,
                images,
                labels,
                settings,
                attacks,
                verbose=self.verbose,
                resume=resume,
                noted=noted,
            )
        for text in () if self.verbose else result.warnings:
            _log.warning("AutoAttack: %s", text)
        return result

    def _returned(self, result: AutoAttackResult, given: Tensor, return_labels: bool) -> Any:
        images = result.strongest.to(given)
        if not return_labels:
            return images
        device = device_of(self.victim)
        with undisturbed(self.victim), torch.no_grad():
            predicted = [self.victim(x.to(device)).argmax(1) for x in images.split(250)]
        return images, torch.cat(predicted).to(images.device)


def _check_version(version: str) -> None:
    if version not in ("auto", "custom", *VERSIONS):
        raise unknown("AutoAttack version", version, ("auto", "custom", *VERSIONS))
