"""A run of AutoAttack: one attack after the other, batch by batch, with progress and a file."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pyautoattack import checks
from torch import Tensor

from robust_snn.adapters._autoattack_engine import (
    LOGGER,
    VERSIONS,
    AttackSettings,
    apgd_on_all,
    attack_batch,
    captured_warnings,
    make_engine,
    numbers_of,
)
from robust_snn.adapters._autoattack_resume import RunState, tensors_sha256
from robust_snn.adapters._crafting import made_images
from robust_snn.foreign.identity import identity
from robust_snn.kernels import derive_seed
from robust_snn.utils.checked_files import DamagedFile
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import device_of, global_generators, undisturbed
from robust_snn.utils.progress_bar import progress_listener
from robust_snn.utils.share_texts import percent
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import checked_inputs

AUTOATTACK_NORMS = ("Linf", "L2", "L1")
_log = logging.getLogger("robust_snn")
SEARCHES = ("fab", "fab-t", "square")
LEAST_CLASSES = {"apgd-ce": 2, "apgd-dlr": 3, "apgd-t": 4, "fab": 2, "fab-t": 2, "square": 2}
Noted = Callable[[tuple[str, ...], RunState, float | None], None]
FIFTHS = 5
AUTO_EOT = 20  # draws that `auto` averages; the released `rand` averages as many


@dataclass(frozen=True)
class AutoAttackProgress:
    """How far a run is at one moment.

    Attributes:
        done: Finished share, in [0, 1]; an attack counts as one part, however many images it gets.
        remaining: Expected seconds that are left; None before anything is finished.
        doing: What runs now.
        known: What the library claims so far.
    """

    done: float
    remaining: float | None
    doing: str
    known: str


@dataclass(frozen=True)
class AutoAttackResult:
    """What AutoAttack made and what it claims.

    Attributes:
        images: Adversarial where AutoAttack claims success, else clean, `[N, C, H, W]`.
        success: The images on which AutoAttack claims success, bool `[N]`.
        hardest: For a noisy victim, the images of highest loss among those that the last APGD
            tried, `[N, C, H, W]`.
        after: The images after each attack that ran, `[N, C, H, W]`.
        attacks: The attacks that were asked for, in order.
        warnings: Warnings of AutoAttack, save that a noisy victim is noisy.
    """

    images: Tensor
    success: Tensor
    hardest: Tensor | None
    after: dict[str, Tensor]
    attacks: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def strongest(self) -> Tensor:
        """`images`, and where AutoAttack claims no success, `hardest`; `[N, C, H, W]`."""
        if self.hardest is None:
            return self.images
        return torch.where(self.success[:, None, None, None], self.images, self.hardest)

    @property
    def claimed(self) -> float:
        """The robust accuracy that AutoAttack claims."""
        return float((~self.success).float().mean())


def run_attacks(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    settings: AttackSettings,
    attacks: Iterable[str] | None = None,
    *,
    verbose: bool = False,
    resume: str | Path | None = None,
    progress: bool | Callable[[AutoAttackProgress], None] = False,
    noted: Noted | None = None,
) -> AutoAttackResult:
    """Runs the attacks that are named, or those of the settings' version; see `autoattack`.

    `noted(attacks, state, clean)` is told after every batch how far the run is, and at its start
    the accuracy on clean images.

    Raises:
        InputError: If a name is not known, an attack needs more classes than there are, or the
            file to resume from belongs to another run.
    """
    if settings.norm not in AUTOATTACK_NORMS:
        raise unknown("norm", settings.norm, AUTOATTACK_NORMS)
    settings = settings.checked()
    images, labels, classes = checked_inputs(victim, images, labels)
    if images.ndim != 4:
        raise InputError(f"AutoAttack needs images [N, C, H, W], got {tuple(images.shape)}")
    home, device = images.device, device_of(victim, images)
    images, labels = images.detach().to(device).float().contiguous(), labels.to(device)
    run = _Run(victim, images, labels, classes, settings, attacks, noted)
    with (
        global_generators,
        undisturbed(victim),
        captured_warnings(verbose) as warnings,
        torch.no_grad(),
    ):
        run.begin(None if resume is None else Path(resume), warnings)
        with progress_listener(progress) as listen:
            run.finish(listen)
    state = run.state
    expected = "randomized defense" if victim.stochastic else None
    return AutoAttackResult(
        state.images.to(home),
        ~state.robust.to(home),
        None if state.hardest is None else state.hardest.to(home),
        {name: value.to(home) for name, value in state.after.items()},
        run.names,
        tuple(dict.fromkeys(w for w in warnings if expected is None or expected not in w)),
    )


@dataclass
class _Run:
    """The attacks of a run on its images, which lie where the victim is."""

    victim: Victim
    images: Tensor
    labels: Tensor
    classes: int
    settings: AttackSettings
    attacks: Iterable[str] | None
    noted: Noted | None
    path: Path | None = None
    configuration: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tuned = self.settings.version == "auto" and self.attacks is None
        if self.attacks is None:
            self.names = _released(self.settings.version, self.classes, self.victim.stochastic)
        else:
            self.names = _checked(self.attacks, self.classes)
        check_rows(self.images, self.settings.norm, self.names)

    def begin(self, path: Path | None, warnings: list[str]) -> None:
        """Takes up the run that a file holds, or starts; `warnings` grows while it runs."""
        self.path = path
        if path is not None:
            self.configuration = self._describe()
        found = self._found()
        if found is not None:
            self.state = found
            warnings.extend(found.warnings)
        else:
            self.state = self._start()
            self._note(math.nan if self.victim.stochastic else self._left())
        self.state.warnings = warnings

    def _found(self) -> RunState | None:
        """The state in the file, if there is one; a damaged file is put aside."""
        if self.path is None or not self.path.exists():
            return None
        try:
            return RunState.load(self.path, self.configuration, self.images.device)
        except DamagedFile as error:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            self.path.replace(aside)
            _log.warning("%s; it is kept as %s and will be made again", error, aside)
            return None

    def finish(self, listen: Callable[[AutoAttackProgress], None]) -> None:
        """Runs the attacks and batches that are left."""
        state, left = self.state, {"clean": self._left()}
        began, already = time.perf_counter(), len(state.after)
        LOGGER.info("attacks: %s", ", ".join(self.names[already:]))
        LOGGER.info("robust accuracy before them: %.2f%%", 100 * left["clean"])
        for place, name in enumerate(self.names[already:], already):
            attacked = self._attacked(name)
            engine = make_engine(attacked, name, self.classes, self.settings)
            if self.settings.like is not None and "fab-t" in self.names[:place]:
                engine.fab.n_restarts = 1  # as the library leaves it
            batches = _split(state.robust_before, self.settings.batch_size)
            for batch, ids in list(enumerate(batches))[state.batches :]:
                listen(self._progress(name, batch, began, already))
                if self.path is not None:  # noise that does not depend on where a run was killed
                    attacked.calls = derive_seed(self.settings.seed, name, batch) >> 32
                self._attack(attacked, engine, name, ids)
                state.batches = batch + 1
                self._save()
            state.after[name] = state.images.clone()
            state.robust_before, state.batches = state.robust.clone(), 0
            self._save()
            left[name], passed = self._left(), time.perf_counter() - began
            text = "robust accuracy after %s: %.2f%% (total time %.1f s)"
            LOGGER.info(text, name.upper(), 100 * left[name], passed)
        if not already:
            checks.check_square_sr(left, logger=LOGGER)

    def _left(self) -> float:
        """Share of the images on which no attack has succeeded so far."""
        return float(self.state.robust.float().mean())

    def _start(self) -> RunState:
        """All images are robust, save those that a deterministic victim misclassifies."""
        robust = torch.ones_like(self.labels, dtype=torch.bool)
        stands_in = self.settings.like is not None  # of a library that believes a call
        if not self.victim.stochastic or (stands_in and self.victim.noise != "fresh"):
            batches = self.images.split(self.settings.batch_size)
            predicted = torch.cat([self.victim(batch).argmax(1) for batch in batches])
            robust = predicted == self.labels
        return RunState(self.images.clone(), robust, robust.clone(), None, {}, 0, [])

    def _attacked(self, name: str) -> Victim:
        """What an attack sees: under `auto`, the variant of a noisy victim that suits it."""
        if not self.tuned or not self.victim.stochastic:
            return self.victim
        noise = "frozen" if name in SEARCHES else self.victim.noise
        return self.victim.replace(noise=noise, eot=max(self.victim.eot, AUTO_EOT))

    def _attack(self, attacked: Victim, engine: Any, name: str, ids: Tensor) -> None:
        """Attacks one batch, and notes the outcome in the state."""
        x, y, size, state = self.images[ids], self.labels[ids], self.settings.batch_size, self.state
        if _single_call_decides(attacked, name, self.settings.norm):
            hardest, made, robust = apgd_on_all(engine, x, y, size)
            state.hardest = self.images.clone() if state.hardest is None else state.hardest
            state.hardest[ids] = made_images(hardest, x)
        else:
            made, predicted = attack_batch(engine, x, y)
            robust = predicted == y
        state.images[ids] = made_images(made, x)
        state.robust[ids] = robust | ~made.flatten(1).isfinite().all(1)  # NaN breaks nothing

    def _progress(self, name: str, batch: int, began: float, already: int) -> AutoAttackProgress:
        finished = len(self.state.after)
        passed, left = time.perf_counter() - began, len(self.names) - finished
        return AutoAttackProgress(
            finished / len(self.names),
            passed * left / (finished - already) if finished > already else None,
            f"{name}, batch {batch + 1}",
            f"claimed so far {percent(self._left())}",
        )

    def _describe(self) -> dict[str, Any]:
        """Everything that the result depends on, as JSON values."""
        settings = {name: value for name, value in vars(self.settings).items() if name != "like"}
        if self.settings.like is not None:
            settings["numbers"] = numbers_of(self.settings.like)
        return {
            **settings,
            "attacks": self.names,
            "victim": self.victim.extra_repr(),
            "network": identity(self.victim, self.images),
            "libraries": {"pyautoattack": version("pyautoattack"), "torch": torch.__version__},
            "data": tensors_sha256(self.images, self.labels),
        }

    def _save(self) -> None:
        if self.path is not None:
            self.state.save(self.path, self.configuration)
        self._note(None)

    def _note(self, clean: float | None) -> None:
        if self.noted is not None:
            self.noted(self.names, self.state, clean)


def check_rows(images: Tensor, norm: str, attacks: Iterable[str]) -> None:
    """Refuses Square on images `[N, C, H, W]` that it cannot divide into fifths, in L2 and L1.

    Raises:
        InputError: If it would run on such ones.
    """
    if "square" in attacks and norm != "Linf" and images.shape[2] < FIFTHS:
        raise InputError(
            f"AutoAttack's square divides images into {FIFTHS} rows of squares in {norm}, and "
            f"these have {images.shape[2]} pixels; take the square of robust_snn"
        )


def _split(chosen: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    ids = chosen.nonzero().flatten()
    return ids.split(batch_size) if len(ids) else ()


def _single_call_decides(attacked: Victim, name: str, norm: str) -> bool:
    """Whether single noisy calls would decide what APGD does (L1 has a loop of its own)."""
    noisy = attacked.stochastic and attacked.noise == "fresh"
    return noisy and name in ("apgd-ce", "apgd-dlr") and norm != "L1"


def _checked(attacks: Iterable[str], classes: int) -> tuple[str, ...]:
    """The attacks that the caller named, if they can run."""
    names = tuple(attacks)
    for name in names:
        if name not in LEAST_CLASSES:
            raise unknown("AutoAttack attack", name, LEAST_CLASSES)
        if classes < LEAST_CLASSES[name]:
            raise InputError(
                f"{name} needs at least {LEAST_CLASSES[name]} classes, the victim has "
                f"{classes}; leave it out"
            )
    return names


def _released(version: str, classes: int, noisy: bool) -> tuple[str, ...]:
    """The attacks of a version, without those that need more classes."""
    if version not in ("auto", *VERSIONS):
        raise unknown("AutoAttack version", version, ("auto", *VERSIONS))
    if version == "auto":
        names = (*VERSIONS["rand"], "fab-t", "square") if noisy else VERSIONS["standard"]
    else:
        names = VERSIONS[version]
    return tuple(name for name in names if classes >= LEAST_CLASSES[name])
