"""Every check that needs no attack, done before the first one; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from robust_snn.attacks.attack_losses import STEPWISE
from robust_snn.attacks.mode_reach import TRIED_ON, tried_reach
from robust_snn.attacks.threat_radius import check_reach
from robust_snn.data.checks import check_some_pixels
from robust_snn.data.image_digests import DataDigests, data_digests
from robust_snn.data.image_set import held_out
from robust_snn.data.lazy_images import LazyImages, images_at
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.out_of_memory import in_parts, on_fewer
from robust_snn.eval.execution.row_passes import is_blind
from robust_snn.eval.protocol.implementations import (
    attacked_victim,
    implementation,
    transferred_modes,
)
from robust_snn.eval.protocol.suite import AttackSpec, Suite
from robust_snn.eval.scoring import verdict_checks
from robust_snn.eval.scoring.noise_draws import (
    SAME_LOGITS,
    batch_influence,
    gradient_influence,
    noise_spread,
    repeat_spread,
)
from robust_snn.eval.scoring.verdict import ProbeCost
from robust_snn.kernels import derive_seed
from robust_snn.metrics.image_energy import refuse_unknown_costs
from robust_snn.neurons import with_known_noise
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of
from robust_snn.victim.checked_inputs import (
    checked_inputs,
    checked_set,
    count_classes,
    first_images,
    steps_refusal,
)

Calibration = tuple[Tensor, Tensor]  # images with their labels
BESIDE = 16  # images that pass together where it is asked whether they influence each other
CALIBRATION = 32  # images on which a suite with a budget chooses its attacks


@dataclass(frozen=True)
class Preflight:
    """A checked job, and what the checks measured.

    Attributes:
        job: The job as it will run: without the attacks that cannot, and with one draw where the
            victim has no noise. If its suite has a budget, the attacks are still to be chosen.
        stochastic: Whether scores differ from draw to draw.
        classes: Number of classes `K`.
        diagnostics: What a verdict will say of these checks.
        calibration: Calibration and labels on which a suite with a budget chooses; else None.
        probe: What the choice has cost, once it is made.
    """

    job: Job
    stochastic: bool
    classes: int
    diagnostics: tuple[Diagnostic, ...]
    calibration: Calibration | None = None
    probe: ProbeCost | None = None


def preflight(job: Job, calibration: Calibration | None = None) -> Preflight:
    """Checks a job.

    Args:
        job: What a caller asks for; nothing in it has been checked.
        calibration: Images and labels on which a suite with a budget chooses its attacks; the last
            ones of every class of the job if left out.

    Raises:
        InputError: If the job cannot run as a whole.
    """
    images = first_images(job.images)
    check_some_pixels(images)
    labels, classes = checked_set(job.victim, job.images, job.labels)
    count_classes(job.victim, images[:1])  # attacks meet a single image where one is left
    check_reach(job.threat.eps, job.threat.norm, images)
    if isinstance(job.images, Tensor):
        job = replace(job, images=images.detach().float())
    job = replace(job, labels=labels.detach())
    if job.suite.known_noise:
        seed = derive_seed(job.seed, "known noise")
        known = with_known_noise(job.victim.net, seed, job.images)
        job = replace(job, victim=job.victim.replace(net=known))
    if job.suite.budget is None:
        calibration = None
    elif calibration is None:
        job, calibration = _held_back(job)
    else:
        calibration = checked_inputs(job.victim, *calibration)[:2]
    for row in job.suite.attacks:
        _check_attack(job, row)
    spread = _spread(job)
    if job.source is not None:
        others = count_classes(job.source, images)
        if others != classes:
            raise InputError(f"the source has {others} classes, the model {classes}")
    corrupting = any(implementation(row).judge is not None for row in job.suite.attacks)
    stochastic = job.victim.stochastic or spread > SAME_LOGITS or corrupting
    suite, not_run = _runnable(job, classes)
    suite = replace(suite, eps=job.threat.eps, sweep={})
    return Preflight(
        replace(job, suite=suite if stochastic else suite.deterministic(), classes=classes),
        stochastic,
        classes,
        (
            verdict_checks.noise(job.victim.stochastic, spread, _repeats(job)),
            *_beside(job, spread),
            *_followed(job, spread),
            *verdict_checks.counted_calls(getattr(job.victim.net, "counters", None)),
            *verdict_checks.not_run(
                not_run, suite.budget is not None, _unfollowed(job.suite, suite)
            ),
        ),
        calibration,
    )


def identified(checked: Preflight, known: DataDigests | None) -> Preflight:
    """The checked job with what identifies its images, all of which are read and checked for it.

    Args:
        checked: The job.
        known: What a run in its folder says of as many images with the same labels. Those on disk
            are then read later, and have to be what it says.

    Raises:
        UnreadableImage: If one cannot be read.
    """
    job, images = checked.job, checked.job.images
    if read := known is None or isinstance(images, Tensor):
        known = data_digests(images, job.labels)
    if isinstance(images, LazyImages):
        images = images.verified(known.images, read)
    return replace(checked, job=replace(job, images=images, digests=known))


def _spread(job: Job) -> float:
    """How much draws differ on the first batch, in parts where memory does not suffice."""
    images, device = job.images[: job.batch_size], device_of(job.victim)

    def spread(start: int, stop: int) -> float:
        return noise_spread(job.victim, images[start:stop].to(device))

    return max(in_parts(spread, 0, len(images)))


def _beside(job: Job, spread: float) -> list[Diagnostic]:
    """What is said of images that move the logits of an image beside them."""
    victim, images = job.victim, job.images[: min(BESIDE, job.batch_size)]
    if victim.draws_by_batch:
        why = "images pass one at a time, since the network draws once for a whole batch"
        return verdict_checks.not_looked_at(verdict_checks.BESIDE, why)
    if spread > SAME_LOGITS and not victim.stochastic:
        why = "noise that is not under control would hide what they do"
        return verdict_checks.not_looked_at(verdict_checks.BESIDE, why, hidden=True)
    if len(images) < 2:
        return verdict_checks.not_looked_at(verdict_checks.BESIDE, "images pass one at a time")
    images = images.to(device_of(victim))
    influence = on_fewer(lambda count: batch_influence(victim, images[:count]), len(images))[1]
    return verdict_checks.beside(influence)


def _followed(job: Job, spread: float) -> list[Diagnostic]:
    """What is said of a network that is another one where a gradient is asked for.

    It needs a gradient; where there is none, the attacks that are not run say so.
    """
    victim, images = job.victim, job.images[: job.batch_size]  # as many as attacks show
    if spread > SAME_LOGITS and not victim.stochastic:
        why = "noise that is not under control would hide what a gradient changes"
        return verdict_checks.not_looked_at(verdict_checks.FOLLOWED, why, hidden=True)
    if victim.draws_by_batch:
        why = "scores pass one image at a time, since the network draws once for a whole batch"
        return verdict_checks.not_looked_at(verdict_checks.FOLLOWED, why)
    if tried_reach(victim, images).refusal is not None:
        return []
    images = images.float().to(device_of(victim))
    influence = on_fewer(lambda count: gradient_influence(victim, images[:count]), len(images))[1]
    return verdict_checks.followed(influence)


def _repeats(job: Job) -> bool:
    """Whether a draw gives the same answers to a few images again."""
    few = job.images[:TRIED_ON].to(device_of(job.victim))
    return repeat_spread(job.victim, few) <= SAME_LOGITS


def _held_back(job: Job) -> tuple[Job, Calibration]:
    """The job without a fifth of its images, 32 at most, the last of every class; and those.

    Raises:
        InputError: If there are fewer than two images.
    """
    images, labels = job.images, job.labels
    if len(images) < 2:
        raise InputError("an adaptive suite needs 2 images: some choose its attacks")
    apart = torch.from_numpy(held_out(labels, min(CALIBRATION, max(1, len(images) // 5))))
    kept = replace(job, images=images_at(images, np.flatnonzero(~apart)), labels=labels[~apart])
    return kept, (images[apart], labels[apart])


def _check_attack(job: Job, row: AttackSpec) -> None:
    """Refuses an attack that its implementation cannot run on this job."""
    runs, which = implementation(row), f"'{row.name}' of suite '{job.suite.name}'"
    if row.needs_source and job.source is None:
        raise InputError(
            f"{which} attacks from another network: give --source-checkpoint FILE, or source="
        )
    if job.threat.norm not in runs.norms:
        raise InputError(
            f"{which} knows no norm {job.threat.norm}; it can be {' or '.join(runs.norms)}"
        )
    runs.check(row, job.threat)
    last = len(job.ids(job.shards - 1))
    if last < runs.least_images(row):
        raise InputError(
            f"{which} needs {runs.least_images(row)} images at once, and {last} of "
            f"{len(job.images)} is left for the last batch; take another number of images or "
            f"--batch-size, which is {job.batch_size}"
        )
    draws, together = job.suite.draws.report, runs.draws_together(row)
    if draws % together:
        raise InputError(
            f"{which} is the mean of {together} severities, one a draw: take {together} report "
            f"draws, {2 * together} and so on, or name a severity; got {draws}"
        )
    runs.check_images(row, first_images(job.images), job.threat)
    if runs.given is not None:
        runs.given.check(job.images, job.threat, row.name)
    if job.images.ndim == 5 and not runs.events:
        raise InputError(
            f"{which} attacks static images [N, C, H, W]; event frames need attacks of ours, as in "
            "suite events-sparse"
        )
    attacked_victim(job.victim, row, job.seed)


def _runnable(job: Job, classes: int) -> tuple[Suite, dict[str, str]]:
    """The suite without the attacks that cannot run on this victim, and why not, by their names.

    Raises:
        InputError: If no attack is left.
    """
    suite = job.suite
    reasons = {row.name: _refusal(job, row, classes) for row in suite.attacks}
    fits = tuple(row for row in suite.attacks if reasons[row.name] is None)
    not_run = {name: why for name, why in reasons.items() if why is not None}
    if not fits and suite.budget is None:
        every = "; ".join(f"{name}: {why}" for name, why in not_run.items())
        raise InputError(f"no attack of suite '{suite.name}' can run on this network: {every}")
    return replace(suite, attacks=fits), not_run


def _unfollowed(asked: Suite, runs: Suite) -> bool:
    """Whether a suite asks for attacks along gradients and none is left, images that were made
    elsewhere counted as one. Of a suite that chooses its attacks, the choice says so."""

    def follow(suite: Suite) -> bool:
        return any(implementation(row).given or not is_blind(row) for row in suite.attacks)

    return runs.budget is None and follow(asked) and not follow(runs)


def _unknown_energy(job: Job) -> str | None:
    """Why attacks cannot follow the energy of the victim; None if they can."""
    try:
        refuse_unknown_costs(job.victim, job.images[:1].float().to(device_of(job.victim)))
    except InputError as error:
        return str(error)
    return None


def _refusal(job: Job, row: AttackSpec, classes: int) -> str | None:
    """Why an attack cannot run on the victim; None if it can."""
    runs = implementation(row)
    if runs.least_classes(row) > classes:
        return f"cannot run with {classes} classes"
    if row.implementation == "energy" and (why := _unknown_energy(job)) is not None:
        return why
    stepwise = row.options.get("loss") in STEPWISE
    if stepwise and (why := steps_refusal(job.victim, job.images[:TRIED_ON])) is not None:
        return f"loss {row.options['loss']}: {why}"
    images, attacked = job.images[:TRIED_ON], attacked_victim(job.victim, row, job.seed)
    refusal = tried_reach(attacked, images.float(), backward=not runs.blind(row)).refusal
    for mode in (*row.options.get("mix", ()), *transferred_modes(row)):
        reach = tried_reach(attacked.replace(gradient=mode), images.float())
        nothing = None if reach.neurons else f"{mode} reaches no neuron of this network"
        refusal = refusal or reach.refusal or nothing
    return refusal
