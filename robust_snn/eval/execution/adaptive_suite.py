"""Suites with a budget: gradient modes are ranked on unscored images, and the best attack."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from robust_snn.attacks import attacks_of_budget, rank_modes
from robust_snn.attacks.mode_ranking import (
    ModeTrial,
    RankingEffort,
    fitting_temperature,
    modes_to_try,
)
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.execution.bridge_choice import choose_bridge
from robust_snn.eval.execution.out_of_memory import on_fewer
from robust_snn.eval.execution.preflight import Calibration, Preflight
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.scoring import gradient_checks
from robust_snn.eval.scoring.verdict import ProbeCost
from robust_snn.foreign.bridges import Bridge
from robust_snn.gradients import GradientMode, parse_mode
from robust_snn.kernels import derive_seed
from robust_snn.utils.checked_files import DamagedFile, read_record, write_record
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of
from robust_snn.victim import Victim
from robust_snn.victim.checked_inputs import steps_refusal

_log = logging.getLogger("robust_snn")
PROBE_FILE = "probe.json"
SHOWN = 8  # places of the ranking that a verdict names
SHARE, FEWEST = 8, 8  # one image in so many is probed, and at least so many are


def choose_attacks(checked: Preflight, calibration: Calibration, folder: RunFolder) -> Preflight:
    """Puts the attacks that suit the victim before those of its suite.

    The choice is kept in `probe.json` of the run's folder, where a resumed run finds it; results
    are bound to it.

    Args:
        checked: A checked job whose suite has a budget.
        calibration: Calibration `[B, C, H, W]` and labels `[B]` that are not scored.
        folder: Folder of the run.

    Returns:
        The job with all its attacks, and as diagnostics the ranking, the modes that were not tried,
        and how the network's own gradient compares.

    Raises:
        InputError: If the network takes no gradient mode, and its suite has no other attack.
    """
    job = checked.job
    most = max(FEWEST, len(job.images) // SHARE)
    calibration = calibration[0][:most], calibration[1][:most]
    record = probe_record(folder)
    if record is not None and record["images"] != len(calibration[1]):
        record = None  # the run has grown, and a choice may take more images
    if record is None:
        record = {
            "address": folder.address,
            "images": len(calibration[1]),
            **_choose(checked, calibration),
        }
        write_record(folder.path / PROBE_FILE, record)
    folder.bind(record["rows"])
    bridge = None if record["bridge"] is None else Bridge(**record["bridge"])
    if bridge is not None:
        bridge = replace(bridge, crossed=tuple(bridge.crossed))
        job = replace(job, bridged=bridge.across(job.victim))
    rows = tuple(AttackSpec(implementation="robust_snn", **row) for row in record["rows"])
    job = replace(job, suite=replace(job.suite, attacks=(*rows, *job.suite.attacks)))
    notes = (
        Diagnostic("probe", record["value"], "pass" if rows else "fail", record["why"]),
        *([] if bridge is None else [Diagnostic("bridge", 1.0, "pass", str(bridge))]),
        *gradient_checks.bridges_left_out(record.get("bridges_left_out", {})),
        *gradient_checks.replaced_gradients(record["replaced"], record["flaws"]),
        *gradient_checks.not_tried(record["not_tried"]),
        *gradient_checks.own_against_best(record["accuracies"], record["cost"]["images"]),
    )
    cost = ProbeCost(**record["cost"])
    return replace(checked, job=job, probe=cost, diagnostics=(*checked.diagnostics, *notes))


def probe_record(folder: RunFolder) -> dict[str, Any] | None:
    """What an earlier start of the run has chosen, if its file is sound."""
    path = folder.path / PROBE_FILE
    try:
        record = read_record(path)
    except FileNotFoundError:
        return None
    except DamagedFile:
        _log.warning("%s is damaged and will be made again", path)
        return None
    if record.get("address") != folder.address:
        _log.warning("%s belongs to another run and will be made again", path)
        return None
    return record


def _choose(checked: Preflight, calibration: Calibration) -> dict[str, Any]:
    """The chosen rows and why, as JSON values."""
    job, started = checked.job, time.perf_counter()
    images, labels = (part.to(device_of(job.victim)) for part in calibration)
    images, labels = images.float(), labels.long()
    victim, seed = job.victim.replace(), derive_seed(job.seed, "probe")
    _, (bridge, left_out) = on_fewer(
        lambda count: choose_bridge(victim, images[:count], labels[:count], job.threat, seed),
        len(images),
    )
    if bridge is not None:
        victim = bridge.across(victim)
    modes, not_tried = modes_to_try(victim, images)
    record: dict[str, Any] = {"rows": [], "value": 0.0, "not_tried": dict(not_tried)}
    record["bridge"] = None if bridge is None else asdict(bridge)
    record["bridges_left_out"] = left_out
    record |= {"accuracies": {}, "replaced": {}, "flaws": {}}
    record["cost"] = asdict(ProbeCost(0))
    if not modes:
        if not job.suite.attacks:
            why = next(iter(not_tried.values()))
            raise InputError(f"no attack of suite '{job.suite.name}' can run: {why}")
        why = "no gradient mode can be used, so only attacks without one ran; others may break more"
        return record | {"why": why}
    count, temperature, trials = _ranked((victim, images, labels), job.threat, modes, seed)
    ranking = ", ".join(f"{t.gradient} {t.soft_accuracy:.2f}" for t in trials[:SHOWN])
    why = f"share of {count} unscored images that holds, most useful mode first: {ranking}"
    if temperature != 1:
        why += f"; attacks divide logits by {temperature:.2g}, with which no loss saturates"
    rows = attacks_of_budget(
        job.suite.budget or "",
        trials,
        stochastic=checked.stochastic,
        classes=checked.classes,
        stepwise=steps_refusal(victim, images) is None,
        not_taken={parse_mode(mode).name for mode in not_tried},
        temperature=temperature,
        norm=job.threat.norm,
    )
    seconds = time.perf_counter() - started
    cost = ProbeCost(count, victim.cost.forwards, victim.cost.backwards, seconds)
    return record | {
        "rows": [asdict(row) for row in rows],
        "value": trials[0].soft_accuracy,
        "why": why,
        "accuracies": {trial.gradient: trial.accuracy for trial in trials},
        "replaced": {trial.gradient: trial.replaced for trial in trials},
        "flaws": {trial.gradient: trial.flaw for trial in trials if trial.flaw},
        "cost": asdict(cost),
    }


def _ranked(
    of: tuple[Victim, Tensor, Tensor], threat: Threat, modes: Sequence[GradientMode], seed: int
) -> tuple[int, float, tuple[ModeTrial, ...]]:
    """How many images were ranked on, what divides their logits, and the modes in their order."""
    victim, images, labels = of
    _log.info("probing gradient modes on %d images that are not scored", len(images))

    def rank(count: int) -> tuple[float, tuple[ModeTrial, ...]]:
        some = victim, images[:count], labels[:count]
        temperature = fitting_temperature(*some, seed)
        return temperature, rank_modes(
            *some,
            eps=threat.eps,
            norm=threat.norm,
            seed=seed,
            modes=modes,
            effort=RankingEffort.on(count),
            temperature=temperature,
        )

    count, (temperature, trials) = on_fewer(rank, len(images))
    for trial in trials:
        _log.info("probe: %s", trial)
    return count, temperature, trials
