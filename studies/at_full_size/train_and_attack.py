"""Networks of the StoG paper at their own size, trained and attacked in a given time.

python studies/at_full_size/train_and_attack.py --images cifar10.safetensors --out OUT --seconds 400

The first networks of `networks.NETS` that have time for a few epochs are trained, each for as many
as its share of the time allows; the learning rate's cosine ends with the last. Each is then
attacked under `stog-table2`, `stog-table1` and `adaptive-small`: the first images tell how many
more there is time for. `page.md` is written anew after every step. What is killed or out of time
goes on when the same command is started again, with the epochs chosen at first.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from networks import NETS, PUBLISHED, SMOKE, Net, Scale
from page import write_page

from robust_snn import Victim, evaluate
from robust_snn.data import ImageSet, load_dataset
from robust_snn.training import Diverged, Recipe, load_model, train
from robust_snn.utils.errors import InputError

SUITES = ("stog-table2", "stog-table1", "adaptive-small")
CALIBRATION = 32  # images on which adaptive-small chooses its attacks
TOGETHER = 250  # images that are attacked in one batch
TRAINING = 0.6  # share of a network's time
WARM_UP, TIMED = 4, 8  # steps that tell how long an epoch takes
SHORTEST = 5.0  # seconds in which no further images are begun
LATE = 15.0  # seconds that a step which has begun may take longer than planned

_log = logging.getLogger("at_full_size")


class TimeIsUp(Exception):
    """A training or an evaluation takes longer than it may; its folder is good to go on."""


@dataclass(frozen=True)
class Work:
    """What all networks share.

    Attributes:
        train: Images to train on.
        test: Images to attack, and behind them those on which a suite chooses its attacks.
        scale: How much is done.
        out: Folder of all results.
        device: `"cuda"` or `"cpu"`.
        paces: Seconds of an epoch, by network.
    """

    train: ImageSet
    test: ImageSet
    scale: Scale
    out: Path
    device: str
    paces: dict[str, float] = field(default_factory=dict)

    def stop_at(self, end: float) -> Any:
        """A listener that ends what it listens to."""

        def listen(_: object) -> None:
            if time.monotonic() > end + LATE:
                raise TimeIsUp

        return listen


def seconds_per_epoch(work: Work, net: Net) -> float:
    """Expected time of an epoch, from a few steps of a training that is thrown away."""
    if net.slug not in work.paces:
        work.paces[net.slug] = _measured_pace(work, net, work.scale.prepared(net))
    return work.paces[net.slug]


def _measured_pace(work: Work, net: Net, recipe: Recipe) -> float:
    marks = [time.perf_counter()]

    def mark(_: object) -> None:
        if work.device == "cuda":
            torch.cuda.synchronize()
        marks.append(time.perf_counter())

    steps = min(WARM_UP + TIMED, len(work.train) // recipe.batch_size)
    scratch = work.out / "scratch"
    train(
        net.model,
        work.train.take(steps * recipe.batch_size),
        work.test.take(CALIBRATION),
        recipe.replace(epochs=1),
        out=scratch,
        model_kwargs=work.scale.arguments(net),
        device=work.device,
        progress=mark,
    )
    shutil.rmtree(scratch)
    timed = marks[min(WARM_UP, len(marks) - 2) :]
    step = (timed[-1] - timed[0]) / (len(timed) - 1)
    return step * (len(work.train) // recipe.batch_size)


def trained(work: Work, net: Net, end: float, latest: float) -> str:
    """Trains a network for as many epochs as there is time for.

    Args:
        work: What all networks share.
        net: The network.
        end: When the training should end.
        latest: When a single epoch must.

    Returns:
        What went wrong, or nothing.
    """
    out, recipe = work.out / net.slug, work.scale.prepared(net)
    if (config := out / "config.json").exists():
        epochs = json.loads(config.read_text(encoding="utf-8"))["recipe"]["epochs"]
    else:
        epoch = seconds_per_epoch(work, net)
        left = end - time.monotonic()
        epochs = max(1, int(left / (1.05 * epoch)))
        if epoch > latest - time.monotonic():
            return f"no time for an epoch of {epoch:.0f} s"
        _log.info("%s: %d epochs of %.1f s in %.0f s", net.slug, epochs, epoch, left)
    recipe = recipe.replace(epochs=epochs, warmup_epochs=1 if epochs > 3 else 0)
    try:
        train(
            net.model,
            work.train,
            work.test,
            recipe,
            out=out,
            model_kwargs=work.scale.arguments(net),
            device=work.device,
            progress=work.stop_at(end),
        )
    except Diverged as error:
        return str(error)
    except TimeIsUp:
        return "out of time in its training"
    return ""


def attacked(work: Work, net: Net, suite: str, end: float) -> str:
    """Attacks images block by block until the time or the images are spent.

    Returns:
        What is missing, or nothing.
    """
    where, most = work.out / net.slug / suite, work.scale.attacked
    network, card = load_model(work.out / net.slug / "model.safetensors")
    on_gpu = work.device == "cuda"
    victim = Victim(network.to(work.device), channels_last=on_gpu, tf32=on_gpu)
    images, labels = work.test.images[:most], work.test.labels[:most]
    spare = (part[most : most + CALIBRATION] for part in (work.test.images, work.test.labels))
    calibration = tuple(spare)
    begun = {int(path.name.split("-")[0]): path for path in where.glob("*-*")}
    start, pace = 0, None
    while start < most:
        left = end - time.monotonic()
        if start in begun:
            stop = int(begun[start].name.split("-")[1])
        elif left < SHORTEST:
            return f"{suite}: {start} of {most} images"
        else:
            fits = work.scale.block if pace is None else int(0.9 * left / pace)
            stop = min(most, start + max(work.scale.block, fits))
        began = time.monotonic()
        try:
            evaluate(
                victim,
                images[start:stop],
                labels[start:stop],
                suite=suite,
                out=where / f"{start:05d}-{stop:05d}",
                batch_size=TOGETHER,
                seed=start,
                calibration=calibration,
                model_info=card["model"],
                data_info={"name": work.test.name, "split": work.test.split},
                progress=work.stop_at(end),
            )
        except TimeIsUp:
            return f"{suite}: {start} of {most} images"
        pace = (time.monotonic() - began) / (stop - start)
        start = stop
    return ""


def planned(work: Work, end: float) -> tuple[Net, ...]:
    """The networks that have time for the least number of epochs, at least one."""
    first = NETS[0]
    plain = seconds_per_epoch(work, first) / first.cost
    needed, seconds, chosen = 0.0, end - time.monotonic(), list[Net]()
    for net in NETS[: work.scale.nets]:
        needed += plain * net.cost * work.scale.least_epochs / TRAINING
        if not chosen or needed <= seconds:
            chosen.append(net)
    _log.info("an epoch of %s takes %.1f s: %d networks", first.slug, plain, len(chosen))
    return tuple(chosen)


def run(work: Work, seconds: float) -> None:
    """Trains and attacks networks until the time is up."""
    end, missing = time.monotonic() + seconds, dict[str, str]()
    nets = planned(work, end)
    for number, net in enumerate(nets):
        left = end - time.monotonic()
        if left < SHORTEST:
            break
        mine = left * net.cost / sum(other.cost for other in nets[number:])
        stop = end - left + mine
        missing[net.slug] = trained(work, net, stop - (1 - TRAINING) * mine, stop)
        write_page(work.out, missing)
        if work.device == "cuda":
            _log.info("peak memory %.1f GB", torch.cuda.max_memory_allocated() / 1e9)
        if not (work.out / net.slug / "model.safetensors").exists():
            continue
        for done, suite in enumerate(SUITES):
            now = time.monotonic()
            if now > end:
                break
            try:
                lack = attacked(work, net, suite, now + (stop - now) / (len(SUITES) - done))
            except InputError as error:  # such as weights that are not finite
                lack = f"{suite}: {error}"
            missing[net.slug] = "; ".join(filter(None, (missing[net.slug], lack)))
            write_page(work.out, missing)


def load(images: Path, scale: Scale) -> tuple[ImageSet, ImageSet]:
    """Images to train and to attack."""
    size, n = scale.kwargs.get("img_size"), scale.attacked + CALIBRATION
    data = load_dataset(images, split="train", size=size, n=scale.images)
    return data, load_dataset(images, split="test", size=size, n=n)


def main(arguments: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="file of pack_images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny networks, few images")
    given = parser.parse_args(arguments)
    scale = SMOKE if given.smoke else PUBLISHED
    began = time.monotonic()
    torch.backends.cudnn.benchmark = True
    train_set, test_set = load(given.images, scale)
    _log.info("%d and %d images in %.1f s", len(train_set), len(test_set), time.monotonic() - began)
    work = Work(train_set, test_set, scale, given.out, given.device)
    run(work, given.seconds - (time.monotonic() - began))


if __name__ == "__main__":
    main()
