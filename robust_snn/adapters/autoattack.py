"""AutoAttack (Croce and Hein, ICML 2020) through `pyautoattack`, its release on PyPI.

The attacks are the library's own. Where it believes a single noisy call, a noisy victim gets help:

* AutoAttack's APGD skips an image that the first call happens to misread, and gives the clean image
  back where the last call happens to be right. Here it attacks every image, and `hardest` keeps the
  image of highest loss whatever the calls said.
* `version="auto"` shows the gradient attacks the mean logits of 20 fresh draws, and shows the
  searches (FAB, Square), which compare calls with each other, 20 draws that stay the same.

`survived` is what the library claims. It is no measurement for a noisy victim: score the images on
fresh noise, as `robust_snn.evaluate` does.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyautoattack
import torch
from torch import Tensor, nn

from robust_snn.adapters._autoattack_engine import (
    VERSIONS,
    apgd_on_all,
    make_engine,
    overheard,
    override,
)
from robust_snn.adapters._autoattack_resume import Run, digest
from robust_snn.foreign import adapt
from robust_snn.kernels import derive_seed
from robust_snn.utils.errors import InputError, unknown
from robust_snn.utils.modules import device_of, undisturbed, weights_sha256
from robust_snn.utils.progress_bar import listening
from robust_snn.victim import Victim
from robust_snn.victim_scoring import count_classes

NORMS = ("Linf", "L2", "L1")
SEARCHES = ("fab", "fab-t", "square")
LEAST_CLASSES = {"apgd-ce": 2, "apgd-dlr": 3, "apgd-t": 4, "fab": 2, "fab-t": 2, "square": 2}
DRAWS = 20  # the released `rand` averages as many


@dataclass(frozen=True)
class Moment:
    """A moment of a run, for a progress bar.

    Attributes:
        done: Finished share, in [0, 1]; an attack counts as one part, however many images stand.
        remaining: Expected seconds that are left; None before anything is finished.
        doing: What runs now.
        found: What the library claims so far.
    """

    done: float
    remaining: float | None
    doing: str
    found: str


@dataclass(frozen=True)
class AutoAttackResult:
    """What AutoAttack made and what it claims.

    Attributes:
        images: Adversarial where AutoAttack believes it succeeded, else clean, `[N, C, H, W]`.
        survived: The images that AutoAttack claims to be robust, bool `[N]`.
        hardest: For a noisy victim, the images of highest loss that the last APGD met,
            `[N, C, H, W]`.
        after: The images as each attack that ran left them, `[N, C, H, W]`.
        attacks: The attacks that were asked for, in order.
        warnings: What AutoAttack complained about, save that a noisy victim is noisy.
    """

    images: Tensor
    survived: Tensor
    hardest: Tensor | None
    after: dict[str, Tensor]
    attacks: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def strongest(self) -> Tensor:
        """`images`, and where AutoAttack believes to have failed, `hardest`; `[N, C, H, W]`."""
        if self.hardest is None:
            return self.images
        return torch.where(self.survived[:, None, None, None], self.hardest, self.images)

    @property
    def claimed(self) -> float:
        """The robust accuracy that AutoAttack claims."""
        return float(self.survived.float().mean())


def autoattack(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    eps: float = 8 / 255,
    norm: str = "Linf",
    version: str = "auto",
    *,
    attacks: Iterable[str] | None = None,
    n_iter: int | None = None,
    n_queries: int | None = None,
    restarts: int | None = None,
    eot_iter: int | None = None,
    batch_size: int = 250,
    seed: int = 0,
    verbose: bool = False,
    resume: str | Path | None = None,
    progress: bool | Callable[[Moment], None] = False,
    like: pyautoattack.AutoAttack | None = None,
) -> AutoAttackResult:
    """Runs one attack after the other, each on the images that the ones before left standing.

    Args:
        victim: What to attack.
        images: `[N, C, H, W]` in [0, 1].
        labels: `[N]`, int64.
        eps: Radius of the norm ball.
        norm: `"Linf"`, `"L2"` or `"L1"`.
        version: A released version, `"standard"`, `"plus"` or `"rand"`, on the victim exactly as it
            is; or `"auto"`: `standard` for a deterministic victim, and for a noisy one `rand`, FAB
            and Square, on views made for it.
        attacks: Run these instead, on the victim exactly as it is.
        n_iter: Steps of APGD and FAB (released: 100).
        n_queries: Queries of Square (released: 5000).
        restarts: Restarts of every attack (released: 1, in `plus` 5).
        eot_iter: Calls over which APGD itself averages gradients (released: 1, in `rand` 20). The
            victim's own `eot` averages logits, and both multiply.
        batch_size: Images attacked together.
        seed: Seed of every attack.
        verbose: Let the library's log through, on the logger `auto-attack`.
        resume: File that keeps the run after every batch. The same call with the same file goes on
            where it was killed, to the result of an uninterrupted one.
        progress: Show a bar, or tell a listener each `Moment`.
        like: Take every number of the attacks from this object of the library.

    Raises:
        InputError: If a name is not known, an attack needs more classes than there are, or the
            file to resume from belongs to another run.
    """
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if eps < 0:
        raise InputError(f"eps must not be negative, got {eps}")
    home, device = images.device, device_of(victim)
    images, labels = images.detach().to(device).float().contiguous(), labels.to(device)
    classes = count_classes(victim, images)
    names = _names(version, attacks, classes, noisy=victim.stochastic)
    numbers = {
        "n_iter": n_iter,
        "n_queries": n_queries,
        "restarts": restarts,
        "eot_iter": eot_iter,
    }
    tuned = version == "auto" and attacks is None

    def prepared(name: str) -> tuple[Victim, pyautoattack.AutoAttack]:
        view = _view(victim, name) if tuned else victim
        engine = make_engine(view, name, eps, norm, version, classes, seed, like)
        override(engine, **numbers)
        return view, engine

    path = None if resume is None else Path(resume)
    plan: dict[str, Any] = {}
    if path is not None:
        plan = {
            "eps": eps,
            "norm": norm,
            "version": version,
            "attacks": names,
            **numbers,
            "batch_size": batch_size,
            "seed": seed,
            "victim": victim.extra_repr(),
            "weights": weights_sha256(victim),
            "data": digest(images, labels),
        }
    with undisturbed(victim), overheard(verbose) as heard, torch.no_grad():
        if path is not None and path.exists():
            run = Run.load(path, plan, device)
            heard.extend(run.warnings)
        else:
            run = _start(victim, images, labels, batch_size)
        run.warnings = heard
        with listening(progress) as listen:
            began, already = time.perf_counter(), len(run.after)
            for name in names[len(run.after) :]:
                view, engine = prepared(name)
                for batch, ids in list(enumerate(_split(run.entered, batch_size)))[run.batches :]:
                    here = len(run.after) - already
                    passed = time.perf_counter() - began
                    listen(
                        Moment(
                            len(run.after) / len(names),
                            passed * (len(names) - len(run.after)) / here if here else None,
                            f"{name}, batch {batch + 1}",
                            f"claimed so far {float(run.survived.float().mean()):.1%}",
                        )
                    )
                    if path is not None:  # noise that does not depend on where a run was killed
                        view.calls = derive_seed(seed, name, batch) >> 32
                    _attack(run, view, engine, name, norm, ids, images, labels, batch_size)
                    run.batches = batch + 1
                    if path is not None:
                        run.save(path, plan)
                run.after[name] = run.images.clone()
                run.entered, run.batches = run.survived.clone(), 0
                if path is not None:
                    run.save(path, plan)
    warnings = [w for w in heard if not (victim.stochastic and "randomized defense" in w)]
    return AutoAttackResult(
        run.images.to(home),
        run.survived.to(home),
        None if run.hardest is None else run.hardest.to(home),
        {name: value.to(home) for name, value in run.after.items()},
        names,
        tuple(dict.fromkeys(warnings)),
    )


def _start(victim: Victim, images: Tensor, labels: Tensor, batch_size: int) -> Run:
    """All images stand, save those that a deterministic victim misreads."""
    survived = torch.ones_like(labels, dtype=torch.bool)
    if not victim.stochastic:
        answers = [victim(batch).argmax(1) for batch in images.split(batch_size)]
        survived = torch.cat(answers) == labels
    return Run(images.clone(), survived, survived.clone(), None, {}, 0, [])


def _split(standing: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    ids = standing.nonzero().flatten()
    return ids.split(batch_size) if len(ids) else ()


def _attack(
    run: Run,
    view: Victim,
    engine: pyautoattack.AutoAttack,
    name: str,
    norm: str,
    ids: Tensor,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
) -> None:
    """Attacks one batch, and notes in `run` what came of it."""
    x, y = images[ids], labels[ids]
    if _believes_luck(view, name, norm):
        high, run.images[ids], run.survived[ids] = apgd_on_all(engine, x, y, batch_size)
        run.hardest = images.clone() if run.hardest is None else run.hardest
        run.hardest[ids] = high
        return
    run.images[ids], predicted = engine.run_standard_evaluation(x, y, batch_size=batch_size)
    run.survived[ids] = predicted == y


def _names(
    version: str, attacks: Iterable[str] | None, classes: int, noisy: bool
) -> tuple[str, ...]:
    """The attacks to run; those of a version that need more classes are left out of it."""
    if attacks is not None:
        for name in (names := tuple(attacks)):
            if name not in LEAST_CLASSES:
                raise unknown("AutoAttack attack", name, LEAST_CLASSES)
            if classes < LEAST_CLASSES[name]:
                raise InputError(
                    f"{name} needs at least {LEAST_CLASSES[name]} classes, the victim has "
                    f"{classes}; leave it out"
                )
        return names
    if version not in ("auto", *VERSIONS):
        raise unknown("AutoAttack version", version, ("auto", *VERSIONS))
    if version == "auto":
        names = (*VERSIONS["rand"], "fab-t", "square") if noisy else VERSIONS["standard"]
    else:
        names = VERSIONS[version]
    return tuple(name for name in names if classes >= LEAST_CLASSES[name])


def _view(victim: Victim, name: str) -> Victim:
    """The view of a noisy victim that suits an attack; the victim itself if deterministic."""
    if not victim.stochastic:
        return victim
    noise = "frozen" if name in SEARCHES else victim.noise
    return victim.replace(noise=noise, eot=max(victim.eot, DRAWS))


def _believes_luck(view: Victim, name: str, norm: str) -> bool:
    """Whether single noisy calls would decide what APGD does (L1 has a loop of its own)."""
    noisy = view.stochastic and view.noise == "fresh"
    return noisy and name in ("apgd-ce", "apgd-dlr") and norm != "L1"


class AutoAttack(pyautoattack.AutoAttack):
    """Stands in for `autoattack.AutoAttack` of github.com/fra31/auto-attack in existing scripts.

    The constructor, `run_standard_evaluation` and its individual form are those of that class, and
    numbers set on `apgd`, `apgd_targeted`, `fab` and `square` count. Any number of classes works,
    runs resume from `state_path`, and the caller's process stays as it was. For a noisy victim the
    images of highest loss come back, not those of the luckiest call.

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
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
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
        return self._answer(self._run(x_orig, y_orig, bs, None, state_path), return_labels)

    def run_standard_evaluation_individual(
        self, x_orig: Tensor, y_orig: Tensor, bs: int = 250, return_labels: bool = False
    ) -> dict[str, Any]:
        """Runs each attack on all images; returns what `run_standard_evaluation` does, by name."""
        return {
            name: self._answer(self._run(x_orig, y_orig, bs, [name], None), return_labels)
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
        with logging_to(self.log_path):
            return autoattack(
                self.victim,
                images,
                labels,
                self.epsilon,
                self.norm,
                "standard" if self.version == "custom" else self.version,
                attacks=attacks,
                batch_size=batch_size,
                seed=self.seed,
                verbose=self.verbose,
                resume=state_path,
                like=self,
            )

    def _answer(self, result: AutoAttackResult, return_labels: bool) -> Any:
        images = result.strongest
        if not return_labels:
            return images
        device = device_of(self.victim)
        with undisturbed(self.victim), torch.no_grad():
            answers = [self.victim(x.to(device)).argmax(1) for x in images.split(250)]
        return images, torch.cat(answers).to(images.device)


@contextmanager
def logging_to(path: str | Path | None) -> Iterator[None]:
    """Inside, the log of AutoAttack goes to a file as well."""
    if path is None:
        yield
        return
    handler = logging.FileHandler(path)
    logger = logging.getLogger("auto-attack")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def shim() -> None:
    """Lets `import autoattack` find the class above where fra31's package is not installed.

    RobustBench's own code imports that name. Opt-in: nothing here calls it.
    """
    try:
        import autoattack  # noqa: F401
    except ImportError:
        sys.modules["autoattack"] = sys.modules[__name__]
