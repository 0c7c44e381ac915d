"""What a run over large images on disk takes: memory of a process, disk, time to resume.

    python studies/images_on_disk.py --images 250 1000 5000 --steps 2

Images of 3x224x224 are made when they are asked for, as bytes, so nothing of the data lies in
memory or on disk. The suite is `quick` with fewer steps, on a tiny network: what is measured does
not depend on how strong the attacks are. Every run is a process of its own. Over the first number
of images a tensor takes the same road and must come to the same verdict. The second number is also
killed in the middle of its run and started again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robust_snn import Victim, evaluate
from robust_snn.neurons import LIF

SIDE, CLASSES, EPS, BATCH = 224, 10, 0.5 / 255, 32
KILLED_AT = 0.5  # of the pieces


class Made:
    """A map-style data set: smooth coloured patches with grain, a function of their number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.RandomState(index)
        coarse = torch.from_numpy(rng.rand(1, 3, 7, 7).astype(np.float32))
        smooth = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")[0]
        grain = torch.from_numpy(rng.randint(-12, 13, (3, SIDE, SIDE))).float()
        return (255 * smooth + grain).round().clamp(0, 255) / 255


def answers(count: int) -> Tensor:
    """What the network says of the images: so all of them are right, and attacked."""
    victim, data = tiny(), Made(count)
    said = [victim.sample(data[n][None], torch.tensor([n])).argmax(1) for n in range(count)]
    return torch.cat(said)


def tiny() -> Victim:
    """A spiking network of two layers that looks at patches."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 32, 32), nn.Flatten(), nn.Linear(8 * 49, CLASSES)
    return Victim(Patches(*layers).eval())


class Patches(nn.Module):
    """Patches to spikes to logits, two time steps of a constant current."""

    def __init__(self, look: nn.Module, flat: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.look, self.flat, self.head, self.fire = look, flat, head, LIF(threshold=0.5)

    def forward(self, x: Tensor) -> Tensor:
        current = self.look(2 * x - 1)
        spikes = self.fire(torch.stack([current, current]))
        logits: Tensor = self.head(self.flat(spikes.mean(0)))
        return logits


class Case(NamedTuple):
    """A run: its number of images, what they are, the steps of every attack, and the way."""

    count: int
    labels: Tensor
    steps: int
    in_memory: bool = False


def run(case: Case, out: Path, pipe: Any) -> None:
    """One evaluation in a process of its own, whose peak of memory is its own."""
    torch.set_num_threads(1)
    began, data = time.monotonic(), Made(case.count)
    images = torch.stack([data[n] for n in range(case.count)]) if case.in_memory else data

    def watch(now: Any) -> None:
        if "shard" in now.doing:
            pipe.send(("doing", time.monotonic() - began, now.done))

    settings: dict[str, Any] = {"suite": "quick", "eps": EPS, "steps": case.steps}
    settings |= {"batch_size": BATCH, "out": out, "progress": watch, "report": False}
    verdict = evaluate(tiny(), images, case.labels, **settings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send(("done", time.monotonic() - began, {"peak": peak, "verdict": verdict.to_dict()}))


def killed_and_resumed(case: Case, out: Path) -> dict[str, Any]:
    """What comes of a run that is killed in the middle; seconds until it is as far as it was."""
    before = measured(case, out, killed_at=KILLED_AT)
    return {**measured(case, out, reached=before["done"]), "done": before["done"]}


def measured(case: Case, out: Path, killed_at: float = 2.0, reached: float = 2.0) -> dict[str, Any]:
    """The verdict of a run, with its peak of memory, its disk and its seconds.

    Args:
        case: The run.
        out: Its folder.
        killed_at: Finished share at which it is killed; never beyond 1.
        reached: Finished share whose time is noted.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=run, args=(case, out, theirs))
    process.start()
    theirs.close()
    again = None
    while True:
        kind, seconds, what = ours.recv()
        if kind == "done":
            process.join()
            parts = {part: _size(out / part) for part in ("", "pieces", "versions")}
            return {"seconds": seconds, "resumed": again, "disk": parts, **what}
        if what >= reached and again is None:
            again = seconds
        if what >= killed_at:
            process.kill()
            process.join()
            return {"done": what}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def timeless(verdict: dict[str, Any]) -> dict[str, Any]:
    rows = [{**row, "seconds": 0} for row in verdict["attacks"]]
    return {**verdict, "seconds": 0, "attacks": rows, "environment": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[250, 1000, 5000])
    parser.add_argument("--steps", type=int, default=2, help="of every attack of the suite")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for number, count in enumerate(given.images):
            case = Case(count, answers(count), given.steps)
            out = Path(place) / str(count)
            found = measured(case, out)
            clean = count * 3 * SIDE * SIDE
            line = {
                "images": count,
                "seconds": round(found["seconds"]),
                "peak_GB": round(found["peak"] / 1e9, 3),
                "disk_of_bytes": round(found["disk"][""] / clean, 3),
                "disk_of_floats": round(found["disk"][""] / clean / 4, 3),
                "answers_of_disk": round(found["disk"]["pieces"] / found["disk"][""], 4),
                "robust": found["verdict"]["robust"]["accuracy"],
                "met": [row["images"] for row in found["verdict"]["attacks"]],
            }
            if number == 0:
                tensor = measured(case._replace(in_memory=True), Path(place) / "tensor")
                line["tensor_peak_GB"] = round(tensor["peak"] / 1e9, 3)
                same = timeless(tensor["verdict"]) == timeless(found["verdict"])
                line["same_verdict_as_tensor"] = same
            if number == 1:
                killed = killed_and_resumed(case, Path(place) / "killed")
                line["killed_at"] = round(killed["done"], 2)
                line["back_after_s"] = round(killed["resumed"], 1)
                same = timeless(killed["verdict"]) == timeless(found["verdict"])
                line["same_verdict_as_unkilled"] = same
            print(json.dumps(line), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
