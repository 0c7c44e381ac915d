"""`evaluate`: attacks, scores and counts, piece by piece, so that a killed run goes on."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from robust_snn.adapters import undisturbed
from robust_snn.bar import listening
from robust_snn.eval.adaptive import adapted
from robust_snn.eval.constraints import Threat
from robust_snn.eval.folder import RunFolder
from robust_snn.eval.job import Job
from robust_snn.eval.masking import masking
from robust_snn.eval.pieces import Piece, Worst
from robust_snn.eval.plan import Plan, configuration, environment, plan
from robust_snn.eval.progress import Meter, Progress
from robust_snn.eval.suite import Attack, Suite, load_suite
from robust_snn.eval.summary import Shard, summarise
from robust_snn.eval.verdict import Verdict
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
    eps: float | None = None,
    norm: str | None = None,
    draws: int | None = None,
    steps: int | None = None,
    eot: int | None = None,
    source: Victim | nn.Module | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    calibration: tuple[Tensor, Tensor] | None = None,
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
        eps: Radius of the norm ball; the suite's if left out.
        norm: Instead of the suite's norm: `"Linf"` or `"L2"`.
        draws: Instead of the suite's report draws.
        steps: Instead of every attack's steps (for Square: queries).
        eot: Instead of the number of draws that every attack averages.
        source: Another network, trained on the same task, from which attacks transfer: those of the
            suite that ask for one, or APGD on it where none does.
        batch_size: Images attacked together, 64 by default; halved where memory does not suffice.
        seed: Seed of all noise and all attacks.
        calibration: Images and labels on which an adaptive suite chooses its attacks; without them,
            the last ones of `images` are set aside for that and not scored.
        model_info: `name`, `kwargs` and `weights_sha256` of the model, for the record.
        data_info: `name` and `split` of the data, for the record.
        progress: Show a progress bar, or call this with every `Progress`.

    Raises:
        InputError: If an argument is wrong, or `out` holds another run. Nothing is written then.
        ConstraintViolation: If an attack breaks the threat model.
    """
    with ExitStack() as kept:
        for net in (victim, source):
            if isinstance(net, nn.Module):
                kept.enter_context(undisturbed(net))
        protocol = load_suite(suite).adapted(norm=norm, draws=draws, steps=steps, eot=eot)
        threat = Threat(protocol.norm, protocol.eps if eps is None else eps)
        if source is not None:
            protocol, source = protocol.with_transfer(), adapt(source, output="logits").eval()
        subject = adapt(victim, output="logits").eval()
        size = BATCH_SIZE if batch_size is None else batch_size
        planned = plan(subject, images, labels, protocol, threat, size, seed, source, calibration)
        config = configuration(planned, model_info or {}, data_info or {})
        folder = RunFolder(out, config)
        if planned.calibration is not None:
            planned = adapted(planned, planned.calibration, folder.path)
        with listening(progress) as listener:
            shards = _run(planned.job, folder, Meter(planned.job, listener))
        verdict = _verdict(planned, config, shards)
        verdict.save(folder.path / "verdict.json")
    return verdict


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
        standing = worst.all if job.suite.independent else worst.standing
        piece = None
        if len(standing):
            name = f"{number:02d}-{re.sub(r'[^A-Za-z0-9_-]', '_', row.name)}"
            piece = finish(row, name, partial(job.attack, row, shard, standing))
            worst.meet(piece)
        else:
            meter.finish(row, shard, computed=False)
        attacks.append(piece)
    meter.close(worst.select)
    return Shard(clean, tuple(attacks))


def _verdict(planned: Plan, config: Mapping[str, Any], shards: list[Shard]) -> Verdict:
    job, summary = planned.job, summarise(planned.job, shards)
    signs = masking(job, np.concatenate([s.clean.select for s in shards]), summary.modes)
    return Verdict(
        model=config["model"],
        data=config["data"],
        threat=config["threat"],
        suite=job.suite.name,
        draws=asdict(job.suite.draws),
        stochastic=planned.stochastic,
        clean=summary.clean,
        robust=summary.robust,
        attacks=summary.attacks,
        diagnostics=(*planned.diagnostics, *summary.diagnostics, *signs),
        environment=environment(job),
        seed=job.seed,
        seconds=summary.seconds,
    )
