"""Whatever surrounds a call changes no number: context, threads, modes; and images stay as is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from picky import SHAPE, Picky, pictures, reaches_all, reaches_nothing
from robust_snn import Victim, evaluate
from robust_snn.adapters import torchattacks
from robust_snn.attacks import PGD
from robust_snn.diagnostics import cheap
from robust_snn.eval import AttackSpec, Draws, Suite
from robust_snn.utils.plain_context import plain_context, tf32_is_on
from victims import tiny_victim, told_by


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        assert torch.get_default_dtype() == torch.float64
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        assert torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def hook_on_all() -> Iterator[None]:
    """A hook on all modules of the process, which changes what linear layers and neurons say."""
    hook = nn.modules.module.register_module_forward_hook(_one_percent_more)
    try:
        yield
    finally:
        assert nn.modules.module._global_forward_hooks
        hook.remove()


def _one_percent_more(module: nn.Module, given: object, out: Tensor) -> Tensor:
    return out if isinstance(module, Victim) else out * 1.01


CONTEXTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype": default_dtype,
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "deterministic": deterministic,
    "default device": default_device,
    "device": lambda: torch.device("meta"),
    "hook on all": hook_on_all,
}


class Zeros(Picky):
    """A network whose numbers follow the default type, as those that make their own state do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.zeros(x.shape[0], 1) + torch.tensor(1 / 3)


VICTIMS: dict[str, Callable[[], Victim]] = {
    "ours": lambda: tiny_victim(False),
    "noisy": lambda: tiny_victim(True).replace(eot=2),
    "theirs": lambda: Victim(Zeros(reaches_all)),
}


def _gradient(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    x = images.clone().requires_grad_()
    return torch.autograd.grad(victim(x), x, F.one_hot(labels, victim(x).shape[1]).float())[0]


CALLS: dict[str, Callable[[Victim, Tensor, Tensor], Tensor]] = {
    "forward": lambda victim, x, y: victim(x),
    "sample": lambda victim, x, y: victim.sample(x, torch.arange(len(x), device=x.device)),
    "gradient": _gradient,
    "attack": lambda victim, x, y: PGD(steps=2)(victim, x, y, eps=0.1).images,
    "library": lambda victim, x, y: torchattacks.attack(victim, "PGD", eps=0.1, steps=2)(x, y),
    "diagnostics": lambda victim, x, y: torch.FloatTensor([n.value for n in cheap(victim, x, y)]),
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("made", VICTIMS)
def test_a_context_changes_no_number(made: str, context: str) -> None:
    victim = VICTIMS[made]()
    images, labels = told_by(victim, 2)
    unrecorded = ("gradient",) if context in ("inference mode", "no grad") else ()
    slow = ("diagnostics",) if made == "noisy" else ()
    for name, call in CALLS.items():
        if name in (*unrecorded, *slow):
            continue
        expected = call(victim.replace(), images, labels)
        with CONTEXTS[context]():
            got = call(victim.replace(), images.clone(), labels)
        assert torch.equal(got, expected), name
        assert got.dtype == torch.float32, name
        assert name == "diagnostics" or not got.is_inference(), name


def test_a_context_changes_no_verdict(tmp_path: Path) -> None:
    victim = Victim(Zeros(reaches_all))
    images, labels = told_by(victim, 4)
    rows = [
        AttackSpec("pgd", "robust_snn", "pgd", steps=2),
        AttackSpec("s", "autoattack", "square"),
    ]
    suite = Suite("rows", tuple(rows), draws=Draws(1, 1)).override(steps=4)
    verdicts = []
    for name in (None, "autocast", "default dtype", "inference mode", "device", "hook on all"):
        with CONTEXTS[name]() if name else nullcontext():
            out = tmp_path / str(name)
            verdicts.append(evaluate(victim, images, labels, suite=suite, out=out, eps=0.05))
    first, *others = [(v.clean, v.robust, v.diagnostics) for v in verdicts]
    assert all(other == first for other in others)


class Writes(nn.Module):
    """Normalises the images in place."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Picky(reaches_nothing)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.sub_(0.1))


def test_no_network_writes_into_the_images() -> None:
    victim, (images, labels) = Victim(Writes()), pictures(Picky(reaches_nothing), 4)
    before, expected = images.clone(), Picky(reaches_nothing)(images - 0.1)
    for name, call in CALLS.items():
        got = call(victim.replace(), images, labels)
        assert torch.equal(images, before), name
        assert name not in ("forward", "sample") or torch.equal(got, expected)
    assert torch.equal(victim.replace(channels_last=True)(images), expected)
    assert torch.equal(images, before)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("output", ["logits", "probabilities", "steps"])
def test_no_image_has_no_logits(noisy: bool, output: str) -> None:
    victim = tiny_victim(noisy).replace(output=output, eot=2)
    x = torch.rand(0, *SHAPE).requires_grad_()
    got, shape = victim(x), victim(torch.rand(3, *SHAPE)).shape
    assert got.shape == (*shape[:-2], 0, 4)
    assert torch.autograd.grad(got.sum(), x)[0].shape == x.shape
    assert victim.sample(x, torch.arange(0)).shape == (0, 4)


def test_a_network_in_training_mode_is_attacked_in_eval_mode() -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 4)
    expected = [call(victim.replace(), images, labels) for call in CALLS.values()]
    victim.net.train()
    victim.net.stages.train()
    before = {name: value.clone() for name, value in victim.net.state_dict().items()}
    trained = Victim(victim.net)
    for call, want in zip(CALLS.values(), expected, strict=True):
        assert torch.equal(call(trained, images, labels), want)
    assert all(torch.equal(value, before[name]) for name, value in victim.net.state_dict().items())
    assert all(module.training for module in victim.net.modules())
    assert all(p.requires_grad for p in victim.net.parameters())


class Remembers(Picky):
    """Keeps what it is shown on itself while it runs, as most networks of other people do."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        time.sleep(0.002)
        return super().forward(self.seen)


class Gated(nn.Module):
    """A batch norm and a dropout, which differ between modes, and slow enough to be overtaken."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.net = nn.BatchNorm2d(3), nn.Dropout(), Picky(reaches_nothing)
        self.frozen: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.norm(x))
        time.sleep(0.002)
        self.frozen.append(not any(p.requires_grad for p in self.parameters()))
        return self.net(self.drop(x))


@pytest.mark.parametrize("kind", [lambda: Remembers(reaches_all), Gated])
@pytest.mark.parametrize("call", ["attack", "library", "sample"])
def test_threads_attack_one_network_at_once(kind: Callable[[], nn.Module], call: str) -> None:
    net = kind()
    sets = [torch.rand(4, *SHAPE) for _ in range(6)]
    labels = torch.zeros(4, dtype=torch.int64)
    run = CALLS[call]
    expected = [run(Victim(net), images, labels) for images in sets]
    net.train()
    state = torch.get_rng_state()
    with ThreadPoolExecutor(3) as pool:
        got = list(pool.map(lambda images: run(Victim(net), images, labels), sets))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert all(module.training for module in net.modules())
    assert all(p.requires_grad for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert not isinstance(net, Gated) or all(net.frozen)


def test_a_thread_that_ends_leaves_the_others_their_context() -> None:
    """The default type belongs to all threads: the last one to leave restores it."""

    class Waits(Zeros):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) == 2:
                entered.set()
                assert left.wait(5)
            return super().forward(x)

    entered, left = threading.Event(), threading.Event()
    victim = Victim(Waits(reaches_nothing))
    images = torch.rand(3, *SHAPE)
    left.set()
    expected = victim.sample(images[:2], torch.arange(2))
    left.clear()

    def ends_first() -> None:
        assert entered.wait(5)
        Victim(Zeros(reaches_all)).sample(images, torch.arange(3))
        left.set()

    with default_dtype(), ThreadPoolExecutor(2) as pool:
        entered.clear()
        pool.submit(ends_first)
        got = pool.submit(victim.sample, images[:2], torch.arange(2)).result()
    assert torch.equal(got, expected)


def _newer_settings(**chosen: str) -> None:
    """Sets precisions as PyTorch 2.9 and later do: one setting that the others take over."""
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("needs PyTorch 2.9 or later")
    for name, value in chosen.items():
        owner = torch.backends.cudnn.conv if name == "convolutions" else torch.backends
        owner.fp32_precision = value


# How a caller may have set PyTorch's products, and whether convolutions then round to TF32.
SET: dict[str, tuple[Callable[[], None], bool]] = {
    "nothing": (lambda: None, True),
    "older, off": (lambda: setattr(torch.backends.cudnn, "allow_tf32", False), False),
    "matrices": (lambda: torch.set_float32_matmul_precision("high"), True),
    "one for all": (lambda: _newer_settings(all="tf32"), True),
    "convolutions": (lambda: _newer_settings(convolutions="ieee"), False),
}


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings count, as they do once there is a GPU; afterwards they are as in a new process."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    yield
    if hasattr(torch.backends.cudnn, "conv"):
        _newer_settings(all="none", convolutions="tf32")
        torch.backends.cudnn.rnn.fp32_precision = "tf32"
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("how", SET)
def test_products_are_float32_whatever_the_caller_has_set(how: str, on_a_gpu: None) -> None:
    choose, on = SET[how]
    choose()
    matrices = torch.get_float32_matmul_precision()
    assert tf32_is_on() == on
    for wish, nested, expected in (
        (None, None, False),
        (True, None, True),
        (True, False, False),
        (False, True, True),
    ):
        with plain_context(wish), plain_context(nested):
            assert tf32_is_on() == torch.backends.cudnn.allow_tf32 == expected
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cuda.matmul.allow_tf32
        assert tf32_is_on() == on
        assert torch.get_float32_matmul_precision() == matrices


def test_products_on_cpus_are_float32_whatever_the_caller_has_set() -> None:
    if not hasattr(torch.backends, "mkldnn") or not hasattr(torch.backends.mkldnn, "matmul"):
        pytest.skip("needs PyTorch 2.9 or later")
    mkldnn = torch.backends.mkldnn
    for choose, restore in (
        (
            lambda: torch.set_float32_matmul_precision("medium"),
            lambda: torch.set_float32_matmul_precision("highest"),
        ),
        (
            lambda: setattr(mkldnn.conv, "fp32_precision", "bf16"),
            lambda: setattr(mkldnn.conv, "fp32_precision", "none"),
        ),
    ):
        choose()
        chosen = (mkldnn.conv.fp32_precision, mkldnn.matmul.fp32_precision)
        assert "bf16" in chosen
        with plain_context(), plain_context():
            assert mkldnn.conv.fp32_precision == mkldnn.matmul.fp32_precision == "ieee"
        assert (mkldnn.conv.fp32_precision, mkldnn.matmul.fp32_precision) == chosen
        restore()


def test_scoring_is_float32_and_an_attack_takes_tf32_if_asked(on_a_gpu: None) -> None:
    class Notes(Picky):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(tf32_is_on())
            return super().forward(x)

    seen: list[bool] = []
    images = torch.rand(2, *SHAPE)
    for tf32 in (False, True):
        victim = Victim(Notes(reaches_all), tf32=tf32)
        victim(images)
        victim.sample(images, torch.arange(2))
        with plain_context():
            victim(images)
    assert seen == [False, False, False, True, False, True]


def test_a_thread_that_scores_holds_the_others_to_float32(on_a_gpu: None) -> None:
    with plain_context(True), ThreadPoolExecutor(1) as pool:
        assert tf32_is_on()
        with ExitStack() as scoring:
            pool.submit(scoring.enter_context, plain_context(False)).result()
            assert not tf32_is_on()
            pool.submit(scoring.close).result()
        assert tf32_is_on()
    assert tf32_is_on()
