"""Replayed attack steps: the numbers of the plain ones, whatever changes between the calls.

On a CPU, work that is run again on the same tensors stands in for a CUDA graph.
"""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from devices import GPU
from helpers import assert_close_rms
from robust_snn import InputError, Victim
from robust_snn.attacks import PGD
from robust_snn.attacks.mode_reach import tried_reach
from robust_snn.utils.cuda_graph import CudaRecorder, Recorder
from robust_snn.utils.modules import device_of
from robust_snn.victim import graph_replay
from victims import SHAPE, StandIn, tiny_victim, told_by

VIEWS = (
    {},
    {"eot": 3},
    {"noise": "frozen"},
    {"noise": "mean", "gradient": "rga"},
    {"gradient": "hart", "eot": 2},
    {"gradient": "pdsg", "output": "steps"},
    {"bf16": True, "channels_last": True, "output": "probabilities"},
)


class Rerun:
    """Repeats work on the CPU, in the memory of its first result."""

    @contextmanager
    def apart(self, strict: bool = False) -> Iterator[None]:
        yield

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        result, graded = work().clone(), torch.is_grad_enabled()

        def replay() -> None:
            with torch.set_grad_enabled(graded):
                again = work()
            result.copy_(again.detach())

        return replay, result


class Counted:
    """A recorder that counts what it records and repeats."""

    def __init__(self, recorder: Recorder) -> None:
        self.apart, self.recorder = recorder.apart, recorder
        self.records = self.replays = 0

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        replay, result = self.recorder.record(work)
        self.records += 1

        def counted() -> None:
            self.replays += 1
            replay()

        return counted, result


@pytest.fixture
def rerun(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Counted:
    on_gpu = device.type == "cuda"
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", on_gpu)
    index = torch.device("cuda", torch.cuda.current_device()) if on_gpu else device
    recorder = Counted(CudaRecorder(index) if on_gpu else Rerun())
    monkeypatch.setattr(graph_replay.Recordings, "_recorder", lambda self, device: recorder)
    return recorder


def step(victim: Victim, images: Tensor) -> tuple[Tensor, Tensor]:
    x = images.clone().requires_grad_()
    logits = victim(x)
    return logits.detach(), torch.autograd.grad(logits[..., 0].square().sum(), x)[0]


def assert_same_steps(plain: Victim, graphed: Victim, calls: int = 4, batch: int = 2) -> None:
    for _ in range(calls):
        images = torch.rand(batch, *SHAPE).to(device_of(plain))
        for got, wanted in zip(step(graphed, images), step(plain, images), strict=True):
            assert_close_rms(got, wanted, 0 if got.device.type == "cpu" else 1e-5)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("noisy", [False, True])
def test_replays_give_the_numbers_of_plain_passes(noisy: bool, view: dict, rerun: Counted) -> None:
    plain = tiny_victim(noisy).replace(**view)
    graphed = plain.replace(graph=True)
    assert_same_steps(plain, graphed)
    assert rerun.replays > rerun.records > 0
    assert graphed.cost == plain.cost


@pytest.mark.usefixtures("rerun")
def test_a_backward_pass_that_comes_late_repeats_its_own_forward_pass() -> None:
    plain = tiny_victim(noisy=True)
    graphed = plain.replace(graph=True)
    gradients = []
    for victim in (plain, graphed):
        images = torch.rand(3, 2, *SHAPE, generator=torch.Generator().manual_seed(1))
        for _ in range(2):
            step(victim, images[0])
        first, second = (x.clone().requires_grad_() for x in images[1:])
        early, last = victim(first)[:, 0].sum(), victim(second)[:, 0].sum()
        first.data.zero_()  # as attacks do that step in place
        gradients.append(
            [
                torch.autograd.grad(loss, x, retain_graph=True)[0]
                for loss, x in ((early, first), (last, second), (early, first), (early, first))
            ]
        )
    for got, wanted in zip(gradients[1], gradients[0], strict=True):
        assert_close_rms(got, wanted)
    assert graphed.cost.forwards == plain.cost.forwards + 3 * 2


def test_changed_weights_are_seen(rerun: Counted) -> None:
    plain = tiny_victim(noisy=False)
    graphed = plain.replace(graph=True)
    assert_same_steps(plain, graphed, 3)
    classifier, records = plain.net.fc, rerun.records
    with torch.no_grad():
        classifier.weight.mul_(2)
    assert_same_steps(plain, graphed, 3)
    classifier.weight.data.mul_(2)
    assert_same_steps(plain, graphed, 3)
    assert rerun.records == records  # the same memory
    classifier.weight.data = classifier.weight.data * 2
    assert_same_steps(plain, graphed, 3)
    classifier.weight = nn.Parameter(classifier.weight / 3)
    assert_same_steps(plain, graphed, 3)
    assert rerun.records == 3 * records


def test_variants_share_what_is_captured(rerun: Counted) -> None:
    plain = tiny_victim(noisy=True)
    graphed = plain.replace(graph=True)
    assert_same_steps(plain, graphed, calls=2)
    assert rerun.records == 2  # forward, backward
    assert_same_steps(plain.replace(seed=1), graphed.replace(seed=1), calls=2)
    assert rerun.records == 2
    assert_same_steps(plain.replace(gradient="ste"), graphed.replace(gradient="ste"), calls=2)
    assert rerun.records == 4
    other = copy.deepcopy(plain.net)
    assert_same_steps(Victim(other), graphed.replace(net=other, seed=0), calls=2)
    assert rerun.records == 6


def test_the_recordings_used_last_are_kept(rerun: Counted) -> None:
    plain = tiny_victim(noisy=False)
    graphed = plain.replace(graph=True)
    for batch in range(1, 2 + graph_replay.KEPT):
        assert_same_steps(plain, graphed, 2, batch)
    rerun.records = 0
    assert_same_steps(plain, graphed, 1, batch)
    assert rerun.records == 0
    assert_same_steps(plain, graphed, 3, 1)
    assert rerun.records == 2


@pytest.mark.usefixtures("rerun")
def test_copies_and_pickles_start_without_recordings() -> None:
    graphed = tiny_victim(noisy=True).replace(graph=True)
    for _ in range(3):
        step(graphed, torch.rand(2, *SHAPE))
    images = torch.rand(2, *SHAPE)
    expected = step(graphed.replace(), images)
    for twin in (copy.deepcopy(graphed), pickle.loads(pickle.dumps(graphed))):
        assert twin.graph
        for got, wanted in zip(step(twin.replace(), images), expected, strict=True):
            assert_close_rms(got, wanted)


class Failing(torch.autograd.Function):
    """Fails on its way forward or back, as an operation does that waits for the GPU."""

    @staticmethod
    def forward(ctx, x: Tensor, forward: bool) -> Tensor:
        if forward:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return x.view_as(x)

    @staticmethod
    def backward(ctx, upstream: Tensor):
        raise RuntimeError("operation not permitted when stream is capturing")


class Surprise(StandIn):
    """Does something from its second pass on."""

    def __init__(self, what: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.what, self.count = what, itertools.count()

    def forward(self, x: Tensor) -> Tensor:
        number = next(self.count)
        return self.what(x, number) if number else x


@pytest.mark.usefixtures("rerun")
@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda x, number: Failing.apply(x, True), r"capture 1 \(Surprise\): operation not perm"),
        (
            lambda x, number: Failing.apply(x, False),
            r"capture the backward pass of 1 \(Surprise\): operation not permitted",
        ),
        (lambda x, number: x + number, "it keeps a state between calls, or draws at random"),
        (lambda x, number: x * torch.rand_like(x), "capture Sequential: it keeps a state"),
    ],
)
def test_what_cannot_be_captured_says_why_and_where(what, message: str, device) -> None:
    net = nn.Sequential(nn.Flatten(), Surprise(what), nn.Linear(192, 10)).to(device)
    victim = Victim(net.eval(), graph=True)
    step(victim, torch.rand(2, *SHAPE))
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            step(victim, torch.rand(2, *SHAPE))


@pytest.mark.usefixtures("rerun")
def test_hooks_are_refused() -> None:
    victim = tiny_victim(noisy=False).replace(graph=True)
    step(victim, torch.rand(2, *SHAPE))
    with (
        victim.net.fc.register_forward_hook(lambda *_: None),
        pytest.raises(InputError, match=r"cannot capture fc \(Linear\): it has hooks"),
    ):
        step(victim, torch.rand(2, *SHAPE))
    step(victim, torch.rand(2, *SHAPE))


@pytest.mark.usefixtures("rerun")
def test_modes_that_learn_from_earlier_passes_are_refused_before_an_attack() -> None:
    victim = tiny_victim(noisy=False).replace(graph=True, gradient="assg")
    refusal = tried_reach(victim, torch.rand(2, *SHAPE)).refusal
    assert refusal is not None
    assert "depends on earlier passes" in refusal


@pytest.mark.usefixtures("rerun")
def test_a_network_without_a_gradient_is_named_as_ever() -> None:
    class Detached(StandIn):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().flatten(1)[:, :10]

    victim = Victim(Detached(), graph=True)
    for _ in range(3):
        assert victim(torch.rand(2, *SHAPE)).shape == (2, 10)
    for _ in range(3):
        with pytest.raises(InputError, match="no gradient of Detached reaches the image"):
            victim(torch.rand(2, *SHAPE, requires_grad=True))


def test_no_memory_to_capture_leaves_passes_as_they_are(
    rerun: Counted, monkeypatch, caplog
) -> None:
    def record(work: Callable[[], Tensor]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(rerun, "record", record)
    plain = tiny_victim(noisy=True)
    assert_same_steps(plain, plain.replace(graph=True))
    assert caplog.text.count("no memory to capture") == 1


def run_pgd(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    return PGD(steps=5, eot_loss=2)(victim, images, labels, eps=0.1).images


def run_autoattack(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    pytest.importorskip("pyautoattack")
    from robust_snn.adapters.autoattack import autoattack

    return autoattack(victim, images, labels, 0.1, n_iter=3, n_queries=10, eot_iter=2).images


@pytest.mark.usefixtures("rerun")
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("attack", [run_pgd, run_autoattack])
def test_attacks_find_the_same(attack: Callable[..., Tensor], noisy: bool) -> None:
    plain = tiny_victim(noisy)
    images, labels = told_by(plain, 4)
    expected = attack(plain, images, labels)
    torch.testing.assert_close(attack(plain.replace(graph=True), images, labels), expected)


class Waiting(StandIn):
    """Waits for the GPU, in a way that PyTorch notices or in one that only a capture does."""

    def __init__(self, noticed: bool) -> None:
        super().__init__()
        self.noticed = noticed

    def forward(self, x: Tensor) -> Tensor:
        if self.noticed:
            return x * 2 if x.sum().item() > 0 else x
        torch.cuda.synchronize()
        return x


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize("noticed", [True, False])
def test_a_capture_that_fails_leaves_the_gpu_as_it_was(noticed: bool) -> None:
    net = nn.Sequential(nn.Flatten(), Waiting(noticed), nn.Linear(192, 10))
    victim = Victim(net.eval().cuda(), graph=True)
    images = torch.rand(2, *SHAPE).cuda()
    step(victim, images)
    with pytest.raises(InputError, match=r"capture 1 \(Waiting\)"):
        step(victim, images)
    assert torch.rand(2, device="cuda").sum().item() >= 0
    good = tiny_victim(noisy=True).cuda()
    assert_same_steps(good, good.replace(graph=True))


@pytest.mark.cpu_only
def test_a_cpu_is_refused() -> None:
    victim = tiny_victim(noisy=False).replace(graph=True)
    with pytest.raises(InputError, match="images are on cpu"):
        victim(torch.rand(2, *SHAPE))
