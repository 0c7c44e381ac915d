"""How a network is to be run: steps, time, state, all found by running it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robust_snn import InputError, adapt
from robust_snn.certificates import smooth
from robust_snn.eval.scoring.noise_draws import score
from robust_snn.foreign.runnable import Layout
from robust_snn.victim.scoring import correct
from tests.foreign.own_step import Fire

T = 5
CLOCK = itertools.count()
IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Cell(nn.Module):
    """A neuron that keeps its membrane, of any kind of rest."""

    def __init__(self, rest: Any = None) -> None:
        super().__init__()
        self.v = rest

    def forward(self, x: Tensor) -> Tensor:
        v = 0.0 if self.v is None else self.v
        v = 0.8 * v + x
        spikes = Fire.apply(v - 1)
        self.v = v * (1 - spikes)
        return spikes


def body(rest: Any = None) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), Cell(rest), nn.Linear(8, 3), Cell(rest))
    for layer in (net[1], net[3]):
        layer.weight.data *= 4
    return net


def expected(x: Tensor = IMAGES) -> Tensor:
    net = body()
    return torch.stack([net(x) for _ in range(T)]).mean(0)


class Loop(nn.Module):
    """It runs its steps itself."""

    def __init__(self, rest: Any = None) -> None:
        super().__init__()
        self.body = body(rest)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.body(x) for _ in range(T)]).mean(0)


class Sequence(nn.Module):
    """It takes all steps at once, whose axis is `time`."""

    def __init__(self, time: int) -> None:
        super().__init__()
        self.body, self.time = body(), time

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 5:
            raise RuntimeError(f"expected 5 dimensions, got {x.dim()}")
        steps = x.movedim(self.time, 0)
        return torch.stack([self.body(step) for step in steps]).movedim(0, min(self.time, 2))


LAYOUTS = {
    "one step": (body, Layout.STEPS),
    "time first": (lambda: Sequence(0), Layout.TIME_FIRST),
    "batch first": (lambda: Sequence(1), Layout.BATCH_FIRST),
    "time last": (lambda: Sequence(4), Layout.TIME_LAST),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_net_without_steps_of_its_own_is_shown_them(name: str) -> None:
    build, layout = LAYOUTS[name]
    victim = adapt(build(), T=T, images=IMAGES)
    assert next(iter(victim.net.studies.values())).layout is layout
    for count in (6, T, 3, 1):
        found = victim.sample(IMAGES[:count], torch.arange(count))
        assert torch.allclose(found, expected()[:count])


@pytest.mark.parametrize("rest", [None, 0.0, torch.zeros(1)], ids=["None", "number", "tensor"])
def test_a_state_starts_anew_in_every_call(rest: Any) -> None:
    net = Loop(rest)
    victim = adapt(net, images=IMAGES)
    for _ in range(2):
        assert torch.equal(victim.sample(IMAGES, torch.arange(6)), expected())
    for cell in (net.body[2], net.body[4]):
        assert cell.v is None or not torch.as_tensor(cell.v).any()


def test_a_state_that_was_left_behind() -> None:
    class WithReset(Loop):
        def reset(self) -> None:
            for cell in (self.body[2], self.body[4]):
                cell.v = None

    class ResetsItself(WithReset):
        def forward(self, x: Tensor) -> Tensor:
            self.reset()
            return super().forward(x)

    for build in (WithReset, ResetsItself):
        net = build()
        net(IMAGES)
        assert torch.equal(adapt(net, images=IMAGES).sample(IMAGES, torch.arange(6)), expected())
    net = Loop()
    net(IMAGES)
    with pytest.raises(InputError, match=r"keeps body\.2\.v, body\.4\.v from an earlier call"):
        adapt(net, images=IMAGES)


class Elsewhere(Loop):
    kept: list[Tensor] = []  # noqa: RUF012 - a state that belongs to no object

    def forward(self, x: Tensor) -> Tensor:
        self.kept.append(x)
        return super().forward(x) + len(self.kept)


class Random(Loop):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn_like(x))


class Mixing(Loop):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - 3 * x.mean(0, keepdim=True) + x.flip(0))


class Centred(Loop):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean())


class Stretched(Loop):
    """Alike for all batches whose images reach from black to white."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - x.min()) / (x.max() - x.min()))


class Unseen(Loop):
    """Fails where something sees its operations, as code that traces itself does."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.overrides._get_current_function_mode_stack():
            raise RuntimeError("it cannot be traced twice")
        return super().forward(x)


class AtMost(Loop):
    def forward(self, x: Tensor) -> Tensor:
        assert len(x) < 4
        return super().forward(x)


class Timed(Loop):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + next(CLOCK))


class Folded(Loop):
    """Gives neurons `[T * B, ...]` where they take `[T, ...]`."""

    def forward(self, x: Tensor) -> Tensor:
        images = x.expand(T, *x.shape).flatten(0, 1)
        return torch.cat([self.body(image[None]) for image in images]).view(T, len(x), -1).mean(0)


class RandomSteps(Loop):
    def forward(self, x: Tensor) -> Tensor:
        steps = range(random.randint(1, 10**6) % 97 + 1)
        return torch.stack([super(RandomSteps, self).forward(x) for _ in steps]).sum(0)


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "T twice": (Loop, {"T": T}, r"runs 5 time steps by itself; say robust_snn\.adapt\(net\)"),
    "half precision": (lambda: Loop().half(), {}, r"weights are float16.*give net\.float\(\)"),
    "no values": (lambda: Loop().to("meta"), {}, "on the meta device"),
    "a random number of steps": (RandomSteps, {}, "it draws random numbers: say robust_snn"),
    "no T": (body, {}, r"runs a single time step.*say robust_snn\.adapt\(net, T=\.\.\.\)"),
    "sequences without T": (lambda: Sequence(0), {}, r"adapt\(net, T=\.\.\.\)"),
    "hidden state": (Elsewhere, {}, "keeps the class variable Elsewhere.kept"),
    "random": (Random, {}, r"say robust_snn\.adapt\(net, \.\.\., random=True\)"),
    "mixed images": (
        Mixing,
        {},
        r"or on the images beside it.*give neurons and norms \[T, B",
    ),
    "a norm over the batch": (Centred, {}, "or on the images beside it"),
    "unseen": (Unseen, {}, "not while its operations are looked at"),
    "four images": (AtMost, {}, "takes 3 images, and fails on 6"),
    "a clock": (Timed, {"random": True}, "draws random numbers that follow from no seed"),
    "images as steps": (Folded, {}, r"or on the images beside it.*\[T, B, \.\.\.\]"),
    "a scale of the batch": (Stretched, {}, "each image statistics of its own"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_is_refused_with_the_way_out(name: str) -> None:
    build, arguments, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        adapt(build(), images=IMAGES, **arguments)


class OneByOne(Loop):
    """It runs images one by one."""

    def forward(self, x: Tensor) -> Tensor:
        logits = []
        for image in x:
            self.body[2].v = self.body[4].v = None
            logits.append(super().forward(image[None]))
        return torch.cat(logits)


class Exiting(Loop):
    """It stops once it is certain of every image."""

    def forward(self, x: Tensor) -> Tensor:
        total, uncertain = torch.zeros(len(x), 1), x.flatten(1).sum(1, keepdim=True)
        for step in range(T):
            goes_on = step < uncertain.detach() - 5
            if not goes_on.any():
                break
            total = total + goes_on * self.body(x)
        return total


@pytest.mark.parametrize("build", [OneByOne, Exiting])
def test_a_number_of_calls_that_follows_the_images_leaves_the_own_gradient(
    build: type[Loop],
) -> None:
    victim, x = adapt(build(), images=IMAGES), IMAGES.clone().requires_grad_()
    assert victim.gradient.name == "own" and victim.takes("own").refusal is None
    (found,) = torch.autograd.grad(victim(x).square().sum(), x)
    (expected,) = torch.autograd.grad(build()(x).square().sum(), x)
    assert torch.equal(found, expected) and found.any()
    with pytest.raises(InputError, match="depend on the values or the number of images"):
        victim.replace(gradient="bptt")(x)


class Squeezed(Loop):
    """It has no axis of images for a single one."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze()


def test_a_net_that_takes_no_single_image_is_shown_it_twice() -> None:
    victim = adapt(Squeezed(), images=IMAGES)
    x, alone = IMAGES.clone().requires_grad_(), IMAGES[:1].clone().requires_grad_()
    for mode in ("own", "bptt", "rga", "hart"):
        several = victim.replace(gradient=mode)(x)[0]
        single = victim.replace(gradient=mode)(alone)
        assert torch.equal(single[0], several)
        grads = [
            torch.autograd.grad(v.square().sum(), image)[0]
            for v, image in ((several, x), (single, alone))
        ]
        assert torch.allclose(grads[0][:1], grads[1])


class Encoded(nn.Module):
    """A network that runs some steps itself, behind an encoder that passes no gradient."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.body, self.steps = body(), steps

    def forward(self, x: Tensor) -> Tensor:
        for cell in self.body[2::2] if self.steps > 1 else ():
            cell.v = None
        with torch.no_grad():
            x = (x * 255).round() / 255
        return sum(self.body(x) for _ in range(self.steps))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("steps", "T", "message"),
    [(1, None, "runs a single time step"), (4, 4, "runs 4 time steps"), (4, None, ""), (1, 4, "")],
)
def test_steps_are_counted_behind_an_encoder_without_a_gradient(
    steps: int, T: int | None, message: str
) -> None:
    if message:
        with pytest.raises(InputError, match=message):
            adapt(Encoded(steps), T=T, images=IMAGES)
        return
    victim = adapt(Encoded(steps), T=T, images=IMAGES)
    assert "no gradient of Encoded reaches" in (victim.takes("bptt").refusal or "")


class Counting(Loop):
    """It keeps a number that only counts, and one that it answers by."""

    def __init__(self, calls: int, share: float) -> None:
        super().__init__()
        self.calls, self.share, self.seen, self.n = calls, share, 0, torch.zeros((), dtype=int)

    def forward(self, x: Tensor) -> Tensor:
        self.seen, self.n = self.seen + 1, self.n + 1
        return super().forward(x) + self.share * (self.n % self.calls == 0)


@pytest.mark.parametrize(
    ("calls", "share", "told"), [(2, 1.0, True), (7, 1.0, True), (2, 0, False)]
)
def test_answers_that_follow_the_number_of_calls_are_told(
    calls: int, share: float, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    victim = adapt(Counting(calls, share), images=IMAGES)
    assert ("because it keeps seen, n" in caplog.text) == told
    assert (victim.net.counters is not None) == told
    torch.testing.assert_close(victim(IMAGES), Loop()(IMAGES))


def _tick_number(net: Any) -> int:
    net.n = getattr(net, "n", 0) + 1
    return int(net.n)


def _tick_buffer(net: Any) -> int:
    if "n" not in net._buffers:
        net.register_buffer("n", torch.zeros(1))
    net.n += 1
    return int(net.n)


def _tick_list(net: Any) -> int:
    net.n = [*getattr(net, "n", []), 0.0]
    return len(net.n)


def _tick_table(net: Any) -> int:
    table = vars(net).setdefault("n", {"steps": np.zeros(1), "leak": 0.5})
    table["steps"] += 1
    return int(table["steps"][0])


def _tick_closure(net: Any) -> int:
    def counting() -> Callable[[], int]:
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return count

        return tick

    return int(vars(net).setdefault("n", counting())())


class Ticking(nn.Module):
    """Called once per step, it forgets its membranes at a reset, and not the steps."""

    def __init__(self, tick: Callable[[Any], int]) -> None:
        super().__init__()
        self.body, self.tick = body(), tick

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + float(self.tick(self))

    def reset(self) -> None:
        for cell in self.body[2::2]:
            cell.v = None


@pytest.mark.parametrize(
    "tick", [_tick_number, _tick_buffer, _tick_list, _tick_table, _tick_closure]
)
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("before", [0, 3])
def test_counts_of_any_form_are_told_where_they_change_an_answer(
    tick: Callable[[Any], int], whole: bool, before: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of single steps where calls before `adapt` have left them."""

    class Whole(Ticking):
        def forward(self, x: Tensor) -> Tensor:
            self.reset()
            return torch.stack([super(Whole, self).forward(x) for _ in range(T)]).mean(0)

    net = (Whole if whole else Ticking)(tick)
    for _ in range(before):
        net(IMAGES[:4])
    victim = adapt(net, T=None if whole else T, images=IMAGES)
    steps = before * (T if whole else 1)
    torch.testing.assert_close(victim(IMAGES), expected() + steps + (T + 1) / 2)
    assert torch.equal(victim(IMAGES), victim(IMAGES))
    told = ["it keeps" in caplog.text, f"it keeps n (from {steps}" in caplog.text]
    assert told == [whole or before > 0, before > 0]


def test_a_net_that_takes_no_white_images_is_not_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Contrast(Loop):
        def forward(self, x: Tensor) -> Tensor:
            if (x.flatten(1).std(1) == 0).any():
                raise ValueError("no contrast")
            return super().forward(x)

    adapt(Contrast(), images=IMAGES)
    assert (
        "not looked at beside white and black images, because it fails on them (no contrast)"
        in caplog.text
    )


def test_a_random_net_that_says_so() -> None:
    victim = adapt(Random(), images=IMAGES, random=True)
    first, second = (victim.sample(IMAGES, torch.arange(6), draw=draw) for draw in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, victim.sample(IMAGES, torch.arange(6)))


class Drawing(Loop):
    """It draws from a generator that is not the global one of PyTorch."""

    def __init__(self, source: Any, draw: Callable[[Any], Any]) -> None:
        super().__init__()
        self.source, self.draw = [source], draw

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + float(self.draw(self.source[0])))


SOURCES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "torch.Generator": (torch.Generator(), lambda source: torch.rand((), generator=source)),
    "NumPy": (None, lambda source: np.random.rand()),  # noqa: NPY002 - as people write it
    "np.random.Generator": (np.random.default_rng(0), lambda source: source.random()),
    "np.random.RandomState": (np.random.RandomState(0), lambda source: source.rand()),
    "Python": (None, lambda source: random.random()),
    "random.Random": (random.Random(0), lambda source: source.random()),
}


@pytest.mark.parametrize("name", SOURCES)
def test_all_that_a_random_net_draws_from_follows_the_victims_seed(name: str) -> None:
    with pytest.raises(InputError, match="say robust_snn.*random=True"):
        adapt(Drawing(*SOURCES[name]), images=IMAGES)
    victim = adapt(Drawing(*SOURCES[name]), images=IMAGES, random=True)
    first, second = (victim.sample(IMAGES, torch.arange(6), draw=draw) for draw in (0, 1))
    assert not torch.equal(first, second)
    random.seed(1)
    before = random.random()
    random.seed(1)
    assert torch.equal(first, victim.sample(IMAGES, torch.arange(6)))
    assert random.random() == before  # the caller's numbers go on as they were


def test_event_frames_without_T_are_shown_as_they_come() -> None:
    frames = IMAGES[:, None].expand(-1, T, -1, -1, -1)
    for time in (0, 1):
        victim = adapt(Sequence(time), images=frames)
        assert torch.allclose(victim.sample(frames, torch.arange(6)), expected())


def test_one_line_says_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    adapt(Loop())
    line = capsys.readouterr().err
    assert "2 spike sites (body.2, body.4) by 2 Fire" in line and "modes own, bptt" in line
    adapt(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    assert "WARNING" in capsys.readouterr().err


def test_a_compiled_network_runs_as_it_was_written() -> None:
    victim = adapt(torch.compile(Loop()), images=IMAGES)  # type: ignore[arg-type]
    assert len(victim.net.neurons) == 2
    assert torch.equal(victim.sample(IMAGES, torch.arange(6)), expected())


def test_a_compiled_function_inside_a_network_runs_as_it_was_written() -> None:
    compiled = torch.compile(lambda v: torch.sigmoid(v) + ((v > 0).float() - v.sigmoid()).detach())

    class Inside(Loop):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + compiled(x.flatten(1)[:, :3] - 0.5)

    assert len(adapt(Inside(), images=IMAGES).net.neurons) == 3


@pytest.mark.parametrize("reentrant", [True, False])
def test_parts_behind_gradient_checkpointing_run_once(reentrant: bool) -> None:
    class Twice(Loop):
        def forward(self, x: Tensor) -> Tensor:
            run = super().forward
            return checkpoint(run, x, use_reentrant=reentrant)  # type: ignore[no-any-return]

    x = IMAGES.clone().requires_grad_()
    grads = []
    for net in (Loop(), Twice()):
        victim = adapt(net, images=IMAGES, gradient="bptt")
        assert victim.takes("bptr").neurons
        grads.append(torch.autograd.grad(victim(x).square().sum(), x)[0])
    assert torch.equal(*grads)
    weight = next(net.parameters())  # outside of a victim, checkpointing is as it was
    net(x).sum().backward()
    assert weight.grad is not None


class OneDrawForAll(nn.Module):
    """Right in most calls, for all images of a call together."""

    def __init__(self, draw: Callable[[], float] = lambda: float(torch.rand(()))) -> None:
        super().__init__()
        self.fc, self.draw = nn.Linear(IMAGES[0].numel(), 3), draw

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1)) * (1 if self.draw() < 0.7 else -1)


GENERATORS = {
    "torch": lambda: float(torch.rand(())),
    "numpy": lambda: float(np.random.rand()),  # noqa: NPY002
    "python": random.random,
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_noise_of_a_whole_call_is_every_images_own_where_it_is_scored(kind: str) -> None:
    victim = adapt(OneDrawForAll(GENERATORS[kind]), images=IMAGES, random=True)
    labels = victim.sample(IMAGES[:1], torch.zeros(1, dtype=torch.long)).argmax(1).expand(6)
    right = correct(victim, IMAGES, labels, draws=20)
    assert len({tuple(row) for row in right.T.tolist()}) > 2  # not all or none
    for at in ([3], [5, 0], [4, 2, 1]):
        ids = torch.tensor(at)
        assert torch.equal(correct(victim, IMAGES[ids], labels[ids], ids=ids), right[ids])
    found = score(victim, IMAGES, labels, torch.arange(6), draws=20, purpose="report")
    assert np.array_equal(found.accuracy, right.double().mean(1).numpy())


def test_a_smoothed_answer_counts_draws_that_do_not_hang_together() -> None:
    """Of 1000 draws in four calls, all may be right by luck; none is certified above 0.7."""
    torch.manual_seed(0)
    net = OneDrawForAll()
    victim = adapt(net, images=IMAGES, random=True)
    found = smooth(victim, IMAGES[:3], noise="gaussian(sigma=0.001)", choose=20, draws=200)
    assert (found.probability < 0.8).all()


class SeededByPlace(nn.Module):
    """Draws the same numbers in every call, so that an image's noise is that of its place."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(IMAGES[0].numel(), 3)

    def forward(self, x: Tensor) -> Tensor:
        signs = torch.tensor([1.0, -1.0, 1.0])[: len(x), None]
        return self.fc(x.flatten(1)) * signs


def test_noise_of_a_place_is_refused() -> None:
    with pytest.raises(InputError, match="its place in the batch"):
        adapt(SeededByPlace(), images=IMAGES)
