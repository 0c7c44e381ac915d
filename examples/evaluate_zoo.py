"""Evaluates the trained networks of the package and writes what was found into their cards.

    python examples/evaluate_zoo.py --out runs/zoo --cifar10 DIR-OR-TAR

Each is attacked within the radius that it was trained with. Networks whose card has an evaluation
are left out, and a killed run goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from robust_snn import Victim, evaluate
from robust_snn.data import load_dataset
from robust_snn.models import create_network, zoo
from robust_snn.utils.atomic_files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/zoo"))
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--cifar10", help="CIFAR-10's test images, as class folders or a tar")
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--names", default="", help="only networks whose name holds this")
    given = parser.parse_args()
    for name in zoo.trained():
        card = dict(zoo.card(name))
        source = {"cifar10": given.cifar10}.get(card["data"]["name"], card["data"]["name"])
        if "evaluation" in card or given.names not in name or source is None:
            continue
        kwargs, eps = card["model"]["kwargs"], card["recipe"]["eps"]
        data = load_dataset(source, size=kwargs["img_size"], n=given.n)
        verdict = evaluate(
            Victim(create_network(name, pretrained=True).eval(), seed=given.seed),
            data.images,
            data.labels,
            suite=given.suite,
            out=given.out / name,
            eps=eps,
            seed=given.seed,
            model_info={"name": name, "kwargs": kwargs},
            data_info={"name": card["data"]["name"], "split": "test"},
            progress=True,
        )
        found = json.loads(json.dumps(verdict.to_dict()))
        kept = {key: found[key] for key in ("suite", "draws", "clean", "robust", "seed")}
        card["evaluation"] = {**kept, **found["threat"], "n": given.n}
        write_json(zoo.FOLDER / f"{name}.json", card)


if __name__ == "__main__":
    main()
