"""Kills head and workers of a run on a local Ray cluster at random, and compares what comes of it.

    python tests/kill_ray_at_random.py OUT --kills 20

Every start is a process of its own, which makes the cluster. A kill meets it, and so the head, once
in four times, and one of its actors otherwise. The last start is left alone.
"""

from __future__ import annotations

import argparse
import random
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import torch

from robust_snn import evaluate
from robust_snn.eval import AttackSpec, Draws, Suite
from victims import tiny_victim, told_by

ROWS = (
    AttackSpec("pgd", "robust_snn", "pgd", eot=4, steps=10),
    AttackSpec("square", "autoattack", "square", noise="frozen", steps=100),
)


def run(out: Path | str, **sharing: Any) -> dict[str, Any]:
    torch.set_num_threads(1)
    victim = tiny_victim(True)
    settings: dict[str, Any] = {"suite": Suite("tiny", ROWS, draws=Draws(20, 20)), "eps": 0.05}
    settings |= {"batch_size": 2, "report": False, "out": out}
    verdict = evaluate(victim, *told_by(victim, 120), **settings, **sharing).to_dict()
    return {
        **verdict,
        "seconds": 0,
        "attacks": [row | {"seconds": 0} for row in verdict["attacks"]],
    }


def arguments(description: str | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def on_ray(out: Path) -> None:
    run(out, ray="local", workers=2)


def actors(driver: Any) -> list[psutil.Process]:
    """Actors below a driver that are alive."""
    found = []
    for child in psutil.Process(driver.pid).children(recursive=True):
        try:
            if "ray::Worker" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def main() -> None:
    given = arguments(__doc__)
    rng, spawn = random.Random(given.seed), get_context("spawn")
    heads = workers = 0
    pieces = given.folder / "ray" / "pieces"
    driver = None
    while heads + workers < given.kills:
        if driver is None or not driver.is_alive():
            driver = spawn.Process(target=on_ray, args=(given.folder / "ray",))
            driver.start()
        there = actors(driver) if driver.is_alive() else []
        if there and rng.random() < 0.25:
            driver.kill()
            driver.join()
            heads += 1
        elif there:
            rng.choice(there).kill()
            workers += 1
        else:
            time.sleep(0.2)
            continue
        said = f"{heads} heads, {workers} workers, {len(list(pieces.glob('*/*')))} pieces"
        print(said, flush=True)  # noqa: T201
        time.sleep(10 * rng.random())
    if driver is not None:
        driver.join()
    same = run(given.folder / "ray") == run(given.folder / "one")
    print(f"the verdict of one process: {same}")  # noqa: T201
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
