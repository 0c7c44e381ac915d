"""How shards are handed to actors of which some come late, never, or do not come back."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from robust_snn.eval.execution import ray_workers

pytest.importorskip("ray")


class Call:
    """A method of an actor: a call of it is answered after some time, or never."""

    answer: Any = None

    def __init__(self, after: float | None, error: Exception | None = None) -> None:
        self.after, self.error = after, error

    def remote(self, *shard: int) -> Call:
        call = Call(self.after, self.error)
        call.answer = self.answer
        call.due = float("inf") if self.after is None else time.monotonic() + self.after
        return call

    def options(self, name: str) -> Call:
        assert name.startswith("Worker, shard ")
        return self

    due = float("inf")


class Actor:
    def __init__(
        self, starts: float | None, finishes: float | None, versions: Any = None, **fails: Exception
    ) -> None:
        self.started, self.finish = Call(starts), Call(finishes, **fails)
        self.started.answer = versions or ray_workers._versions()


class Cluster:
    """What stands for Ray."""

    def wait(self, calls: list[Call], timeout: float) -> tuple[list[Call], list[Call]]:
        end = time.monotonic() + min(timeout, 0.05)
        while time.monotonic() < end:
            if ready := [call for call in calls if call.due <= time.monotonic()]:
                return ready[:1], []
            time.sleep(0.002)
        return [], calls

    def get(self, call: Call) -> Any:
        if call.error is not None:
            raise call.error
        return call.answer


class Meter:
    def wait(self) -> None:
        pass


def finished(*actors: Actor, shards: int = 6) -> list[int]:
    meter: Any = Meter()
    return list(ray_workers._handed_out(Cluster(), list(actors), meter, range(shards)))


def test_shards_go_to_actors_that_have_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "TAIL", 0.2)
    never, late, gone = Actor(None, 0), Actor(0.05, 0.01), Actor(0, None)
    assert sorted(finished(Actor(0, 0.01), never, late)) == list(range(6))
    began = time.monotonic()
    assert finished(gone, late) == list(range(1, 6))  # the first is left to the caller
    assert 0.2 < time.monotonic() - began < 2


def test_an_actor_that_is_lost_gets_no_more_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.exceptions import ActorDiedError, ActorUnavailableError

    error = ActorUnavailableError("gone", b"0" * 16)
    lost, absent = Actor(0, 0, error=error), Actor(0, 0)
    absent.started.error = error
    monkeypatch.setattr(ray_workers, "REST", 60.0)
    assert finished(lost, Actor(0, 0.02), shards=5) == [1, 2, 3, 4]  # the first for the caller
    monkeypatch.setattr(ray_workers, "REST", 0.01)
    assert finished(absent, Actor(0, 0.02), shards=5) == [0, 1, 2, 3, 4]
    died = Actor(0, 0, error=ActorDiedError())
    assert finished(died, shards=3) == []


def test_a_worker_with_other_versions_gets_nothing(caplog: pytest.LogCaptureFixture) -> None:
    other = Actor(0, 0, {"robust_snn": "0.0", "torch": "1.0"})
    assert finished(other, Actor(0.02, 0)) == list(range(6))
    assert finished(other) == []  # the caller does them all
    assert "a worker is left out: it has {'robust_snn': '0.0'" in caplog.text


def test_errors_of_the_work_are_raised() -> None:
    from ray.exceptions import RayTaskError

    error = RayTaskError("finish", "trace", ValueError("no such file"))
    with pytest.raises(ValueError, match="no such file"):
        finished(Actor(0, 0, error=error))


def test_a_cluster_without_room_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_workers, "SAY_AFTER", 0.1)
    assert finished(Actor(0.4, 0), shards=2) == [0, 1]
    assert [record.message for record in caplog.records] == [
        "no worker has started yet: the cluster may have no room for one"
    ]


@pytest.mark.parametrize(
    ("gpu", "threads", "count", "made"),
    [
        (1.0, 1, None, 3),
        (0.5, 1, None, 6),
        (0.4, 1, None, 6),  # two on each GPU
        (0.5, 1, 4, 4),
        (0.5, 1, 99, 8),  # as many as there are shards
        (0.0, 2, None, 2),
    ],
)
def test_workers_take_a_share_of_a_gpu(
    gpu: float, threads: int, count: int | None, made: int
) -> None:
    asked: dict[str, Any] = {}

    class Ray:
        def cluster_resources(self) -> dict[str, float]:
            return {"GPU": 3.0, "CPU": 5.0}

        def remote(self, **resources: Any) -> Any:
            asked.update(resources)
            return lambda _: Call(None)

    job: Any = SimpleNamespace(shards=8)
    folder: Any = None
    actors = ray_workers._actors(Ray(), job, None, folder, count, threads, gpu)
    assert len(actors) == made
    assert (asked["num_gpus"], asked["num_cpus"]) == (gpu, threads)
