"""The objects of `pyautoattack`: made, adjusted, run on every image, and overheard."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyautoattack
import torch
from pyautoattack import checks
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor

from robust_snn.utils.modules import device_of
from robust_snn.victim import Victim

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
PARTS = ("apgd", "apgd_targeted", "fab", "square")


def make_engine(
    view: Victim,
    name: str,
    eps: float,
    norm: str,
    version: str,
    classes: int,
    seed: int,
    like: pyautoattack.AutoAttack | None,
) -> pyautoattack.AutoAttack:
    """The library's object, as the released version sets it up, for one attack."""
    released = version if version in VERSIONS else "standard"
    engine = pyautoattack.AutoAttack(
        view, eps=eps, norm=norm, seed=seed, version=released, device=device_of(view)
    )
    if like is not None:
        for part in PARTS:
            vars(getattr(engine, part)).update(_numbers(getattr(like, part)))
    engine.attacks_to_run = [name]
    engine.apgd.loss = name.removeprefix("apgd-")
    if view.stochastic:
        engine.version = "rand"  # saves five calls that find out what is known
    for attack in (engine.apgd_targeted, engine.fab):
        attack.n_target_classes = min(attack.n_target_classes, classes - 1)
    return engine


def _numbers(attack: Any) -> dict[str, Any]:
    """The settings of an attack of the library that a script may have changed."""
    kept = ("device", "loss", "seed", "targeted", "verbose")
    return {
        name: value
        for name, value in vars(attack).items()
        if isinstance(value, (bool, int, float)) and name not in kept
    }


def override(
    engine: pyautoattack.AutoAttack,
    n_iter: int | None,
    n_queries: int | None,
    restarts: int | None,
    eot_iter: int | None,
) -> None:
    """Puts the caller's numbers in place of the released ones."""
    apgds, fab, square = (engine.apgd, engine.apgd_targeted), engine.fab, engine.square
    if n_iter is not None:
        fab.n_iter = n_iter
        fresh = APGDAttack(engine.model, n_iter=n_iter, eps=engine.epsilon)
        for apgd in apgds:  # the checkpoints of the step size follow from n_iter
            for name in ("n_iter", "n_iter_orig", "n_iter_2", "n_iter_min", "size_decr"):
                setattr(apgd, name, getattr(fresh, name))
    if n_queries is not None:
        square.n_queries = n_queries
    if restarts is not None:
        for attack in (*apgds, fab, square):
            attack.n_restarts = restarts
    if eot_iter is not None:
        for apgd in apgds:
            apgd.eot_iter = eot_iter


def apgd_on_all(
    engine: pyautoattack.AutoAttack, images: Tensor, labels: Tensor, batch_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """APGD on every image; returns the hardest images, AutoAttack's images and its claim."""
    checks.check_range_output(engine.model, images[:batch_size], logger=engine.logger)
    checks.check_dynamic(engine.model, images[:batch_size], logger=engine.logger)
    batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    hardest, found, survived = zip(*(_apgd(engine, x, y) for x, y in batches), strict=True)
    return torch.cat(hardest), torch.cat(found), torch.cat(survived)


def _apgd(
    engine: pyautoattack.AutoAttack, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    apgd = engine.apgd
    apgd.init_hyperparam(images)
    survived = engine.model(images).argmax(1) == labels  # first call
    fooling, hardest = images.clone(), images.clone()
    highest = torch.full_like(images[:, 0, 0, 0], -torch.inf)
    torch.manual_seed(engine.get_seed())
    for _ in range(apgd.n_restarts):
        high, right, loss, fooled = apgd.attack_single_run(images, labels)
        wrong, higher = right == 0, loss > highest
        fooling[wrong], hardest[higher] = fooled[wrong], high[higher]
        highest = torch.maximum(highest, loss)
    survived &= engine.model(fooling).argmax(1) == labels  # last call
    found = torch.where(survived[:, None, None, None], images, fooling)
    return hardest, found, survived


class _Collector(logging.Handler):
    """Appends the text of every warning to a list."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def overheard(verbose: bool) -> Iterator[list[str]]:
    """Collects the library's warnings; keeps its counter of suspicious functions as it was."""
    logger, messages = logging.getLogger("auto-attack"), list[str]()
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
