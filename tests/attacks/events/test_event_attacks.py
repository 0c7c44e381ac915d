"""What the attacks on event frames keep to; a row tests one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.attacks import (
    EVENT_ATTACKS,
    SDA,
    Attack,
    SpikeFool,
    changed_entries,
    flips_needed,
    make_attack,
)
from robust_snn.eval import AttackSpec, Suite
from robust_snn.eval.protocol.suite_files import load_suite
from robust_snn.neurons import LIF, StochasticGate
from victims import StandIn

SHAPE = (3, 2, 8, 8)  # T, C, H, W
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("sda", {"steps": 3, "k_init": 5}),
    ("flip-search", {"steps": 40}),
    ("event-pgd", {"steps": 4}),
    ("event-pgd", {"steps": 4, "per_bin": 2, "eot_loss": 2}),
    ("random-flips", {"steps": 3}),
    ("random-flips", {"steps": 3, "only": "deletions"}),
    ("event-pgd", {"steps": 4, "only": "insertions"}),
    ("flip-search", {"steps": 40, "only": "deletions"}),
    ("sda", {"steps": 3, "only": "insertions"}),
    ("spikefool", {"steps": 3}),
    ("spikefool", {"steps": 3, "only": "deletions"}),
    ("g2s", {"steps": 4}),
    ("camera-patterns", {"steps": 2}),
    ("camera-patterns", {"steps": 2, "pattern": "mask"}),
    ("retiming", {"steps": 4}),
    ("retiming", {"steps": 4, "jitter": 2, "delay": 5, "guide": "random"}),
    ("retiming-search", {"steps": 40}),
    ("soft-retiming", {"steps": 4}),
    ("soft-retiming", {"steps": 4, "jitter": 2, "delay": 5}),
]
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{len(row[1])}")
both = pytest.mark.parametrize("net", ["snn_vgg5", "snn_vgg5_nlif"])


def build(net: str) -> Victim:
    torch.manual_seed(0)
    size = {"img_size": 8, "in_chans": 2, "num_classes": 5}
    return robust_snn.adapt(net, T=3, width=0.125, head_width=16, **size)


@pytest.fixture
def frames() -> Tensor:
    return (torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1)) < 0.2).float()


@pytest.fixture
def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 3])


def make(name: str, options: dict[str, Any]) -> Attack:
    return make_attack(name, options, EVENT_ATTACKS)


def run(row: tuple[str, dict[str, Any]], victim: Victim, *batch: Tensor, **more: Any) -> Any:
    return make(*row)(victim, *batch, **{"eps": 6, "norm": "L0", **more})


def test_every_attack_has_a_row() -> None:
    assert {name for name, _ in ROWS} == set(EVENT_ATTACKS)


@every_row
@both
def test_flips_stay_in_the_budget(net: str, row: Any, frames: Tensor, labels: Tensor) -> None:
    victim = build(net)
    result = run(row, victim, frames, labels, seed=3)
    assert set(result.images.unique().tolist()) <= {0.0, 1.0}
    assert (changed_entries(frames, result.images) <= 6).all()
    assert result.success.shape == labels.shape and result.success.dtype == torch.bool
    victim(frames)
    again = run(row, victim, frames, labels, seed=3)
    assert torch.equal(result.images, again.images)
    assert run(row, victim, frames[:0], labels[:0]).images.shape == (0, *SHAPE)
    assert torch.equal(run(row, victim, frames, labels, eps=0).images, frames)


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(384, 5))


class Gated(StandIn):
    """A linear network that misses three in ten entries of its frames by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.net = StochasticGate(SHAPE[1:], 0.7), linear()

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.net(self.gate(frames.movedim(1, 0)).movedim(0, 1))
        return logits


@every_row
@pytest.mark.parametrize("noisy", [False, True])
def test_a_split_changes_nothing(noisy: bool, row: Any, frames: Tensor) -> None:
    net, ids = linear(), torch.tensor([7, 3, 9, 4])
    labels = net(frames).argmax(1)
    victim, order = Victim(Gated() if noisy else net, eot=1 + noisy), torch.tensor([3, 0])
    whole = run(row, victim, frames, labels, ids=ids)
    part = run(row, victim, frames[order], labels[order], ids=ids[order])
    assert torch.equal(part.images, whole.images[order])


@pytest.mark.parametrize("name", ["sda", "event-pgd"])
def test_gradients_fool_a_linear_net(name: str, frames: Tensor) -> None:
    net = linear()
    labels = net(frames).argmax(1)
    result = EVENT_ATTACKS[name]()(Victim(net), frames, labels, eps=60)
    assert result.success.all()
    assert torch.equal(result.success, net(result.images).argmax(1) != labels)


def test_sda_needs_as_few_flips_as_the_best_choice(frames: Tensor) -> None:
    """On a linear net, the best choice is known: the most useful flips towards one class."""
    net = linear()
    labels, weight = net(frames).argmax(1), net[1].weight.detach()
    result = SDA()(Victim(net), frames, labels, eps=384)
    for x, adversarial, label in zip(frames, result.images, labels, strict=True):
        logits, fewest = net(x[None])[0].detach(), []
        for other in {0, 1, 2, 3, 4} - {int(label)}:
            use = ((1 - 2 * x.flatten()) * (weight[label] - weight[other])).sort().values
            lead = float(logits[label] - logits[other]) + use.cumsum(0)
            fewest.append(int((lead >= 0).sum()) + 1)
        needed = int(changed_entries(x[None], adversarial[None]))
        assert min(fewest) <= needed <= 1.35 * min(fewest) + 2


def test_the_budget_is_the_recordings() -> None:
    """On a linear net the best flips are known, and no time bin has a share of its own."""
    net, frames = nn.Sequential(nn.Flatten(), nn.Linear(384, 2)), torch.zeros(1, *SHAPE)
    use = (net[1].weight[1] - net[1].weight[0]).detach()
    for eps in (1, 2, 5, 11):
        made = make("event-pgd", {"steps": 2})(Victim(net), frames, torch.tensor([0]), eps=eps)
        assert set(made.images.flatten().nonzero()[:, 0].tolist()) == set(
            use.topk(eps).indices.tolist()
        )
    capped = make("event-pgd", {"steps": 2, "per_bin": 2})
    made = capped(Victim(net), frames, torch.tensor([0]), eps=11).images
    assert made.flatten(2).sum(2).tolist() == [[2, 2, 2]]


class Tiny(nn.Module):
    """32 entries, 16 neurons, 3 classes: so small that every choice of flips can be tried."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.neurons, self.leave = nn.Linear(8, 16), LIF(decay=0.8), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.neurons(self.enter(x.transpose(0, 1).flatten(2)))).mean(0)


def brute_force(net: nn.Module, frames: Tensor, labels: Tensor, eps: int) -> Tensor:
    """Whether some choice of `eps` flips, or of fewer, changes the answer, `[B]`."""
    size, wrong = frames[0].numel(), net(frames).argmax(1) != labels
    for count in range(1, eps + 1):
        choices = torch.tensor(list(itertools.combinations(range(size), count)))
        flips = torch.zeros(len(choices), size).scatter_(1, choices, 1).view(-1, *frames[0].shape)
        every = [net((x - flips).abs()).argmax(1) != y for x, y in zip(frames, labels, strict=True)]
        wrong |= torch.stack(every).any(1)
    return wrong


@pytest.mark.parametrize("eps", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 2])
def test_the_suite_against_every_choice_of_flips(seed: int, eps: int) -> None:
    """What `events-sparse` fools is what can be fooled, at every small budget."""
    torch.manual_seed(seed)
    net, frames = Tiny(), (torch.rand(200, 4, 2, 2, 2) < 0.4).float()
    with torch.no_grad():
        for layer in (net.enter, net.leave):
            layer.weight.mul_(3)
        lead, labels = net(frames).topk(2)
        some = (lead[:, 0] - lead[:, 1]).argsort()[60:160:14]  # neither sure nor on the edge
        frames, labels = frames[some], labels[some, 0]
        possible = brute_force(net, frames, labels, eps)
    found = {}
    for row in load_suite("events-sparse").attacks:
        victim = Victim(net, gradient=row.gradient or "bptt")
        attack = EVENT_ATTACKS[row.attack](steps=row.steps if row.steps > 50 else 8)
        found[row.name] = attack(victim, frames, labels, eps=eps).success
    assert not (torch.stack(list(found.values())) & ~possible).any()
    assert torch.equal(found["flip-search"], possible)
    few = EVENT_ATTACKS["flip-search"](steps=500)(Victim(net), frames, labels, eps=eps)
    assert few.success.sum() >= 0.8 * possible.sum()  # where not every set can be tried
    assert found["sda-pdsg"].sum() >= 0.3 * possible.sum()  # within the budget, not beyond it


@pytest.mark.parametrize(("row", "allowed"), [(row, row[1].get("only")) for row in ROWS])
def test_what_a_threat_conserves(row: Any, allowed: str | None) -> None:
    """Insertions only add, deletions only remove, moves keep the events of every pixel."""
    frames = (torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(5)) < 0.2).float()
    net = linear(1)
    for eps in (1, 2, 7, 30):
        made = run(row, Victim(net), frames, net(frames).argmax(1), eps=eps).images
        if allowed == "insertions" or row[0] == "camera-patterns":
            assert (made >= frames).all()
        if allowed == "deletions":
            assert (made <= frames).all()
        if "retiming" in row[0]:
            assert torch.equal(made.sum(1), frames.sum(1))
        assert (changed_entries(frames, made) <= eps).all()


def test_flips_needed_make_a_curve(frames: Tensor) -> None:
    """SpikeFool needs about as few flips as the best choice, which is known on a linear net."""
    net = linear()
    labels, weight = net(frames).argmax(1), net[1].weight.detach()
    result = SpikeFool()(Victim(net), frames, labels, eps=384)
    needed, best = flips_needed(frames, result.images, result.success), []
    for x, label in zip(frames, labels, strict=True):
        logits, fewest = net(x[None])[0].detach(), []
        for other in {0, 1, 2, 3, 4} - {int(label)}:
            use = ((1 - 2 * x.flatten()) * (weight[label] - weight[other])).sort().values
            fewest.append(int((logits[label] - logits[other] + use.cumsum(0) >= 0).sum()) + 1)
        best.append(min(fewest))
    assert needed.tolist() == best
    assert flips_needed(frames, result.images, ~result.success).isinf().all()


def test_the_retiming_suite_against_every_choice_of_moves() -> None:
    torch.manual_seed(0)
    net, frames = Tiny(), (torch.rand(200, 4, 2, 2, 2) < 0.4).float()
    with torch.no_grad():
        for layer in (net.enter, net.leave):
            layer.weight.mul_(3)
        lead, labels = net(frames).topk(2)
        some = (lead[:, 0] - lead[:, 1]).argsort()[:120:8]
        frames, labels = frames[some], labels[some, 0]
        rows = zip(frames, labels, strict=True)
        possible = [bool((net(two_moves(x)).argmax(1) != y).any()) for x, y in rows]
    found = {}
    for row in load_suite("events-retiming").attacks:
        options = {"steps": row.steps} | {k: v for k, v in row.options.items() if k != "eot_loss"}
        if options.get("jitter", 1) == 1:
            victim = Victim(net, gradient=row.gradient or "bptt")
            found[row.name] = make(row.attack, options)(victim, frames, labels, eps=4).success
    assert found["search-1"].tolist() == possible and 0 < sum(possible) < len(frames)
    assert not (torch.stack(list(found.values())) & ~torch.tensor(possible)).any()


def test_a_move_that_another_makes_room_for() -> None:
    """Of events in steps 0 and 1, the first can only follow the second, to steps 1 and 2."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [-1.0, 1.0, 1.0]]))
        net[1].bias.copy_(torch.tensor([0.0, -1.5]))
    frames = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1, 1)
    for moves, fooled in ((1, False), (2, True)):
        attack = EVENT_ATTACKS["retiming-search"](steps=50)
        made = attack(Victim(net), frames, torch.tensor([0]), eps=2 * moves)
        assert made.success.item() is fooled
    assert made.images.flatten().tolist() == [0, 1, 1]


def two_moves(x: Tensor) -> Tensor:
    """All frames after at most two moves by one step of different events, `[n, T, C, H, W]`."""
    flat, last = x.flatten(1), len(x) - 1
    moves = [(t, n, t + d) for t, n in flat.nonzero().tolist() for d in (-1, 1)]
    moves = [move for move in moves if 0 <= move[2] <= last]
    frames = []
    for chosen in itertools.chain(
        itertools.combinations(moves, 1), itertools.combinations(moves, 2)
    ):
        after = flat.clone()
        for before, n, to in chosen:
            after[before, n] -= 1
            after[to, n] += 1
        if after.min() >= 0 and after.max() <= 1:
            frames.append(after.view(x.shape))
    return torch.stack(frames)


class Silent(Tiny):
    """A network that lets no gradient pass."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_a_search_needs_no_gradient(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, frames = Silent(), (torch.rand(6, 4, 2, 2, 2) < 0.4).float()
    labels = net(frames).argmax(1)
    found = EVENT_ATTACKS["flip-search"](steps=500)(Victim(net), frames, labels, eps=8)
    assert found.success.any()
    assert torch.equal(net(found.images).argmax(1) != labels, found.success)
    row = AttackSpec("search", "events", "flip-search", steps=500)
    verdict = robust_snn.evaluate(
        Victim(net), frames, labels, suite=Suite("s", (row,), norm="L0", eps=8.0), out=tmp_path
    )
    assert verdict.robust.accuracy == 1 - found.success.float().mean()


class Votes(nn.Module):
    """Counts spikes of either half of the frames, so that answers tie; the first class wins."""

    def __init__(self) -> None:
        super().__init__()
        self.neurons = LIF(decay=0.1)  # every event is a spike

    def forward(self, x: Tensor) -> Tensor:
        return self.neurons(x.transpose(0, 1).flatten(2)).unflatten(2, (2, -1)).sum((0, 3))


@pytest.mark.parametrize("name", ["sda", "flip-search"])
def test_a_tie_is_as_answered(name: str) -> None:
    """Two flips make a tie, which the label wins as the first class and loses as the second."""
    frames = torch.zeros(2, *SHAPE)
    frames[0, 0, 0, 0, :2] = frames[1, 0, 1, 0, :2] = 1
    for eps, fooled in ((1, [False, False]), (2, [False, True]), (3, [True, True])):
        made = EVENT_ATTACKS[name](steps=3000 if name == "flip-search" else 10)(
            Victim(Votes()), frames, torch.tensor([0, 1]), eps=eps
        )
        assert made.success.tolist() == fooled, eps
        assert (Votes()(made.images).argmax(1) != torch.tensor([0, 1])).tolist() == fooled


def test_whole_events_within_the_radius() -> None:
    counts, net = torch.randint(0, 4, (4, *SHAPE)) / 255, linear()
    labels = net(counts).argmax(1)
    for per_bin in (None, 3):
        attack = make("event-pgd", {"per_bin": per_bin, "steps": 4})
        result = attack(Victim(net), counts, labels, eps=2 / 255, norm="Linf")
        moved = (result.images - counts) * 255
        assert moved.abs().max() <= 2 + 1e-3 and (moved - moved.round()).abs().max() < 1e-3
        assert result.images.min() >= 0 and moved.abs().max() > 0.5
        per_step = (moved.abs() > 0.5).flatten(2).sum(2)
        assert per_bin is None or (per_step <= per_bin).all()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sda", {"images": torch.full((1, *SHAPE), 1 / 255)}, "hold counts"),
        ("sda", {"images": torch.zeros(1, 2, 8, 8)}, "needs event frames"),
        ("sda", {"norm": "Linf"}, "knows the norm L0"),
        ("sda", {"eps": 0.5}, "number of entries"),
        ("sda", {"steps": 0}, "steps"),
        ("flip-search", {"steps": 0}, "steps"),
        ("flip-search", {"images": torch.full((1, *SHAPE), 1 / 255)}, "hold counts"),
        ("event-pgd", {"norm": "L2"}, "L0 and Linf"),
        ("event-pgd", {"per_bin": 0}, "per_bin"),
        ("event-pgd", {"images": torch.ones(1, *SHAPE), "norm": "Linf", "eps": 0.1}, "are binary"),
        ("event-pgd", {"lss": "ce"}, "loss"),
        ("random-flips", {"only": "none"}, "only of random-flips"),
        ("flip-search", {"only": "deletion"}, "did you mean 'deletions'"),
        ("camera-patterns", {"pattern": "dsh"}, "did you mean 'dash'"),
        ("soft-retiming", {"alpha": 0}, "positive number"),
        ("retiming", {"images": torch.full((1, *SHAPE), 0.3)}, "whole events"),
        ("retiming", {"norm": "Linf"}, "knows the norm L0"),
        ("retiming", {"jitter": 0}, "jitter"),
        ("retiming", {"delay": 0}, "delay"),
        ("retiming", {"guide": "gradients"}, "did you mean 'gradient'"),
    ],
)
def test_wrong_arguments_are_refused(name: str, change: dict[str, Any], message: str) -> None:
    given = {"images": torch.zeros(1, *SHAPE), "labels": torch.tensor([0]), "eps": 5}
    called = {key: change.get(key, value) for key, value in given.items()}
    called |= {key: value for key, value in change.items() if key == "norm"}
    options = {key: value for key, value in change.items() if key not in called}
    with pytest.raises(InputError, match=message):
        make(name, options)(build("snn_vgg5"), **called)


def test_entries_of_other_frames_are_not_counted() -> None:
    with pytest.raises(InputError, match="changed to others"):
        changed_entries(torch.zeros(2, *SHAPE), torch.zeros(1, *SHAPE))


def test_rows_of_a_suite_are_checked() -> None:
    make("event-pgd", {"steps": 3, "loss": "dlr", "per_bin": 4}).check_norm("L0")
    for name, norm, options, message in [
        ("sdaa", "L0", {}, "did you mean 'sda'"),
        ("sda", "L0", {"loss": "ce"}, "option of sda"),
        ("sda", "L2", {}, "knows the norm L0"),
        ("event-pgd", "L0", {"losss": "ce"}, "did you mean 'loss'"),
        ("event-pgd", "L0", {"loss": "mse"}, "mse"),
        ("event-pgd", "L0", {"eps": 3}, "option of event-pgd"),
    ]:
        with pytest.raises(InputError, match=message):
            make(name, options).check_norm(norm)
