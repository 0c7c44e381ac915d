"""What a run depends on and where it ran, for its folder and its verdict."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from robust_snn.data import ImageSet
from robust_snn.eval.execution.grown_run import IMAGES
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.preflight import Preflight
from robust_snn.eval.protocol.implementations import implementation
from robust_snn.foreign import adaptation
from robust_snn.foreign.identity import identity
from robust_snn.kernels.backend import choose_backend
from robust_snn.utils.modules import device_name, device_of
from robust_snn.utils.version import __version__
from robust_snn.victim import Victim


def configuration(
    checked: Preflight, model_info: Mapping[str, Any], data_info: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that the numbers depend on, as JSON values.

    Args:
        checked: The checked job.
        model_info: `name`, `kwargs`, `weights_sha256` and arguments of `adapt` of the model, where
            the caller knows them.
        data_info: `name` and `split` of the data, where the caller knows them.
    """
    job = checked.job
    assert job.digests is not None
    net = job.victim.net
    what_ran = identity(job.victim, job.images)
    inner, adapted = adaptation(net)
    model = {
        "name": type(inner).__name__,
        "kwargs": {},
        "weights_sha256": what_ran["weights"],
        "parameters": sum(p.numel() for p in net.parameters()),
        "adapt": adapted,
    }
    data = {
        **_overridden({"name": "images", "split": "all"}, data_info),
        "n": len(job.images),
        "sha256": job.digests.sha256,
        "calibration": len(checked.calibration[1]) if checked.calibration else 0,
    }
    return {
        "model": _overridden(model, model_info),
        "data": data,
        IMAGES: {"digests": list(job.digests.images), "labels": job.labels.tolist()},
        "threat": {**asdict(job.threat), **({"noise": "known"} if job.suite.known_noise else {})},
        "suite": {**asdict(job.suite), "attacks": ()},
        "attacks": {row.name: asdict(row) for row in job.suite.attacks},
        "order": [f"{r.name}: {implementation(r).describe(r)}" for r in job.suite.attacks],
        "victim": what_ran,
        "source": None if job.source is None else identity(job.source, job.images),
        "stochastic": checked.stochastic,
        "batch_size": job.batch_size,
        "seed": job.seed,
        "calibration": checked.calibration and ImageSet("", "", *checked.calibration, ()).sha256,
        "device": device_of(job.victim).type,
        "backend": _backend(job),
        "robust_snn": __version__,
        "torch": torch.__version__,
    }


def environment(job: Job) -> dict[str, Any]:
    """Versions, device, kernel backend, threads and roundings, as in `verdict.json`."""
    return {
        "robust_snn": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device_name(device_of(job.victim)),
        "backend": _backend(job),
        "threads": torch.get_num_threads(),
        **({"rounding": rounding} if (rounding := other_rounding(job.victim)) else {}),
    }


def other_rounding(victim: Victim) -> str:
    """How attacks round a network otherwise than its scores do, such as `"bf16, tf32"`, if so."""
    chosen = [name for name in ("channels_last", "bf16", "tf32") if getattr(victim, name)]
    if victim.sparse != "never":
        chosen.append(f"sparse={victim.sparse}")
    return ", ".join(chosen)


def _overridden(own: dict[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """What the caller says, as JSON, in place of what a network and a tensor tell of themselves."""
    chosen = {key: info.get(key, value) for key, value in own.items()}
    values: dict[str, Any] = json.loads(json.dumps(chosen, default=str))
    return values


def _backend(job: Job) -> str:
    return choose_backend("auto", next(job.victim.net.parameters(), job.labels))
