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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from pyautoattack import AutoAttack, checks
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor

from robust_snn.adapters._caller import count_classes, device_of, undisturbed
from robust_snn.errors import InputError, unknown
from robust_snn.victim import Victim

NORMS = ("Linf", "L2", "L1")
VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
SEARCHES = ("fab", "fab-t", "square")
LEAST_CLASSES = {"apgd-ce": 2, "apgd-dlr": 3, "apgd-t": 4, "fab": 2, "fab-t": 2, "square": 2}
DRAWS = 20  # the released `rand` averages as many


@dataclass(frozen=True)
class AutoAttackResult:
    """What AutoAttack made and what it claims.

    Attributes:
        images: Adversarial where AutoAttack believes it succeeded, else clean, `[N, C, H, W]`.
        survived: The images that AutoAttack claims to be robust, bool `[N]`.
        hardest: For a noisy victim, the images of highest loss that the last APGD met,
            `[N, C, H, W]`.
        attacks: The attacks that ran, in order.
        warnings: What AutoAttack complained about, save that a noisy victim is noisy.
    """

    images: Tensor
    survived: Tensor
    hardest: Tensor | None
    attacks: tuple[str, ...]
    warnings: tuple[str, ...]

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

    Raises:
        InputError: If a name is not known, or an attack needs more classes than there are.
    """
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if eps < 0:
        raise InputError(f"eps must not be negative, got {eps}")
    home, device = images.device, device_of(victim)
    images, labels = images.detach().to(device).float().contiguous(), labels.to(device)
    classes = count_classes(victim, images)
    names = _names(version, attacks, classes, noisy=victim.stochastic)
    found, survived = images.clone(), torch.ones_like(labels, dtype=torch.bool)
    hardest: Tensor | None = None
    with undisturbed(victim), _overheard(verbose) as warnings, torch.no_grad():
        for name in names:
            standing = survived.nonzero().flatten()
            if not len(standing):
                break
            view = _view(victim, name) if version == "auto" and attacks is None else victim
            engine = _engine(view, name, eps, norm, version, classes, seed)
            _override(engine, n_iter, n_queries, restarts, eot_iter)
            x, y = images[standing], labels[standing]
            if _believes_luck(view, name, norm):
                high, found[standing], survived[standing] = _apgd_on_all(engine, x, y, batch_size)
                hardest = images.clone() if hardest is None else hardest
                hardest[standing] = high
            else:
                found[standing], predicted = engine.run_standard_evaluation(
                    x, y, batch_size=batch_size
                )
                survived[standing] = predicted == y
    if hardest is not None:
        hardest = hardest.to(home)
    heard = [w for w in warnings if not (victim.stochastic and "randomized defense" in w)]
    return AutoAttackResult(
        found.to(home), survived.to(home), hardest, names, tuple(dict.fromkeys(heard))
    )


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
    return victim.with_(noise=noise, eot=max(victim.eot, DRAWS))


def _believes_luck(view: Victim, name: str, norm: str) -> bool:
    """Whether single noisy calls would decide what APGD does (L1 has a loop of its own)."""
    noisy = view.stochastic and view.noise == "fresh"
    return noisy and name in ("apgd-ce", "apgd-dlr") and norm != "L1"


def _engine(
    view: Victim, name: str, eps: float, norm: str, version: str, classes: int, seed: int
) -> AutoAttack:
    """The library's object, as the released version sets it up, for one attack."""
    released = version if version in VERSIONS else "standard"
    engine = AutoAttack(
        view, eps=eps, norm=norm, seed=seed, version=released, device=device_of(view)
    )
    engine.attacks_to_run = [name]
    engine.apgd.loss = name.removeprefix("apgd-")
    if view.stochastic:
        engine.version = "rand"  # saves five calls that find out what is known
    for attack in (engine.apgd_targeted, engine.fab):
        attack.n_target_classes = min(attack.n_target_classes, classes - 1)
    return engine


def _override(
    engine: AutoAttack,
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


def _apgd_on_all(
    engine: AutoAttack, images: Tensor, labels: Tensor, batch_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """APGD on every image; returns the hardest images, AutoAttack's images and its claim."""
    checks.check_range_output(engine.model, images[:batch_size], logger=engine.logger)
    checks.check_dynamic(engine.model, images[:batch_size], logger=engine.logger)
    batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    hardest, found, survived = zip(*(_apgd(engine, x, y) for x, y in batches), strict=True)
    return torch.cat(hardest), torch.cat(found), torch.cat(survived)


def _apgd(engine: AutoAttack, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
def _overheard(verbose: bool) -> Iterator[list[str]]:
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
