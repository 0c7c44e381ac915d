"""`evaluate`: attacks, scores and counts, piece by piece, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import logging
import platform
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import robust_snn
from robust_snn.adapters import count_classes, device_of, undisturbed
from robust_snn.data import ImageSet, check_images
from robust_snn.errors import InputError
from robust_snn.eval import diagnostics
from robust_snn.eval.attacks import implementation, view
from robust_snn.eval.constraints import Threat
from robust_snn.eval.folder import RunFolder
from robust_snn.eval.job import Job
from robust_snn.eval.pieces import Piece, Worst
from robust_snn.eval.progress import Meter, Progress
from robust_snn.eval.report import listening
from robust_snn.eval.scoring import SAME, spread
from robust_snn.eval.suite import Attack, Suite, load_suite
from robust_snn.eval.summary import Shard, summarise
from robust_snn.eval.verdict import Diagnostic, Verdict
from robust_snn.kernels.backend import choose_backend
from robust_snn.victim import Victim, adapt

_log = logging.getLogger("robust_snn")
BATCH_SIZE = 64


def evaluate(
    victim: Victim | nn.Module | str,
    images: Tensor,
    labels: Tensor,
    *,
    suite: str | Path | Suite = "quick",
    out: str | Path = "runs/evaluation",
    eps: float = 8 / 255,
    norm: str | None = None,
    draws: int | None = None,
    steps: int | None = None,
    eot: int | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    model_info: Mapping[str, Any] | None = None,
    data_info: Mapping[str, Any] | None = None,
    progress: bool | Callable[[Progress], None] = False,
) -> Verdict:
    """Measures robust accuracy: a worst case over attacks, on noise that no attack has seen.

    Clean images are scored first. Then the attacks of the suite go through the images in order,
    each on those that still stand: an image whose worst version so far is never classified
    correctly on the select draws is broken, and not attacked again. Whatever an attack returns is
    checked against the threat model, scored on the select draws, and kept where it is worse than
    what was there. The report draws, which decide nothing, give every number.

    Every finished piece of work is a file in `out`. After a crash or Ctrl-C, the same call goes on
    where it stopped and returns the verdict that an uninterrupted run gives.

    Args:
        victim: A victim, a network or a timm name.
        images: `[N, C, H, W]`, floats in [0, 1].
        labels: `[N]`, integers.
        suite: Name of a shipped suite, path of a YAML file, or a `Suite`.
        out: Folder of the run. `verdict.json` is written there at the end.
        eps: Radius of the norm ball.
        norm: Instead of the suite's norm: `"Linf"` or `"L2"`.
        draws: Instead of the suite's report draws.
        steps: Instead of every attack's steps (for Square: queries).
        eot: Instead of the number of draws that every attack averages.
        batch_size: Images attacked together; halved where memory does not suffice.
        seed: Seed of all noise and all attacks.
        model_info: `name`, `kwargs` and `weights_sha256` of the model, for the record.
        data_info: `name` and `split` of the data, for the record.
        progress: Show a progress bar, or call this with every `Progress`.

    Raises:
        InputError: If an argument is wrong, or `out` holds another run. Nothing is written then.
        ConstraintViolation: If an attack breaks the threat model.
    """
    with undisturbed(victim) if isinstance(victim, nn.Module) else nullcontext():
        protocol = load_suite(suite).adapted(norm=norm, draws=draws, steps=steps, eot=eot)
        threat = Threat(protocol.norm, eps)
        plan = _plan(victim, images, labels, protocol, threat, batch_size, seed)
        config = _config(plan, model_info or {}, data_info or {})
        folder = RunFolder(out, config)
        with listening(progress) as listener:
            shards = _run(plan.job, folder, Meter(plan.job, listener))
        verdict = _verdict(plan, config, shards)
        verdict.save(folder.path / "verdict.json")
    return verdict


@dataclass(frozen=True)
class _Plan:
    """A checked job, and what the checks found out."""

    job: Job
    stochastic: bool
    diagnostics: tuple[Diagnostic, ...]


def _plan(
    subject: Victim | nn.Module | str,
    images: Tensor,
    labels: Tensor,
    suite: Suite,
    threat: Threat,
    batch_size: int,
    seed: int,
) -> _Plan:
    """Checks everything that can be checked before the first attack, and writes nothing."""
    victim = adapt(subject, output="logits").eval()
    channels = images.shape[-3] if isinstance(images, Tensor) and images.ndim > 2 else 0
    check_images(images, labels, in_chans=channels, num_classes=sys.maxsize)
    if images.ndim != 4:
        raise InputError(f"suites attack static images [N, C, H, W], got {tuple(images.shape)}")
    classes = count_classes(victim, images)  # refuses a wrong number of channels
    check_images(images, labels, in_chans=channels, num_classes=classes)
    for row in suite.attacks:
        implementation(row).check(row, threat)
        view(victim, row, seed)
    first = images[:batch_size].to(device_of(victim)).float()
    distance = spread(victim, first)
    stochastic = victim.stochastic or distance > SAME
    fits = [row for row in suite.attacks if implementation(row).least_classes(row) <= classes]
    unfit = [row for row in suite.attacks if row not in fits]
    if not fits:
        raise InputError(f"no attack of suite '{suite.name}' can run with {classes} classes")
    suite = replace(suite, attacks=tuple(fits))
    job = Job(
        victim,
        images.detach().float(),
        labels.detach().long(),
        suite if stochastic else suite.deterministic(),
        threat,
        seed,
        batch_size,
    )
    notes = (diagnostics.noise(victim.stochastic, distance), *diagnostics.left_out(unfit, classes))
    return _Plan(job, stochastic, notes)


def _run(job: Job, folder: RunFolder, meter: Meter) -> list[Shard]:
    try:
        return [_shard(job, folder, meter, number) for number in range(job.shards)]
    except KeyboardInterrupt:
        _log.warning("interrupted; the same evaluation into %s goes on from here", folder.path)
        raise


def _shard(job: Job, folder: RunFolder, meter: Meter, shard: int) -> Shard:
    """Finishes one shard; of its images, only the folder keeps the adversarial versions."""

    def finish(row: Attack | None, name: str, compute: Callable[[], Piece]) -> Piece:
        meter.begin(row, shard)
        name = f"{name}/{shard:05d}"
        piece = folder.load(name)
        if computed := piece is None:
            piece = compute()
            folder.save(name, piece)
        meter.finish(row, shard, computed=computed)
        return replace(piece, images=piece.images[:0])

    clean = finish(None, "clean", lambda: job.clean(shard))
    worst, attacks = Worst(clean), []
    for number, row in enumerate(job.suite.attacks, 1):
        standing = worst.standing
        piece = None
        if len(standing):
            name = f"{number:02d}-{re.sub(r'[^A-Za-z0-9_-]', '_', row.name)}"
            piece = finish(row, name, partial(job.attack, row, shard, standing))
            worst.meet(piece)
        attacks.append(piece)
    meter.close(worst.select)
    return Shard(clean, tuple(attacks))


def _config(
    plan: _Plan, model_info: Mapping[str, Any], data_info: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that the numbers depend on."""
    job = plan.job
    net = job.victim.net
    weights = _weights_sha256(net)
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
        "suite": asdict(job.suite),
        "implementations": [implementation(row).describe(row) for row in job.suite.attacks],
        "weights": weights,
        "gradient": str(job.victim.gradient),
        "stochastic": plan.stochastic,
        "batch_size": job.batch_size,
        "seed": job.seed,
        "device": device_of(job.victim).type,
        "backend": _backend(job),
        "robust_snn": robust_snn.__version__,
        "torch": torch.__version__,
    }


def _overridden(own: dict[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's words in place of what a net and a tensor know about themselves."""
    return {key: info.get(key, value) for key, value in own.items()}


def _verdict(plan: _Plan, config: Mapping[str, Any], shards: list[Shard]) -> Verdict:
    job, summary = plan.job, summarise(plan.job, shards)
    return Verdict(
        model=config["model"],
        data=config["data"],
        threat=config["threat"],
        suite=job.suite.name,
        draws=asdict(job.suite.draws),
        stochastic=plan.stochastic,
        clean=summary.clean,
        robust=summary.robust,
        attacks=summary.attacks,
        diagnostics=(*plan.diagnostics, *summary.diagnostics),
        environment={
            "robust_snn": robust_snn.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": _device_name(job),
            "backend": _backend(job),
            "threads": torch.get_num_threads(),
        },
        seed=job.seed,
        seconds=summary.seconds,
    )


def _weights_sha256(net: nn.Module) -> str:
    """Digest of every named tensor of a net's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _backend(job: Job) -> str:
    return choose_backend("auto", next(job.victim.net.parameters(), job.images))


def _device_name(job: Job) -> str:
    device = device_of(job.victim)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
