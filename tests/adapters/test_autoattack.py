"""AutoAttack through the adapter: constraints, class counts, honesty, an untouched caller."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pyautoattack import AutoAttack, checks
from torch import Tensor, nn

from robust_snn import InputError, Victim
from robust_snn.adapters import _autoattack_run
from robust_snn.adapters._autoattack_resume import RunState
from robust_snn.adapters._autoattack_state import original_package
from robust_snn.adapters.autoattack import (
    LEAST_CLASSES,
    VERSIONS,
    AutoAttackProgress,
    EvaluationState,
    autoattack,
)
from robust_snn.adapters.autoattack import AutoAttack as DropIn
from robust_snn.eval import AttackSpec
from robust_snn.eval.protocol.implementations import implementation
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.utils.checked_files import DamagedFile
from robust_snn.victim.scoring import accuracy
from victims import tiny_victim, told_by, untouched

EPS = {"Linf": 0.1, "L2": 0.8, "L1": 6.0}
SHORT = {"n_iter": 4, "n_queries": 6}


def distance(adversarial: Tensor, images: Tensor, norm: str) -> float:
    order = {"Linf": torch.inf, "L2": 2, "L1": 1}[norm]
    delta = (adversarial.double() - images.double()).flatten(1)
    return float(delta.norm(p=order, dim=1).max())


@pytest.fixture(params=[False, True], ids=["deterministic", "noisy"])
def victim(request: pytest.FixtureRequest, device: torch.device) -> Victim:
    return tiny_victim(request.param)


@pytest.fixture
def seen(device: torch.device) -> Victim:
    return tiny_victim(False)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("name", LEAST_CLASSES)
def test_every_attack_alone(victim: Victim, name: str, norm: str) -> None:
    images, labels = told_by(victim, 5)
    eps = EPS[norm]
    result = autoattack(victim, images, labels, eps, norm, attacks=[name], batch_size=3, **SHORT)
    for adversarial in (result.images, result.hardest):
        if adversarial is not None:
            assert adversarial.shape == images.shape and adversarial.isfinite().all()
            assert not adversarial.requires_grad
            assert adversarial.min() >= 0 and adversarial.max() <= 1
            assert distance(adversarial, images, norm) <= eps + 1e-6
    assert result.attacks == (name,)
    assert result.success.dtype == torch.bool
    assert result.claimed == (~result.success).float().mean()
    assert torch.equal(result.images[~result.success], images[~result.success])


def test_l1_works(victim: Victim) -> None:
    images, labels = told_by(victim, 3)
    result = autoattack(victim, images, labels, EPS["L1"], "L1", **SHORT)
    assert distance(result.images, images, "L1") <= EPS["L1"] + 1e-5


def test_caller_is_left_alone(victim: Victim) -> None:
    images, labels = told_by(victim, 3)
    modes = {name: module.training for name, module in victim.named_modules()}
    weights = {name: value.clone() for name, value in victim.state_dict().items()}
    checks.funcs["grad"] += 3  # what another model's forward left behind
    counted, state, trace = dict(checks.funcs), torch.get_rng_state(), sys.gettrace()
    logger = logging.getLogger("auto-attack")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate

    first = autoattack(victim, images, labels, 0.1, **SHORT)
    assert torch.equal(torch.get_rng_state(), state)
    assert sys.gettrace() is trace
    assert checks.funcs == counted
    assert (logger.handlers, logger.level, logger.propagate) == (handlers, level, propagate)
    assert modes == {name: module.training for name, module in victim.named_modules()}
    for name, value in victim.state_dict().items():
        assert torch.equal(value, weights[name])
    assert all(p.grad is None for p in victim.parameters())
    checks.funcs["grad"] -= 3

    assert not any("dynamic" in text for text in first.warnings)
    if not victim.stochastic:
        assert torch.equal(autoattack(victim, images, labels, 0.1, **SHORT).images, first.images)


def test_deterministic_victim_gets_the_library_bit_for_bit() -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 9)
    labels[0] = (labels[0] + 1) % 4  # one image is wrong from the start
    ours = autoattack(victim, images, labels, 0.03, batch_size=4, seed=7)
    engine = AutoAttack(victim, eps=0.03, norm="Linf", seed=7, device=images.device)
    engine.apgd_targeted.n_target_classes = engine.fab.n_target_classes = 3
    theirs, answers = engine.run_standard_evaluation(images, labels, batch_size=4)
    assert torch.equal(ours.images, theirs)
    assert torch.equal(ours.success, answers != labels)


@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_square_needs_images_of_five_rows(norm: str) -> None:
    """The library divides by a fifth of their height; whole suites are refused before they run."""
    victim, images = Victim(nn.Sequential(nn.Flatten(), nn.Linear(48, 4))), torch.rand(2, 3, 4, 4)
    labels = torch.tensor([0, 1])
    with pytest.raises(InputError, match="5 rows of squares"):
        autoattack(victim, images, labels, 0.5, norm, attacks=["square"])
    row = AttackSpec("a", "autoattack", "square")
    with pytest.raises(InputError, match="5 rows of squares"):
        implementation(row).check_images(row, images, Threat(norm, 0.5))


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_class_counts(classes: int, noisy: bool) -> None:
    victim = tiny_victim(noisy, classes)
    images, labels = told_by(victim, 1)
    possible = {name for name, least in LEAST_CLASSES.items() if classes >= least}
    for version, names in VERSIONS.items():
        result = autoattack(victim, images, labels, 0.1, version=version, n_iter=2, n_queries=2)
        assert result.attacks == tuple(name for name in names if name in possible)
    auto = autoattack(victim, images, labels, 0.1, n_iter=2, n_queries=2).attacks
    assert set(auto) <= possible and ("square" in auto)
    for name in set(LEAST_CLASSES) - possible:
        with pytest.raises(InputError, match=f"{name} needs at least"):
            autoattack(victim, images, labels, 0.1, attacks=[name])


def test_null_attack_is_exposed() -> None:
    """At eps = 1e-6 nothing is attacked; AutoAttack still claims many successes."""
    victim = tiny_victim(True)
    images, labels = told_by(victim, 32)
    result = autoattack(victim, images, labels, 1e-6, version="rand", n_iter=10)

    clean = accuracy(victim, images, labels, draws=40)
    assert result.claimed < clean - 0.3
    assert abs(accuracy(victim, result.images, labels, draws=40) - clean) < 0.05


def test_noise_is_no_news_but_a_probability_output_is() -> None:
    victim = tiny_victim(True)
    images, labels = told_by(victim, 3)
    assert not autoattack(victim, images, labels, 0.1, **SHORT).warnings
    view = victim.replace(output="probabilities")
    warnings = autoattack(view, images, labels, 0.1, attacks=["apgd-ce"], **SHORT).warnings
    assert any("probability distribution" in text for text in warnings)


def test_hardest_is_the_highest_loss_of_a_noisy_victim() -> None:
    victim = tiny_victim(True).replace(eot=4)
    images, labels = told_by(victim, 6)
    result = autoattack(victim, images, labels, 0.1, attacks=["apgd-ce"], restarts=2, n_iter=10)
    assert result.hardest is not None

    def loss(x: Tensor) -> float:
        logits = victim.replace(eot=64, noise="frozen")(x)
        return float(torch.nn.functional.cross_entropy(logits, labels))

    assert loss(result.hardest) > loss(images)
    assert distance(result.hardest, images, "Linf") > 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "linf"}, "did you mean 'Linf'"),
        ({"version": "standart"}, "did you mean 'standard'"),
        ({"attacks": ["apgd"]}, "did you mean 'apgd-"),
        ({"eps": -0.1}, "eps must be a number of at least 0"),
    ],
)
def test_wrong_names(arguments: dict[str, object], message: str) -> None:
    victim = tiny_victim(False)
    with pytest.raises(InputError, match=message):
        autoattack(victim, *told_by(victim, 1), **arguments)  # type: ignore[arg-type]


def test_a_killed_run_goes_on_to_the_same_result(victim: Victim, tmp_path: Path) -> None:
    images, labels = told_by(victim, 6)
    arguments = {"eps": 0.02, "batch_size": 2, "attacks": ["apgd-ce", "square"], **SHORT}
    whole = autoattack(victim.replace(), images, labels, resume=tmp_path / "whole", **arguments)

    class Killed(Exception):
        pass

    moments: list[str] = []

    def listener(moment: AutoAttackProgress) -> None:
        moments.append(moment.doing)
        if moment.doing == "apgd-ce, batch 3":
            raise Killed

    path = tmp_path / "run"
    with pytest.raises(Killed):
        autoattack(victim.replace(), images, labels, resume=path, progress=listener, **arguments)
    assert moments == ["apgd-ce, batch 1", "apgd-ce, batch 2", "apgd-ce, batch 3"]
    moments.clear()
    resumed = autoattack(victim.replace(), images, labels, resume=path, **arguments)
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.success, whole.success)
    assert torch.equal(resumed.strongest, whole.strongest)
    with pytest.raises(InputError, match=r"holds another run \(eps: 0.02, now 0.03\)"):
        autoattack(victim, images, labels, resume=path, **{**arguments, "eps": 0.03})
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(InputError, match="is no AutoAttack run"):
        autoattack(victim, images, labels, resume=tmp_path / "junk", **arguments)


@pytest.mark.cpu_only
def test_a_state_with_a_flipped_bit_is_made_again_or_reads_the_same(tmp_path: Path) -> None:
    images, labels, path = torch.rand(2, 1, 1, 2), torch.tensor([True, False]), tmp_path / "run"
    state = RunState(images, labels, labels, None, {"square": images}, 1, ["odd"])
    state.save(path, {"eps": 0.1})
    content = path.read_bytes()

    def read() -> tuple[object, ...]:
        found = RunState.load(path, {"eps": 0.1}, torch.device("cpu"))
        tensors = (found.images, found.robust, found.robust_before, found.after["square"])
        return *(t.tolist() for t in tensors), found.batches, found.warnings

    whole, damaged = read(), 0
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            assert read() == whole
        except DamagedFile:
            damaged += 1
    assert damaged > 0.9 * len(content)


def test_a_damaged_state_is_put_aside_and_made_again(tmp_path: Path) -> None:
    victim, path = tiny_victim(False), tmp_path / "run"
    images, labels = told_by(victim, 2)
    arguments = {"eps": 0.02, "attacks": ["square"], **SHORT}
    whole = autoattack(victim, images, labels, resume=path, **arguments)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = autoattack(victim, images, labels, resume=path, **arguments)
    assert torch.equal(again.images, whole.images) and path.exists()
    assert (tmp_path / "run.damaged").exists()


def test_images_of_nan_stay_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 3)

    def broken(engine: Any, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.where(torch.arange(3).view(3, 1, 1, 1) == 1, torch.nan, x), y + 1

    monkeypatch.setattr(_autoattack_run, "attack_batch", broken)
    result = autoattack(victim, images, labels, 0.1, attacks=["square"], **SHORT)
    assert torch.equal(result.images, images)
    assert result.success.tolist() == [True, False, True]


def test_images_of_nan_stay_clean_where_single_calls_decide_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    victim = tiny_victim(True)
    images, labels = told_by(victim, 3)
    nan = torch.where(torch.arange(3).view(3, 1, 1, 1) == 1, torch.nan, images)
    broken = nan, nan, torch.zeros(3, dtype=torch.bool)
    monkeypatch.setattr(_autoattack_run, "apgd_on_all", lambda *_: broken)
    state = autoattack(victim, images, labels, 0.1, attacks=["apgd-ce"], **SHORT)
    assert torch.equal(state.images, images)


def test_attacks_are_scored_again(victim: Victim) -> None:
    images, labels = told_by(victim, 6)
    result = autoattack(victim, images, labels, 0.1, attacks=["apgd-ce", "square"], **SHORT)
    made = {**result.after, "strongest": result.strongest}
    scores = {name: accuracy(victim, images, labels) for name, images in made.items()}
    assert list(scores) == ["apgd-ce", "square", "strongest"]
    assert scores["strongest"] <= scores["apgd-ce"] + 0.05
    if not victim.stochastic:
        assert scores["square"] == pytest.approx(result.claimed)


@pytest.mark.parametrize("classes", [2, 4, 100])
def test_drop_in_is_the_library(classes: int, tmp_path: Path) -> None:
    victim = tiny_victim(False, classes)
    images, labels = told_by(victim, 4)
    scripts = DropIn(victim, norm="L2", eps=0.3, seed=3, verbose=False, device=str(images.device))
    library = AutoAttack(victim, norm="L2", eps=0.3, seed=3, device=images.device)
    names = [n for n in ("apgd-ce", "fab-t", "square") if classes >= LEAST_CLASSES[n]]
    for engine in (scripts, library):
        engine.version, engine.attacks_to_run = "custom", names
        engine.apgd.n_iter_2, engine.apgd.n_iter = 2, 5
        engine.fab.n_iter, engine.square.n_queries = 3, 5
        engine.fab.n_target_classes = min(3, classes - 1)
    with untouched(victim):
        found, answers = scripts.run_standard_evaluation(
            images, labels, bs=3, return_labels=True, state_path=tmp_path / "state"
        )
    expected, predicted = library.run_standard_evaluation(images, labels, batch_size=3)
    assert torch.equal(found, expected) and torch.equal(answers, predicted)
    alone = scripts.run_standard_evaluation_individual(images, labels, bs=3)
    assert list(alone) == names


def test_drop_in_on_a_noisy_victim_returns_the_hardest_images() -> None:
    victim = tiny_victim(True).replace(eot=4)
    images, labels = told_by(victim, 6)
    engine = DropIn(victim, eps=0.1, version="custom", attacks_to_run=["apgd-ce"], verbose=False)
    engine.apgd.n_iter = 5
    found = engine.run_standard_evaluation(images, labels)
    assert (found != images).flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "linf"}, "did you mean 'Linf'"),
        *(({"eps": eps}, "eps must be a number") for eps in (None, "0.5", True, -1)),
        ({"eps": 8}, "did you mean 8/255"),
        ({"version": "custm"}, "did you mean 'custom'"),
        ({"is_tf_model": True}, "is_tf_model=True is not supported"),
        ({"attacks_to_run": ["square"]}, "version='standard' names its own attacks"),
        ({"model": Victim}, "got the class Victim"),
        ({"model": partial(tiny_victim(False))}, "give the victim itself"),
        ({"model": "resnet"}, "expected a torch.nn.Module or a function, got str"),
    ],
)
def test_wrong_arguments_of_the_drop_in(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DropIn(**{"model": tiny_victim(False), **arguments})  # type: ignore[arg-type]


# Restarts of APGD, of FAB and of targeted APGD, its classes, and calls per gradient of APGD.
NUMBERS = {
    "standard": (1, 1, 1, 9, 1),
    "plus": (5, 5, 1, 9, 1),
    "rand": (1, 5, 1, 9, 20),
    "custom": (5, 5, 1, 9, 1),
}


@pytest.mark.parametrize("version", NUMBERS)
def test_numbers_of_every_version(version: str, seen: Victim) -> None:
    made = DropIn(seen, eps=0.1, version=version, verbose=False)
    later = DropIn(seen, eps=0.1, version="custom", verbose=False)
    later.set_version(version)
    for engine in (made, later):
        apgd, targeted = engine.apgd, engine.apgd_targeted
        found = (apgd.n_restarts, engine.fab.n_restarts, targeted.n_restarts)
        assert (*found, targeted.n_target_classes, apgd.eot_iter) == NUMBERS[version]
        assert engine.attacks_to_run == list(VERSIONS.get(version, ()))


@pytest.mark.parametrize("version", ["standard", "rand", "custom", "auto"])
def test_attacks_that_are_set_afterwards_run_and_no_others(version: str, seen: Victim) -> None:
    images, labels = told_by(seen, 3)
    engine = DropIn(seen, eps=0.1, version=version, verbose=False)
    engine.attacks_to_run, engine.square.n_queries = ["square"], 2
    engine.apgd = engine.fab = engine.apgd_targeted  # none of them runs
    expected = autoattack(seen, images, labels, 0.1, attacks=["square"], n_queries=2)
    assert torch.equal(engine.run_standard_evaluation(images, labels), expected.images)
    for attacks, message in (([], "no attack to run"), (["sqare"], "did you mean 'square'")):
        engine.attacks_to_run = attacks
        with pytest.raises(ValueError, match=message):
            engine.run_standard_evaluation(images, labels)


def _functions(victim: Victim) -> dict[str, Callable[[Tensor], Tensor]]:
    class Scaled:
        def __init__(self) -> None:
            self.nets = [victim.net]

        def __call__(self, x: Tensor) -> Tensor:
            logits: Tensor = self.nets[0](x)
            return logits

    net = victim.net
    kept = {"net": net}
    return {
        "closure": lambda x: net(x),
        "method": net.forward,
        "partial": partial(lambda which, x: kept[which](x), "net"),
        "object": Scaled(),
    }


@pytest.mark.parametrize("kind", ["closure", "method", "partial", "object"])
def test_a_function_is_a_network(kind: str, victim: Victim) -> None:
    images, labels = told_by(victim, 4)
    victim.net.train()
    engine = DropIn(_functions(victim)[kind], eps=0.1, seed=2, verbose=False)
    assert all(module.training for module in victim.net.modules())
    assert engine.victim.stochastic == victim.stochastic
    engine.attacks_to_run, engine.apgd.n_iter = ["apgd-ce"], 2
    of_module = DropIn(victim.net, eps=0.1, seed=2, verbose=False)
    of_module.attacks_to_run, of_module.apgd.n_iter = ["apgd-ce"], 2
    found = engine.run_standard_evaluation(images, labels)
    assert torch.equal(found, of_module.run_standard_evaluation(images, labels))


def test_the_state_is_that_of_the_original(seen: Victim, tmp_path: Path) -> None:
    images, labels = told_by(seen, 5)
    labels[0] = (labels[0] + 1) % 4
    path = tmp_path / "state.json"
    engine = DropIn(seen, eps=0.1, version="custom", attacks_to_run=["square"], verbose=False)
    engine.square.n_queries = 3
    found, answers = engine.run_standard_evaluation(images, labels, 2, True, path)
    state = EvaluationState.from_disk(path)
    assert state.attacks_to_run == state.run_attacks == {"square"}
    assert state.clean_accuracy == pytest.approx(0.8)
    assert torch.equal(state.robust_flags, (answers == labels).cpu())
    assert torch.equal(engine.run_standard_evaluation(images, labels, 2, state_path=path), found)
    path.write_text(path.read_text().replace('["square"]', "\"{'square'}\"", 1))  # as it writes it
    assert EvaluationState.from_disk(path).attacks_to_run == {"square"}
    engine.attacks_to_run = ["apgd-ce"]
    with pytest.raises(ValueError, match="holds another run"):
        engine.run_standard_evaluation(images, labels, 2, state_path=path)
    path.with_name("state.json.safetensors").unlink()
    with pytest.raises(ValueError, match="has no images of its run"):
        engine.run_standard_evaluation(images, labels, 2, state_path=path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="is no state of AutoAttack"):
        engine.run_standard_evaluation(images, labels, 2, state_path=path)


def test_the_log_says_what_is_left(
    seen: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = told_by(seen, 4)
    monkeypatch.setattr(sys, "stdout", (tmp_path / "shown").open("w"))
    monkeypatch.setattr(logging.getLogger("auto-attack"), "parent", None)
    engine = DropIn(seen, eps=0.1, log_path=tmp_path / "log")
    engine.attacks_to_run, engine.square.n_queries = ["square"], 2
    engine.run_standard_evaluation(images, labels)
    sys.stdout.flush()
    for name in ("log", "shown"):
        assert "robust accuracy after SQUARE: " in (tmp_path / name).read_text()


@pytest.mark.parametrize("version", [*VERSIONS, "custom"])
def test_the_original_makes_the_same_images(version: str, device: torch.device) -> None:
    try:
        package = original_package()
    except ImportError as error:
        pytest.skip(str(error))
    victim = tiny_victim(False, 12)
    images, labels = told_by(victim, 5)
    labels[0] = (labels[0] + 1) % 12
    custom = {"attacks_to_run": ["fab-t", "fab", "square"]} if version == "custom" else {}
    arguments = {"eps": 0.05, "seed": 3, "version": version, "device": images.device, **custom}
    made = [engine(victim, verbose=False, **arguments) for engine in (DropIn, package.AutoAttack)]
    for engine in made:
        engine.apgd.n_iter = engine.apgd_targeted.n_iter = engine.fab.n_iter = 3
        engine.square.n_queries = 4
    (ours, answers), (theirs, predicted) = (
        engine.run_standard_evaluation(images, labels, bs=3, return_labels=True) for engine in made
    )
    assert torch.equal(ours, theirs) and torch.equal(answers, predicted)
    short = {"n_iter": 3, "n_queries": 4}
    runs = [
        autoattack(victim, images, labels, 0.05, original=which, **short) for which in (False, True)
    ]
    assert torch.equal(runs[0].images, runs[1].images)
