"""What a run will cost, from a few timed passes: gradients, time, memory, disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robust_snn.attacks import APGD, attacks_of_budget
from robust_snn.attacks.mode_ranking import ModeTrial, RankingEffort, registered_modes
from robust_snn.eval.execution.final_verdict import DIAGNOSED
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.preflight import Preflight
from robust_snn.eval.execution.row_passes import ADAPTIVE_DRAWS, is_blind, row_passes
from robust_snn.eval.protocol.implementation import OWN
from robust_snn.eval.protocol.implementations import attacked_victim
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.kernels import derive_seed
from robust_snn.utils.errors import InputError
from robust_snn.utils.machine import share_of_processors
from robust_snn.utils.modules import device_of
from robust_snn.victim import Victim
from robust_snn.victim.scoring import scoring_logits

TIMED = 32  # images of a timed pass, at most
TRIED, TRIED_STEPS = 16, 10  # images and steps of the short attack that guesses who survives
GUESSED = ("bptt", "bptt(surrogate=atan(alpha=4))", "bptr", "rga", "hart", "assg")
CHECKS = 40  # gradients per image and mode, after the attacks
LONG_ENOUGH = 0.2  # seconds that passes are timed for, at least
MOSTLY = 0.7  # of the time, in which a process that is hardly disturbed has its processors
BUSY = "without the other programs that used the processors while passes were timed"
WORTH_TIMING = 1e6  # passes of single images below which nothing takes an hour
_log = logging.getLogger("robust_snn")


@dataclass(frozen=True)
class RowEstimate:
    """What one attack will cost.

    Attributes:
        name: Its name.
        images: Images that it will meet, about.
        gradients: Gradients per image, draws counted; queries where it takes none.
        seconds: Time, scoring included.
    """

    name: str
    images: int
    gradients: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a run will cost.

    Attributes:
        rows: Clean images, a probe where there is one, the attacks, and the checks after them.
        memory: Bytes that a batch keeps for a gradient, the network included.
        disk: Bytes that the folder of the run may take.
        pass_seconds: Time of one forward and backward pass of one image.
        computing: Share of the times in which this process had its processors, in (0, 1]; less
            than one where others used them while passes were timed.
    """

    rows: tuple[RowEstimate, ...]
    memory: int
    disk: int
    pass_seconds: float
    computing: float = 1.0

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.rows)

    @property
    def gradients(self) -> int:
        """Gradients of all images together."""
        return sum(row.images * row.gradients for row in self.rows)


def estimate_cost(checked: Preflight, room: int) -> Estimate:
    """Times a few passes of a checked job and adds up what its suite asks for.

    A short attack on a few images guesses how many are left after the first row; attacks that stop
    early, and a suite that chooses its attacks, are guessed too. Expect a factor of two.

    Args:
        checked: A checked job.
        room: Bytes that its results may take.
    """
    job = checked.job
    rows = [*_chosen_rows(checked), *job.suite.attacks]
    timed = _Timer(job)
    survivors = timed.survivors(rows)
    score = timed.score()
    select, report = job.suite.draws.select, job.suite.draws.report
    count = len(job.images)
    costs = [RowEstimate("clean images", count, 0, count * (select + report) * score)]
    if job.suite.budget is not None:
        costs.append(_probe(checked, timed))
    left = timed.clean
    for row in rows:
        met = count if job.suite.independent else round(count * left)
        steps = row_passes(row)
        per_pass = timed.forward() if is_blind(row) else timed.gradient(row)
        scoring = (select * _candidates(row, checked.stochastic) + report) * score
        costs.append(RowEstimate(row.name, met, steps, met * (steps * per_pass + scoring)))
        left = min(left, survivors)
    modes = len({row.gradient for row in rows if not is_blind(row)})
    looked = min(DIAGNOSED, count)
    checks = CHECKS * max(1, modes)
    costs.append(RowEstimate("checks", looked, checks, looked * checks * timed.gradient(None)))
    pass_seconds = timed.gradient(None)
    return Estimate(tuple(costs), timed.memory(), room, pass_seconds, timed.computing)


def say_if_long(job: Job, passes: float, workers: int) -> None:
    """Warns where what is left of a run may take an hour or more.

    Args:
        job: What is done.
        passes: Passes of single images that are left, a gradient counted as three.
        workers: Processes that share them.
    """
    if passes < WORTH_TIMING:
        return
    timed = _Timer(job)
    hours = passes / 3 * timed.gradient(None) / workers / 3600
    if hours >= 1:
        alone = f" ({hours * timed.computing:.1f} {BUSY})" if timed.computing < MOSTLY else ""
        _log.warning(
            "this may take %.1f hours%s, less where images are broken early; fewer images (-n), a "
            "smaller suite or more --workers take less, and --dry-run says what costs what",
            *(hours, alone),
        )


def _chosen_rows(checked: Preflight) -> list[AttackSpec]:
    """The rows that a suite with a budget would choose, whatever their modes are."""
    budget = checked.job.suite.budget
    if budget is None:
        return []
    trials = tuple(ModeTrial(mode, 0.0, 0.0, 0.0, torch.empty(0)) for mode in GUESSED)
    rows = attacks_of_budget(
        budget,
        trials,
        stochastic=checked.stochastic,
        classes=checked.classes,
        norm=checked.job.threat.norm,
    )
    return [AttackSpec(implementation=OWN, **asdict(row)) for row in rows]


def _probe(checked: Preflight, timed: _Timer) -> RowEstimate:
    calibration = checked.calibration
    assert calibration is not None
    images = min(len(calibration[1]), max(8, len(checked.job.images) // 8))
    effort = RankingEffort.on(images)
    trials = len(registered_modes()) + effort.searched * effort.evaluations
    draws = ADAPTIVE_DRAWS if checked.stochastic else 1
    steps = trials * effort.steps * draws
    return RowEstimate("probe", images, steps, images * steps * timed.gradient(None))


def _candidates(row: AttackSpec, stochastic: bool) -> int:
    """Versions that an attack returns, each of which the select draws score."""
    return 2 if stochastic and row.implementation == "autoattack" else 1


class _Timer:
    """Times passes of a job's victim on one batch, and keeps what it found."""

    def __init__(self, job: Job) -> None:
        self.job = job
        count = min(TIMED, job.batch_size, len(job.images))
        device = device_of(job.victim)
        self.images = job.images[:count].to(device).float()
        self.labels = job.labels[:count].to(device)
        self.judge = job.victim.replace(seed=derive_seed(job.seed, "estimate"))
        self.clean = 1.0
        self.wall = self.processor = 0.0  # seconds of all passes, and of computing in them
        self._known: dict[str, float] = {}

    def score(self) -> float:
        """Seconds of a scoring pass of one image."""
        ids = torch.arange(len(self.images), device=self.images.device)
        score = partial(scoring_logits, self.judge, self.images, ids, 0, "report")
        return self._timed("score", score)

    def forward(self) -> float:
        """Seconds of a pass of one image without a gradient, as attacks see the network."""
        victim = self.job.attacked.replace(eot=1)

        def run() -> None:
            with torch.no_grad():
                victim(self.images)

        return self._timed("forward", run)

    def gradient(self, row: AttackSpec | None) -> float:
        """Seconds of a gradient of one image under a row's mode; of the victim's own without."""
        victim = self.job.attacked
        if row is not None:
            victim = attacked_victim(victim, replace(row, eot=1), 0)
        victim = victim.replace(eot=1)
        return self._timed(f"{victim.gradient} {victim.noise}", lambda: self._step(victim))

    def _step(self, victim: Victim) -> None:
        x = self.images.clone().requires_grad_()
        with torch.enable_grad():
            loss = nn.functional.cross_entropy(victim(x), self.labels, reduction="sum")
            torch.autograd.grad(loss, x)

    def _timed(self, name: str, run: Callable[[], Any]) -> float:
        """Seconds of one image; the first call compiles, and is not counted."""
        if name not in self._known:
            run()
            began, computed = time.perf_counter(), time.process_time()
            runs, wall = 0, 0.0
            while wall < LONG_ENOUGH:  # turns of other programs are of some milliseconds
                run()
                if self.images.is_cuda:
                    torch.cuda.synchronize()
                runs, wall = runs + 1, time.perf_counter() - began
            self.wall += wall
            self.processor += time.process_time() - computed
            self._known[name] = wall / runs / len(self.images)
        return self._known[name]

    @property
    def computing(self) -> float:
        """Share of the timed passes in which this process had its processors."""
        if self.images.is_cuda or not self.wall:
            return 1.0
        return share_of_processors(self.wall, self.processor, torch.get_num_threads())

    def survivors(self, rows: list[AttackSpec]) -> float:
        """Share of a few images that a short attack with the first row's mode leaves."""
        images, labels = self.images[:TRIED], self.labels[:TRIED]
        ids = torch.arange(len(images), device=images.device)

        def right(x: Tensor) -> float:
            return float((self.judge.sample(x, ids).argmax(1) == labels).float().mean())

        self.clean = right(images)
        threat, attack = self.job.threat, APGD(steps=TRIED_STEPS)
        followed = [row for row in rows if not is_blind(row)]
        if threat.norm not in attack.norms or images.ndim != 4 or not followed:
            return self.clean
        victim = attacked_victim(self.job.attacked, replace(followed[0], eot=1), 0)
        try:
            made = attack(victim, images, labels, eps=threat.eps, norm=threat.norm)
        except InputError:
            return self.clean
        return min(self.clean, right(made.images))

    def memory(self) -> int:
        """Bytes that a batch of the job keeps for its gradient, with the network's own."""
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self._step(self.job.attacked.replace(eot=1))
        weights = {p.untyped_storage().data_ptr() for p in self.job.victim.net.parameters()}
        own = sum(p.nbytes for p in self.job.victim.net.parameters())
        per_image = sum(size for at, size in kept.items() if at not in weights) / len(self.images)
        batch = min(self.job.batch_size, len(self.job.images))
        return round(own + batch * (per_image + 4 * self.images[0].nbytes))
