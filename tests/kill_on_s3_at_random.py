"""Kills processes that share a run on an S3-compatible server at random, and compares.

    python tests/kill_on_s3_at_random.py OUT --kills 20

The server is a process of this machine. Two processes work into the same URL. Once something new is
finished, one of them is killed, by chance, and another one is started in its place; and so on. The
last ones are left alone.
"""

from __future__ import annotations

import os
import random
import time
from multiprocessing import get_context
from typing import Any

from kill_ray_at_random import arguments, run
from robust_snn.utils.places import place

SHARING = 2  # processes
URL = "s3://bucket/run"


def serve(pipe: Any) -> None:
    """An S3-compatible server with an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    pipe.send(server.get_host_and_port()[1])
    pipe.recv()  # until the parent ends


def work() -> None:
    run(URL)


def main() -> None:
    given = arguments(__doc__)
    rng, spawn = random.Random(given.seed), get_context("spawn")
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    told = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}
    told["ENDPOINT_URL"] = f"http://127.0.0.1:{ours.recv()}"
    os.environ.update({f"AWS_{name}": value for name, value in told.items()})
    import s3fs

    s3fs.S3FileSystem().mkdir("bucket")
    processes: list[Any] = [None] * SHARING
    kills = done = before = 0
    while kills < given.kills:
        for number, process in enumerate(processes):
            if process is None or not process.is_alive():
                done += process is not None and process.exitcode == 0
                processes[number] = spawn.Process(target=work)
                processes[number].start()
        time.sleep(0.2 + 3 * rng.random())
        pieces, victim = len(list(place(URL).glob("pieces/*/*.npz"))), rng.choice(processes)
        if pieces > before and victim.is_alive():
            victim.kill()
            victim.join()
            kills, before = kills + 1, pieces
            print(f"{kills} kills, {pieces} pieces", flush=True)  # noqa: T201
    for process in processes:
        process.join()
    began = time.monotonic()
    same = run(URL) == run(given.folder / "one")
    said = f"{done} ended by themselves meanwhile, {time.monotonic() - began:.0f} s to compare"
    print(f"the verdict of one process: {same}; {said}")  # noqa: T201
    ours.send(None)
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
