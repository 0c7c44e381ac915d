"""`evaluate`: from a victim, images and a suite to a verdict."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robust_snn.attacks.threat_radius import own_radius
from robust_snn.data.lazy_images import Images, LazyImages
from robust_snn.data.map_style import MapStyle, with_labels
from robust_snn.eval.execution import ray_workers
from robust_snn.eval.execution import workers as local_workers
from robust_snn.eval.execution.adaptive_suite import choose_attacks
from robust_snn.eval.execution.certified_images import certified_images
from robust_snn.eval.execution.estimate import Estimate, estimate_cost, say_if_long
from robust_snn.eval.execution.final_verdict import verdict_of
from robust_snn.eval.execution.grown_run import known_images
from robust_snn.eval.execution.job import Job
from robust_snn.eval.execution.kept_versions import bytes_needed, check_keep
from robust_snn.eval.execution.measured_energy import energy_use
from robust_snn.eval.execution.preflight import Calibration, identified, preflight
from robust_snn.eval.execution.progress import Meter, Progress
from robust_snn.eval.execution.report_measures import save_report_data
from robust_snn.eval.execution.run_folder import RunFolder
from robust_snn.eval.execution.run_record import configuration
from robust_snn.eval.execution.shard_result import FinishedShard
from robust_snn.eval.execution.summary import summarise
from robust_snn.eval.protocol.suite import Suite
from robust_snn.eval.protocol.suite_files import load_suite
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.eval.reporting.html import REPORT_FILE, write_report
from robust_snn.eval.reporting.page_templates import say_if_no_page
from robust_snn.eval.scoring.verdict import Verdict
from robust_snn.foreign import adapt_to
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.errors import InputError
from robust_snn.utils.modules import undisturbed
from robust_snn.utils.optional_work import if_possible
from robust_snn.utils.plain_context import plain_context
from robust_snn.utils.progress_bar import progress_listener
from robust_snn.utils.user_files import check_output_folder
from robust_snn.utils.values import number, whole
from robust_snn.victim import Victim

_log = logging.getLogger("robust_snn")
SHARD_SIZE = 64


@checked_types
def evaluate(
    victim: Victim | nn.Module | str,
    images: Images | MapStyle,
    labels: Tensor | None = None,
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
    calibration: Calibration | None = None,
    certificates: str | Path | None = None,
    keep: str = "worst",
    workers: int | None = None,
    ray: str | None = None,
    gpu_share: float = 1.0,
    model_info: Mapping[str, Any] | None = None,
    data_info: Mapping[str, Any] | None = None,
    progress: bool | Callable[[Progress], None] = False,
    report: bool | Mapping[str, Any] = True,
) -> Verdict:
    """Measures robust accuracy: a worst case over attacks, on noise that no attack has seen.

    Clean images are scored first. Then the attacks of the suite run in order, each on the images
    that are not broken: an image is broken, and not attacked again, once the worst version of it is
    misclassified on all select draws, in an adaptive suite on 97 %. Whatever an attack
    returns is checked against the threat model, scored on the select draws, and kept where it is
    worse than the version before. The report draws, which decide nothing, give every number.

    Every attack on every shard of the images is one file in `out` once it is finished. After a
    crash or Ctrl-C, the same call resumes where it stopped and returns the verdict that an
    uninterrupted run gives; with more images behind those, it goes on from there. Processes that
    are given the same folder share the work, and all return that verdict. The folder keeps
    `verdict.json`, `report.html` and the predictions on every image, `results.npz`.

    Args:
        victim: A victim, a network or a timm name.
        images: `[N, C, H, W]`, floats in [0, 1]; or a map-style data set of such images or of
            pictures, each with its label, which are read as they are needed, as are the images of
            `open_dataset` and arrays that are mapped into memory.
        labels: `[N]`, integers; those of the data set if left out.
        suite: Name of a shipped suite, path of a YAML file, or a `Suite`.
        out: Folder of the run, or its URL, such as `s3://bucket/run`, which fsspec has to know.
            `verdict.json` is written there at the end.
        eps: Radius of the norm ball; the suite's if left out, where the norm is the suite's.
        norm: Instead of the suite's norm: `"Linf"`, `"L2"` or `"L1"`.
        draws: Instead of the suite's report draws.
        steps: Instead of every attack's steps (for Square: queries).
        eot: Instead of the number of draws that every attack averages.
        source: Another network, trained on the same task, from which attacks transfer: those of the
            suite that ask for one, or APGD on it where none does.
        batch_size: Images attacked together, 64 by default; halved where memory does not suffice.
        seed: Seed of all noise and all attacks.
        calibration: Images and labels on which an adaptive suite chooses its attacks; without them,
            the last ones of every class of `images` are taken for that and not scored.
        certificates: Folder of `robust-snn certify --eps` on the same network and images, whose
            certified accuracy the verdict then has beside the robust one.
        keep: The adversarial images that stay in `out`: `"worst"` the worst version of every image,
            `"all"` every attack's, `"none"` none, and no `submit` either.
        workers: Processes that share the work, this one among them; 1 by default. On a Ray cluster:
            actors, by default as many as it has GPUs, or as its CPUs allow.
        ray: Address of a Ray cluster whose machines all see `out`; `"local"` starts one here.
        gpu_share: Of a GPU, in (0, 1], that each worker on a Ray cluster takes, whose memory must
            suffice for all that share it.
        model_info: `name`, `kwargs`, `weights_sha256` and arguments of `adapt` (`adapt`) of the
            model, for the record.
        data_info: `name` and `split` of the data, for the record.
        progress: Show a progress bar, or call this with every `Progress`.
        report: Write `report.html` too, where the extra `report` is installed; else a log line says
            so before the work, and `write_report` makes the page later. A mapping gives what else
            the page says: `command`, and the names of the `classes`.

    Raises:
        InputError: If an argument is wrong, or `out` holds another run. Nothing is written then.
        ConstraintViolation: If an attack breaks the threat model.
        CertificateContradicted: If an attack breaks an image that is certified.
        FolderError: If `out` cannot be written to in the middle of the run.
    """
    workers = None if workers is None else whole(workers, "workers", 1)
    gpu_share = _share(gpu_share, ray)
    check_keep(keep)
    protocol = _protocol(suite, eps, norm, draws, steps, eot)
    check_output_folder(out, "the run")
    if report is not False:
        say_if_no_page(REPORT_FILE)
    with ExitStack() as entered:
        entered.enter_context(_restored(victim, source))
        listener = entered.enter_context(progress_listener(progress))
        listener(Progress.starting("checking network and images"))
        job = _job((victim, source), with_labels(images, labels), protocol, batch_size, seed)
        checked = preflight(job, calibration)
        checked = identified(checked, known_images(out, checked.job.labels))
        if ray is None:
            local_workers.check_workers(checked.job, workers)
        else:
            ray_workers.require_ray()
        proven = None if certificates is None else certified_images(checked.job, certificates)
        config = configuration(checked, model_info or {}, data_info or {})
        folder = RunFolder(out, config, bytes_needed(checked.job, keep), keep)
        if checked.calibration is not None:
            listener(Progress.starting("choosing attacks on images that are not scored"))
            with folder.lock():
                checked = choose_attacks(checked, checked.calibration, folder)
            folder.check_room(bytes_needed(checked.job, keep))
        meter = Meter(checked.job, folder, listener)
        say_if_long(checked.job, meter.total - meter.finished, workers or 1)
        shards = _finish_shards(checked.job, folder, meter, workers, ray, gpu_share)
        if isinstance(checked.job.images, LazyImages):
            meter.say("reading images again")  # of shards that were finished before
            checked.job.images.read_rest()
        summary = summarise(checked.job, shards)
        energy = energy_use(checked.job, shards)
        meter.say("looking for signs of a masked gradient")
        verdict = replace(verdict_of(checked, config, summary, proven), energy=energy)
        meter.say("measuring what the report shows")
        folder.conclude(
            summary.predictions.save,
            partial(save_report_data, checked.job, summary, folder),
            lambda path: verdict.save(path / "verdict.json"),
        )
    write_page(out, report)
    return verdict


def _share(value: float, ray: str | None) -> float:
    """The checked share of a GPU."""
    share = number(value, "gpu_share")
    if not 0 < share <= 1:
        raise InputError(f"gpu_share must lie in (0, 1], got {share:g}")
    if ray is None and share < 1:
        raise InputError(f"gpu_share={share:g} is for workers of a Ray cluster: give ray, too")
    return share


def write_page(run: str | Path, report: bool | Mapping[str, Any]) -> None:
    """Writes the page of a finished run as `evaluate` was asked to; that costs no verdict."""
    if report is not False:
        about = {} if report is True else report
        if_possible("report", lambda: write_report(run, **about))


@checked_types
def estimate(
    victim: Victim | nn.Module | str,
    images: Images | MapStyle,
    labels: Tensor | None = None,
    *,
    suite: str | Path | Suite = "quick",
    eps: float | None = None,
    norm: str | None = None,
    draws: int | None = None,
    steps: int | None = None,
    eot: int | None = None,
    source: Victim | nn.Module | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    calibration: Calibration | None = None,
    keep: str = "worst",
) -> Estimate:
    """What `evaluate` would cost, from a few timed passes; nothing is written.

    The arguments are those of `evaluate`.

    Raises:
        InputError: If an argument is wrong, or the evaluation would be refused.
    """
    protocol = _protocol(suite, eps, norm, draws, steps, eot)
    with _restored(victim, source):
        job = _job((victim, source), with_labels(images, labels), protocol, batch_size, seed)
        checked = preflight(job, calibration)
        return estimate_cost(checked, bytes_needed(checked.job, check_keep(keep)))


def check_evaluation(
    victim: Victim, data: Calibration, calibration: Calibration, *, suite: Suite, eps: float
) -> None:
    """Refuses what `evaluate` would refuse of these arguments.

    Args:
        victim: The victim.
        data: Images and labels.
        calibration: Those on which a suite with a budget chooses its attacks.
        suite: The suite.
        eps: Radius of the threat.

    Raises:
        InputError: If the evaluation would be refused.
    """
    protocol = _protocol(suite, eps, None, None, None, None)
    with _restored(victim):
        preflight(_job((victim, None), data, protocol, None, 0), calibration)


def _protocol(
    suite: str | Path | Suite,
    eps: float | None,
    norm: str | None,
    draws: int | None,
    steps: int | None,
    eot: int | None,
) -> tuple[Suite, Threat]:
    """The suite with a caller's numbers, and its threat."""
    asked = load_suite(suite)
    eps = own_radius(eps, norm, asked.eps, asked.norm)
    asked = asked.override(norm=norm, draws=draws, steps=steps, eot=eot)
    return asked, Threat(asked.norm, eps)


@contextmanager
def _restored(*nets: Victim | nn.Module | str | None) -> Iterator[None]:
    """Leaves networks and PyTorch's settings as they were."""
    with ExitStack() as restored:
        restored.enter_context(plain_context())
        for net in nets:
            if isinstance(net, nn.Module):
                restored.enter_context(undisturbed(net))
        yield


def _job(
    nets: tuple[Victim | nn.Module | str, Victim | nn.Module | None],
    data: tuple[Images, Tensor],
    protocol: tuple[Suite, Threat],
    batch_size: int | None,
    seed: int,
) -> Job:
    """What a caller asks for, unchecked: victim and source, images and labels, suite and threat."""
    (victim, source), (asked, threat) = nets, protocol
    return Job(
        victim=adapt_to(victim, data[0], output="logits").eval(),
        images=data[0],
        labels=data[1],
        suite=asked if source is None else asked.with_transfer(),
        threat=threat,
        seed=whole(seed, "seed"),
        batch_size=SHARD_SIZE if batch_size is None else whole(batch_size, "batch_size", 1),
        source=None if source is None else adapt_to(source, data[0], output="logits").eval(),
    )


def _finish_shards(
    job: Job,
    folder: RunFolder,
    meter: Meter,
    workers: int | None,
    ray: str | None,
    gpu_share: float,
) -> Sequence[FinishedShard]:
    """The results of all shards in order, whoever finishes them."""
    if ray is None:
        shards = local_workers.finished_shards(job, folder, meter, workers)
    else:
        shards = ray_workers.finished_shards(job, folder, meter, workers, ray, gpu_share)
    try:
        with closing(shards):
            done = dict(shards)
    except KeyboardInterrupt:
        _log.warning("interrupted; the same evaluation into %s resumes from here", folder.path)
        raise
    return [done[shard] for shard in range(job.shards)]
