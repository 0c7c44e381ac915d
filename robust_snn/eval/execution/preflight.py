"""What a run will do: every check that needs no attack, and the record of what it depends on."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robust_snn.data import ImageSet, check_images
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.execution.job import Job
from robust_snn.eval.protocol.implementations import implementation, view
from robust_snn.eval.protocol.suite import Suite
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.scoring import verdict_checks as diagnostics
from robust_snn.eval.scoring.noise_draws import SAME, spread
from robust_snn.kernels.backend import choose_backend
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import device_of, weights_sha256
from robust_snn.utils.version import __version__
from robust_snn.victim import Victim
from robust_snn.victim_scoring import count_classes

Images = tuple[Tensor, Tensor]  # with their labels
CALIBRATION = 32  # images of a probe


@dataclass(frozen=True)
class Plan:
    """A checked job, and what the checks found out.

    Attributes:
        job: The job. With a budget, its suite lacks the attacks that a probe will choose.
        stochastic: Whether the victim is noisy.
        diagnostics: What the checks found.
        calibration: Images and labels of that probe.
    """

    job: Job
    stochastic: bool
    diagnostics: tuple[Diagnostic, ...]
    calibration: Images | None = None


def plan(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    suite: Suite,
    threat: Threat,
    batch_size: int,
    seed: int,
    source: Victim | None = None,
    calibration: Images | None = None,
) -> Plan:
    """Checks everything that can be checked before the first attack, and writes nothing."""
    classes = _check_data(victim, images, labels)
    if suite.budget is None:
        calibration = None
    elif calibration is None:
        (images, labels), calibration = _set_aside(images, labels)
    else:
        _check_data(victim, *calibration)
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    for row in suite.attacks:
        if row.needs_source and source is None:
            raise InputError(
                f"'{row.name}' of suite '{suite.name}' attacks from another network: give "
                "--source-checkpoint FILE, or source="
            )
        if threat.norm not in implementation(row).norms:
            raise InputError(
                f"'{row.name}' of suite '{suite.name}' knows no norm {threat.norm}; it can be "
                f"{' or '.join(implementation(row).norms)}"
            )
        implementation(row).check(row, threat)
        if images.ndim == 5 and not implementation(row).events:
            raise InputError(
                f"'{row.name}' of suite '{suite.name}' attacks static images [N, C, H, W]; event "
                "frames need attacks of ours, as in suite events-sparse"
            )
        view(victim, row, seed)
    if source is not None and (others := count_classes(source, images)) != classes:
        raise InputError(f"the source has {others} classes, the model {classes}")
    first = images[:batch_size].to(device_of(victim)).float()
    distance = spread(victim, first)
    corrupting = any(implementation(row).judge is not None for row in suite.attacks)
    stochastic = victim.stochastic or distance > SAME or corrupting
    fits = [row for row in suite.attacks if implementation(row).least_classes(row) <= classes]
    unfit = [row for row in suite.attacks if row not in fits]
    if not fits and suite.budget is None:
        raise InputError(f"no attack of suite '{suite.name}' can run with {classes} classes")
    suite = replace(suite, eps=threat.eps, attacks=tuple(fits), sweep={})
    job = Job(
        victim,
        images.detach().float(),
        labels.detach().long(),
        suite if stochastic else suite.deterministic(),
        threat,
        seed,
        batch_size,
        source,
    )
    notes = (diagnostics.noise(victim.stochastic, distance), *diagnostics.left_out(unfit, classes))
    return Plan(job, stochastic, notes, calibration)


def _set_aside(images: Tensor, labels: Tensor) -> tuple[Images, Images]:
    """Parts the last fifth, 32 images at most, from those that will be scored.

    Returns:
        Images and labels to score, and those of the probe.

    Raises:
        InputError: If there are fewer than two images.
    """
    if len(images) < 2:
        raise InputError("an adaptive suite needs 2 images: the last ones choose its attacks")
    kept = len(images) - min(CALIBRATION, max(1, len(images) // 5))
    return (images[:kept], labels[:kept]), (images[kept:], labels[kept:])


def _check_data(victim: Victim, images: Tensor, labels: Tensor) -> int:
    """Refuses images and labels that do not suit the victim; returns the number of classes."""
    fits = isinstance(images, Tensor) and images.ndim in (4, 5)
    classes = sys.maxsize
    if fits and images.is_floating_point() and len(images):
        classes = count_classes(victim, images)  # a spiking net refuses other channel counts
    channels = images.shape[-3] if isinstance(images, Tensor) and images.ndim > 2 else 0
    check_images(images, labels, in_chans=channels, num_classes=classes)
    return classes


def configuration(
    plan: Plan, model_info: Mapping[str, Any], data_info: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that the numbers depend on."""
    job = plan.job
    net = job.victim.net
    weights = weights_sha256(net)
    model = {
        "name": type(net).__name__,
        "kwargs": {},
        "weights_sha256": weights,
        "parameters": sum(p.numel() for p in net.parameters()),
    }
    data = {
        **_overridden({"name": "images", "split": "all"}, data_info),
        "n": len(job.images),
        "sha256": ImageSet("", "", job.images, job.labels, ()).sha256,
    }
    return {
        "model": _overridden(model, model_info),
        "data": data,
        "threat": asdict(job.threat),
        "suite": {**asdict(job.suite), "attacks": ()},
        "attacks": {row.name: asdict(row) for row in job.suite.attacks},
        "order": [f"{r.name}: {implementation(r).describe(r)}" for r in job.suite.attacks],
        "weights": weights,
        "source": None if job.source is None else weights_sha256(job.source.net),
        "gradient": str(job.victim.gradient),
        "stochastic": plan.stochastic,
        "batch_size": job.batch_size,
        "seed": job.seed,
        "calibration": plan.calibration and ImageSet("", "", *plan.calibration, ()).sha256,
        "device": device_of(job.victim).type,
        "backend": _backend(job),
        "robust_snn": __version__,
        "torch": torch.__version__,
    }


def _overridden(own: dict[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's words, as JSON, in place of what a net and a tensor know about themselves."""
    chosen = {key: info.get(key, value) for key, value in own.items()}
    words: dict[str, Any] = json.loads(json.dumps(chosen, default=str))
    return words


def environment(job: Job) -> dict[str, Any]:
    """Where a job runs, for the record."""
    device = device_of(job.victim)
    return {
        "robust_snn": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "backend": _backend(job),
        "threads": torch.get_num_threads(),
    }


def _backend(job: Job) -> str:
    return choose_backend("auto", next(job.victim.net.parameters(), job.images))
