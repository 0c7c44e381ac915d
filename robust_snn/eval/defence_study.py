"""`study`: a matrix of defences, seeds and suites, trained and attacked cell by cell.

A cell of the matrix is one training and its evaluations, in a folder of its own: both resume, so a
study does. Any number of processes that are given the same folder share the cells, one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from robust_snn.data import ImageSet
from robust_snn.eval.evaluate import check_evaluation, evaluate
from robust_snn.eval.execution.preflight import CALIBRATION, Calibration
from robust_snn.eval.execution.ray_workers import RETRIES, connected
from robust_snn.eval.protocol.study_plan import ACTIVATIONS, Defence, StudyPlan, load_plan
from robust_snn.eval.protocol.suite_files import load_suite
from robust_snn.eval.reporting.page_templates import say_if_no_page
from robust_snn.eval.reporting.study_page import PAGE, write_study
from robust_snn.eval.scoring.energy_use import measured_costs
from robust_snn.eval.scoring.study_findings import StudyFindings, cell_folder, findings
from robust_snn.training import Diverged, convert, load_card, load_model, train
from robust_snn.training.trainer import check_training
from robust_snn.utils.argument_types import checked_types
from robust_snn.utils.atomic_files import write_json
from robust_snn.utils.errors import InputError
from robust_snn.utils.file_texts import read_json
from robust_snn.utils.folder_lock import locked
from robust_snn.utils.modules import device_of, weights_sha256
from robust_snn.utils.user_files import check_output_folder, output_folder
from robust_snn.victim import Victim

_log = logging.getLogger("robust_snn")
ENERGY_FILE, ENERGY_IMAGES = "energy.json", 32
TESTED = 1000  # images on which a training shows its accuracy after every epoch
CONVERTED = 512  # images from whose currents the thresholds of a converted network come


class Cell(NamedTuple):
    """One training and its evaluations."""

    row: Defence
    seed: int


@checked_types
def study(
    plan: str | Path | StudyPlan,
    data: ImageSet,
    test: ImageSet,
    *,
    out: str | Path,
    device: str = "cpu",
    workers: int | None = None,
    ray: str | None = None,
    progress: bool = False,
    command: str | None = None,
) -> StudyFindings:
    """Trains every defence of a plan from every seed, attacks it, and writes one page about all.

    After a crash or Ctrl-C the same call resumes. Processes that are given the same folder, at the
    same time or one after the other, on machines that all see it, share the work; each of them
    waits for the last cell and writes the page.

    Args:
        plan: Name of a shipped plan, path of a YAML file, or a `StudyPlan`.
        data: Images to train on.
        test: Images whose first `plan.n` are attacked; those behind them choose the attacks of
            adaptive suites.
        out: Folder with a folder for each cell, and `study.html`, `study.md` and `study.json`.
        device: Where to train and to attack.
        workers: Cells at the same time on a Ray cluster.
        ray: Address of a Ray cluster whose machines all see `out`; `"local"` starts one here.
        progress: Show progress bars.
        command: The command that ran the study, for the record.

    Raises:
        InputError: If an argument is wrong, or a folder holds another training or run.
    """
    plan = load_plan(plan)
    if workers is not None and ray is None:
        raise InputError(
            "workers of a study are those of a Ray cluster: give ray='local' too, or start the "
            "same study into the same folder as often as you like"
        )
    if len(test) < plan.n + CALIBRATION:
        raise InputError(
            f"a study on {plan.n} images needs {CALIBRATION} more that choose the attacks; there "
            f"are {len(test)}: take a smaller n"
        )
    check_output_folder(out, "the study")
    say_if_no_page(PAGE)
    _check_rows(plan, data, test, device)
    place = Path(out)
    output_folder(place, "the study")
    parcel = (plan, data, test)
    if ray is not None:
        _finish_on_cluster(ray, parcel, place.absolute(), torch.device(device).type, workers or 1)
    _finish_cells(parcel, place, device, progress)
    found = findings(plan, place)
    write_study(found, place, command)
    return found


def _check_rows(plan: StudyPlan, data: ImageSet, test: ImageSet, device: str) -> None:
    """Refuses what a training or an evaluation of some row would, before the first is trained."""
    _log.info("study: checking that all %d rows can be trained and attacked", len(plan.defences))
    shown = test.take(min(TESTED, len(test)))
    for row in plan.defences:
        try:
            if (first := plan.activations(row)) is not None:
                check_training(row.model, data, shown, first, plan.kwargs(row) | ACTIVATIONS)
            net = check_training(row.model, data, shown, plan.recipe(row), plan.kwargs(row))
            victim = Victim(net.to(device).eval())
            for suite in map(load_suite, plan.suites_of(row)):
                check_evaluation(victim, *_attacked(plan, test), suite=suite, eps=plan.eps)
        except InputError as error:
            raise InputError(f"defence '{row.name}' of the study: {error}") from None


def _attacked(plan: StudyPlan, test: ImageSet) -> tuple[Calibration, Calibration]:
    """Images with labels that are attacked, and those on which attacks are chosen."""
    shares = slice(plan.n), slice(plan.n, plan.n + CALIBRATION)
    attacked, others = ((test.images[some], test.labels[some]) for some in shares)
    return attacked, others


def cells(plan: StudyPlan) -> list[Cell]:
    """The cells in order: all defences of the first seed come first, so that they can be seen."""
    return [Cell(row, seed) for seed in plan.seeds for row in plan.defences]


def _finish_on_cluster(
    address: str, parcel: tuple[StudyPlan, ImageSet, ImageSet], out: Path, device: str, workers: int
) -> None:
    """Finishes the cells in tasks of Ray; what none of them could is left to the caller."""
    threads, gpus = torch.get_num_threads(), int(device == "cuda")
    with connected(address, workers * threads) as ray:
        from ray.exceptions import RayError, RayTaskError

        kept = ray.put(parcel)
        settings = {"num_cpus": threads, "num_gpus": gpus, "max_retries": RETRIES}
        task = ray.remote(**settings)(_finish_cells)
        try:
            ray.get([task.remote(kept, out, device) for _ in range(workers)])
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            _log.warning("cells are finished here, no worker could: %s", type(error).__name__)


def _finish_cells(
    parcel: tuple[StudyPlan, ImageSet, ImageSet],
    out: str | Path,
    device: str,
    progress: bool = False,
) -> None:
    """Finishes the cells that no other process is at, then waits for those of others.

    Args:
        parcel: The plan, the images to train on, and those to test on.
        out: Folder of the study.
        device: Where to train and to attack.
        progress: Show progress bars.
    """
    plan, data, test = parcel
    # what is there already comes first: if it is of another plan, that is said before any training
    todo = sorted(cells(plan), key=lambda cell: not cell_folder(Path(out), *cell).exists())
    for number, cell in enumerate(_free(todo, Path(out)), 1):
        _log.info("study: %s, seed %d (%d of %d)", cell.row.name, cell.seed, number, len(todo))
        try:
            _finish(plan, cell, data, test, Path(out), device, progress)
        except Diverged as error:  # the other cells go on, and the page says it
            _log.warning("%s, seed %d, is left out: %s", cell.row.name, cell.seed, error)


def _free(todo: Sequence[Cell], out: Path) -> Iterator[Cell]:
    """The cells, each locked while it is worked at: first the free ones, then those of others."""
    waiting: list[Cell] = []
    for wait, some in ((0.0, todo), (None, waiting)):
        for cell in some:
            folder = cell_folder(out, *cell)
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / "lock", wait) as ours:
                if ours:
                    yield cell
                else:
                    waiting.append(cell)


def _finish(
    plan: StudyPlan,
    cell: Cell,
    data: ImageSet,
    test: ImageSet,
    out: Path,
    device: str,
    progress: bool,
) -> None:
    """Trains and attacks one cell; what is there already is only read."""
    row, seed = cell
    folder = cell_folder(out, row, seed)
    net, card = load_model(_trained(plan, cell, data, test, folder, device, progress))
    victim = Victim(net.to(device).eval())
    attacked, others = _attacked(plan, test)
    for suite in map(load_suite, plan.suites_of(row)):
        evaluate(
            victim,
            *attacked,
            suite=suite,
            eps=plan.eps,
            calibration=others,
            batch_size=plan.n if device == "cuda" else None,  # halved where memory is short
            out=folder / suite.name,
            model_info=card["model"],
            data_info={"name": test.name, "split": test.split},
            progress=progress,
            report=False,  # `robust-snn report` makes the page of a run
        )
    _measure_energy(victim, test.take(min(ENERGY_IMAGES, len(test))), folder / ENERGY_FILE)


def _trained(
    plan: StudyPlan,
    cell: Cell,
    data: ImageSet,
    test: ImageSet,
    folder: Path,
    device: str,
    progress: bool,
) -> Path:
    """Trains one cell, its network of activations before it if there is one; gives the weights."""
    row, seed = cell
    shown, start = test.take(min(TESTED, len(test))), None
    common: dict[str, Any] = {"seed": seed, "device": device, "progress": progress}
    kwargs, where = plan.kwargs(row), folder / "training"
    if (first := plan.activations(row)) is not None:
        before, start = folder / "activations", folder / "converted.safetensors"
        train(
            row.model, data, shown, first, out=before, model_kwargs=kwargs | ACTIVATIONS, **common
        )
        if load_card(start) is None:
            images = data.take(min(CONVERTED, len(data))).images
            convert(before / "model.safetensors", images, start, T=kwargs["T"])
    train(
        row.model,
        data,
        shown,
        plan.recipe(row),
        out=where,
        model_kwargs=kwargs,
        start=start,
        **common,
    )
    return where / "model.safetensors"


def _measure_energy(victim: Victim, images: ImageSet, file: Path) -> None:
    """Writes what an inference costs, unless it is known of this network and these images."""
    of = {"weights": weights_sha256(victim.net), "images": images.sha256}
    if file.exists() and read_json(file, "the energy").get("of") == of:
        return
    device = device_of(victim)
    some = images.images[torch.arange(len(images))].to(device)
    costs = measured_costs(victim, some, torch.arange(len(some), device=device))
    write_json(file, {"of": of, "joules": float(costs[:, 0].mean())})
