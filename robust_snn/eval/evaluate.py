"""`evaluate`: attacks, scores and counts, piece by piece, so that a killed run goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robust_snn.eval.execution import ray_workers as cluster
from robust_snn.eval.execution.adaptive_suite import adapted
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.masking import masking
from robust_snn.eval.execution.preflight import Plan, configuration, environment, plan
from robust_snn.eval.execution.progress import Meter, Progress
from robust_snn.eval.execution.report_data import leave
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.summary import Shard, Summary, summarise
from robust_snn.eval.execution.workers import complete_shard, locked_shards, worker_processes
from robust_snn.eval.protocol.suite import Suite
from robust_snn.eval.protocol.suite_files import load_suite
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.foreign import adapt
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import undisturbed
from robust_snn.utils.progress_bar import listening
from robust_snn.victim import Victim

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
    workers: int | None = None,
    ray: str | None = None,
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
    where it stopped and returns the verdict that an uninterrupted run gives. Processes that are
    given the same folder share the work, and all return that verdict. The folder keeps
    `verdict.json` and the answers on every image, `results.npz`.

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
        workers: Processes that share the work, this one among them; 1 by default. On a Ray cluster:
            actors, by default as many as it has GPUs, or as its CPUs allow.
        ray: Address of a Ray cluster whose machines all see `out`; `"local"` starts one here.
        model_info: `name`, `kwargs` and `weights_sha256` of the model, for the record.
        data_info: `name` and `split` of the data, for the record.
        progress: Show a progress bar, or call this with every `Progress`.

    Raises:
        InputError: If an argument is wrong, or `out` holds another run. Nothing is written then.
        ConstraintViolation: If an attack breaks the threat model.
        FolderError: If `out` cannot be written to in the middle of the run.
    """
    with ExitStack() as kept:
        for net in (victim, source):
            if isinstance(net, nn.Module):
                kept.enter_context(undisturbed(net))
        protocol = load_suite(suite).override(norm=norm, draws=draws, steps=steps, eot=eot)
        threat = Threat(protocol.norm, protocol.eps if eps is None else eps)
        if source is not None:
            protocol, source = protocol.with_transfer(), adapt(source, output="logits").eval()
        subject = adapt(victim, output="logits").eval()
        size = BATCH_SIZE if batch_size is None else batch_size
        planned = plan(subject, images, labels, protocol, threat, size, seed, source, calibration)
        config = configuration(planned, model_info or {}, data_info or {})
        if workers is not None and workers < 1:
            raise InputError(f"workers must be at least 1, got {workers}")
        folder = RunFolder(out, config, _room(planned.job))
        if planned.calibration is not None:
            with folder.lock():
                planned = adapted(planned, planned.calibration, folder.path)
            folder.check_room(_room(planned.job))
        with listening(progress) as listener:
            meter = Meter(planned.job, folder, listener)
            shards = _run(planned.job, folder, meter, workers, ray)
        summary = summarise(planned.job, shards)
        verdict = _verdict(planned, config, summary)
        folder.conclude(
            summary.results.save,
            partial(leave, planned.job, summary.results, folder.load),
            lambda path: verdict.save(path / "verdict.json"),
        )
    return verdict


def _run(
    job: Job, folder: RunFolder, meter: Meter, workers: int | None, ray: str | None
) -> list[Shard]:
    if ray is None:
        beside: AbstractContextManager[None] = worker_processes(job, folder, (workers or 1) - 1)
        order: Generator[int] = locked_shards(range(job.shards), folder, meter.wait)
    else:
        beside = nullcontext()
        order = cluster.finished(job, folder, ray, workers, meter.wait)
    try:
        with beside, closing(order):
            done = {shard: complete_shard(job, folder, meter, shard) for shard in order}
    except KeyboardInterrupt:
        _log.warning("interrupted; the same evaluation into %s goes on from here", folder.path)
        raise
    return [done[shard] for shard in range(job.shards)]


def _room(job: Job) -> int:
    """Bytes of the adversarial images that a run may store, and as much again for small runs."""
    return job.images.nbytes * len(job.suite.attacks) + 2**20


def _verdict(planned: Plan, config: Mapping[str, Any], summary: Summary) -> Verdict:
    job = planned.job
    signs = masking(job, summary.select, summary.modes)
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
