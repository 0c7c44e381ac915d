"""The objects of `pyautoattack`: their settings, APGD without trust in one noisy call, the log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyautoattack
import torch
from pyautoattack import checks
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor

from robust_snn.adapters._autoattack_state import original_package
from robust_snn.attacks.threat_radius import checked_radius
from robust_snn.utils.modules import device_of
from robust_snn.utils.values import whole
from robust_snn.victim import Victim

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
LOGGER = logging.getLogger("auto-attack")
ATTACK_OBJECTS = ("apgd", "apgd_targeted", "fab", "square")


@dataclass(frozen=True)
class AttackSettings:
    """What the attacks of a run share; a None keeps the library's number.

    Attributes:
        eps: Radius of the norm ball.
        norm: `"Linf"`, `"L2"` or `"L1"`.
        version: A released version, whose numbers are taken, or `"auto"`, which takes `standard`'s.
        n_iter: Steps of APGD and FAB.
        n_queries: Queries of Square.
        restarts: Restarts of every attack.
        eot_iter: Calls over which APGD itself averages gradients.
        batch_size: Images attacked together.
        seed: Seed of every attack.
        like: The library's object whose attacks are taken.
        original: Whether the library is the package of github.com/fra31/auto-attack.
    """

    eps: float
    norm: str
    version: str
    n_iter: int | None = None
    n_queries: int | None = None
    restarts: int | None = None
    eot_iter: int | None = None
    batch_size: int = 250
    seed: int = 0
    like: pyautoattack.AutoAttack | None = None
    original: bool = False

    def checked(self) -> AttackSettings:
        """The settings with plain numbers.

        Raises:
            InputError: If one is no number of its kind.
        """
        counts = ("n_iter", "n_queries", "restarts", "eot_iter", "batch_size")
        given = {name: getattr(self, name) for name in counts}
        plain: dict[str, Any] = {n: whole(v, n, 1) for n, v in given.items() if v is not None}
        eps, seed = checked_radius(self.eps, self.norm), whole(self.seed, "seed")
        return replace(self, eps=eps, seed=seed, **plain)


def make_engine(
    victim: Victim, name: str, classes: int, settings: AttackSettings
) -> pyautoattack.AutoAttack:
    """The library's object for one attack, with the numbers of its version and the caller's.

    Args:
        victim: What the attack sees.
        name: Name of the attack in the library, such as `"apgd-ce"`.
        classes: Number of classes of the victim.
        settings: What the attacks of the run share.
    """
    released = settings.version if settings.version in VERSIONS else "standard"
    package = original_package() if settings.original else pyautoattack
    engine = package.AutoAttack(
        victim,
        eps=settings.eps,
        norm=settings.norm,
        seed=settings.seed,
        version=released,
        device=device_of(victim),
        **({"verbose": False} if settings.original else {}),
    )
    engine.verbose = False  # it would tell about one batch of one attack
    if settings.original:
        engine.logger.log = _log_as_original
    for part in ATTACK_OBJECTS if settings.like is not None else ():
        setattr(engine, part, _attack_on(victim, settings.like, part))
    engine.attacks_to_run = [name]
    engine.apgd.loss = name.removeprefix("apgd-")
    if victim.stochastic:
        engine.version = "rand"  # saves five calls that find out what is known
    for attack in (engine.apgd_targeted, engine.fab):
        attack.n_target_classes = min(attack.n_target_classes, classes - 1)
    _override(engine, settings)
    return engine


def _attack_on(victim: Victim, like: Any, part: str) -> Any:
    """A copy of an attack that a script may have changed in any way, on a victim."""
    attack = copy(getattr(like, part))
    for name, value in vars(attack).items():
        if value is like.model:
            setattr(attack, name, victim)
    return attack


def attack_batch(
    engine: pyautoattack.AutoAttack, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """The library's images for a batch `[B, C, H, W]`, and what it predicts for them, `[B]`."""
    ways: dict[str, Any] = {"batch_size": len(images)}
    if not isinstance(engine, pyautoattack.AutoAttack):
        ways = {"bs": len(images), "return_labels": True}
    made, predicted = engine.run_standard_evaluation(images, labels, **ways)
    return made, predicted


def numbers_of(like: Any) -> dict[str, dict[str, Any]]:
    """The settings of every attack of the library's object, as JSON values."""
    return {
        part: {
            name: value
            for name, value in vars(getattr(like, part)).items()
            if isinstance(value, (bool, int, float, str))
            and name not in ("device", "loss", "seed", "targeted", "verbose")
        }
        for part in ATTACK_OBJECTS
    }


def _override(engine: pyautoattack.AutoAttack, settings: AttackSettings) -> None:
    """Puts the caller's numbers in place of the released ones."""
    apgds, fab, square = (engine.apgd, engine.apgd_targeted), engine.fab, engine.square
    if settings.n_iter is not None:
        fab.n_iter = settings.n_iter
        fresh = APGDAttack(engine.model, n_iter=settings.n_iter, eps=engine.epsilon)
        for apgd in apgds:  # the checkpoints of the step size follow from n_iter
            for name in ("n_iter", "n_iter_orig", "n_iter_2", "n_iter_min", "size_decr"):
                setattr(apgd, name, getattr(fresh, name))
    if settings.n_queries is not None:
        square.n_queries = settings.n_queries
    if settings.restarts is not None:
        for attack in (*apgds, fab, square):
            attack.n_restarts = settings.restarts
    if settings.eot_iter is not None:
        for apgd in apgds:
            apgd.eot_iter = settings.eot_iter


def apgd_on_all(
    engine: pyautoattack.AutoAttack, images: Tensor, labels: Tensor, batch_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """APGD on every image, whatever single noisy calls say.

    Returns:
        The images of highest loss, AutoAttack's images, both `[N, C, H, W]`, and those on which
        AutoAttack claims no success, bool `[N]`.
    """
    checks.check_range_output(engine.model, images[:batch_size], logger=LOGGER)
    checks.check_dynamic(engine.model, images[:batch_size], logger=LOGGER)
    batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    hardest, made, robust = zip(*(_apgd(engine, x, y) for x, y in batches), strict=True)
    return torch.cat(hardest), torch.cat(made), torch.cat(robust)


def _apgd(
    engine: pyautoattack.AutoAttack, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    apgd = engine.apgd
    apgd.init_hyperparam(images)
    robust = engine.model(images).argmax(1) == labels  # first call
    fooling, hardest = images.clone(), images.clone()
    highest = torch.full_like(images[:, 0, 0, 0], -torch.inf)
    torch.manual_seed(engine.get_seed())
    for _ in range(apgd.n_restarts):
        high, right, loss, fooled = apgd.attack_single_run(images, labels)
        wrong, higher = right == 0, loss > highest
        fooling[wrong], hardest[higher] = fooled[wrong], high[higher]
        highest = torch.maximum(highest, loss)
    robust &= engine.model(fooling).argmax(1) == labels  # last call
    made = torch.where(robust[:, None, None, None], images, fooling)
    return hardest, made, robust


class _Collector(logging.Handler):
    """Appends the text of every warning to a list."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def captured_warnings(verbose: bool) -> Iterator[list[str]]:
    """Collects the library's warnings; keeps its counter of suspicious functions as it was."""
    logger, messages = LOGGER, list[str]()
    collector = _Collector(messages)
    propagate, level, counted = logger.propagate, logger.level, dict(checks.funcs)
    logger.addHandler(collector)
    logger.propagate = verbose
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    checks.funcs.update(dict.fromkeys(counted, 0))  # it never forgets another model's calls
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate
        logger.setLevel(level)
        checks.funcs.update(counted)


def _log_as_original(text: str) -> None:
    """The original's log, whose warnings are known by their first word."""
    level = logging.WARNING if text.startswith("Warning: ") else logging.DEBUG
    LOGGER.log(level, "%s", text.removeprefix("Warning: "))


@contextmanager
def logging_to(path: str | Path | None, shown: bool = False) -> Iterator[None]:
    """Appends the log to a file as well, if one is given.

    Args:
        path: The file.
        shown: Whether it goes to the standard output too, where nobody else listens.
    """
    handlers: list[logging.Handler] = []
    if shown and not LOGGER.hasHandlers():
        handlers.append(logging.StreamHandler(sys.stdout))
        handlers[0].setLevel(logging.INFO)
    if path is not None:
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
    for handler in handlers:
        LOGGER.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            LOGGER.removeHandler(handler)
            handler.close()
