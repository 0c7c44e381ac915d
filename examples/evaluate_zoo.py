"""Evaluates the trained networks of the package and writes what was found into their cards.

    python examples/evaluate_zoo.py --out runs/zoo --cifar10 DIR-OR-TAR

Each is attacked within the radius of its training. A killed run goes on; to evaluate again, take
another folder. `--add` makes a finished training, such as a cell of a study, one of the trained
networks first; its name is the model's with a tag:

    python examples/evaluate_zoo.py --add runs/study/TGO/seed-0/training=cifar10_tgo \\
        --cifar10 DIR-OR-TAR --eps 4/255
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_snn import Victim, evaluate
from robust_snn.data import load_dataset
from robust_snn.models import zoo
from robust_snn.training import load_card, load_model
from robust_snn.utils.atomic_files import write_json
from robust_snn.utils.errors import InputError
from robust_snn.utils.values import number

LARGEST = 4 * 2**20  # bytes
CALIBRATION = 32  # images behind those attacked, which choose the attacks


def added(training: Path, tag: str) -> str:
    """Copies a finished training into the package; returns the name of the trained network.

    Raises:
        InputError: If there is none, or its weights are too large for the package.
    """
    weights = training / "model.safetensors"
    if (card := load_card(weights)) is None:
        raise InputError(f"no finished training in '{training}'")
    if (size := weights.stat().st_size) > LARGEST:
        raise InputError(f"'{weights}' has {size} bytes; a packaged network has {LARGEST} at most")
    name = f"{card['model']['name']}.{tag}"
    shutil.copyfile(weights, zoo.FOLDER / f"{name}.safetensors")
    write_json(zoo.FOLDER / f"{name}.json", card)
    zoo.trained.cache_clear()  # timm asked for them at import
    return name


def evaluated(
    name: str, card: Mapping[str, Any], source: str, given: argparse.Namespace
) -> dict[str, Any]:
    """What an evaluation of a trained network finds, as its card says it."""
    kwargs = card["model"]["kwargs"]
    eps = number(given.eps, "eps") if given.eps else card["recipe"]["eps"]
    data = load_dataset(source, size=kwargs["img_size"], n=given.n + CALIBRATION)
    images, labels = data.images, data.labels
    net = load_model(zoo.FOLDER / f"{name}.safetensors")[0]  # timm knows those of its start alone
    verdict = evaluate(
        Victim(net.eval(), seed=given.seed),
        images[: given.n],
        labels[: given.n],
        suite=given.suite,
        out=given.out / name,
        eps=eps,
        seed=given.seed,
        calibration=(images[given.n :], labels[given.n :]),
        model_info={"name": name, "kwargs": kwargs},
        data_info={"name": card["data"]["name"], "split": "test"},
        progress=True,
    )
    found = json.loads(json.dumps(verdict.to_dict()))
    kept = {key: found[key] for key in ("suite", "draws", "clean", "robust", "seed")}
    return {**kept, **found["threat"], "n": given.n}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/zoo"))
    parser.add_argument("--suite", default="adaptive-medium")
    parser.add_argument("--add", metavar="FOLDER=TAG", help="a finished training, to begin with")
    parser.add_argument("--cifar10", help="CIFAR-10's test images, as class folders or a tar")
    parser.add_argument("--eps", default="", help="radius instead of the trainings'")
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--names", default="", help="only networks whose name holds this")
    given = parser.parse_args()
    names = given.names
    if given.add is not None:
        folder, _, tag = given.add.rpartition("=")
        names = added(Path(folder), tag)
    for name in filter(lambda name: names in name, zoo.trained()):
        card = dict(zoo.card(name))
        of_data = "cifar10" if "cifar" in name else "digits"
        source = given.cifar10 if of_data == "cifar10" else of_data
        if source is None:
            continue
        card["evaluation"] = evaluated(name, card, source, given)
        write_json(zoo.FOLDER / f"{name}.json", card)


if __name__ == "__main__":
    main()
