"""A study from plan to page: it resumes, shares its cells, and says what its numbers say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from robust_snn.data import load_dataset
from robust_snn.eval import defence_study
from robust_snn.eval.defence_study import study
from robust_snn.eval.protocol.study_plan import load_plan
from robust_snn.eval.reporting.study_page import in_words, render_study_cost, study_text
from robust_snn.eval.scoring.finished_run import load_run
from robust_snn.eval.scoring.intervals import Estimate
from robust_snn.eval.scoring.study_findings import DefenceFindings, Measured, corrected
from robust_snn.eval.study_cost import study_cost
from robust_snn.training import Diverged, load_card, load_model
from robust_snn.utils.errors import InputError

TRAINED = "training/model.safetensors"
SUITE = """
name: NAME
independent: true
draws: {select: 1, report: 1}
attacks:
  - {name: fgsm, implementation: robust_snn, attack: fgsm, gradient: MODE}
"""
PLAN = """
name: two
eps: 0.1
seeds: [0]
suites: [other.yaml]
n: 8
training: {epochs: 1}
defences:
  - name: plain
    model: snn_vgg5
    protocol: own.yaml
    model_kwargs: &small {T: 1, width: 0.0625, head_width: 8}
  - name: trained
    model: snn_vgg5
    recipe: at
    baseline: plain
    protocol: own.yaml
    model_kwargs: *small
    published: [{what: PGD, baseline: 10, defence: 30.5, source: "a paper"}]
"""


PER_STEP = "baseline: plain\n    protocol: per-step"
NEW = """defences:
  - {name: new, model: snn_vgg5, protocol: own.yaml, model_kwargs: {T: 1, width: 0.0625}}"""
CHANGED = [
    ("plan.yaml", ("epochs: 1", "epochs: 2"), "recipe.epochs: 1, now 2"),
    ("plan.yaml", ("T: 1", "T: 2"), "kwargs.T: 1, now 2"),
    ("plan.yaml", ("eps: 0.1", "eps: 0.2"), "eps: 0.1, now 0.2"),
    ("plan.yaml", ("recipe: at", "recipe: trades"), "trained/seed-0/training' holds"),
    ("plan.yaml", ("model: snn_vgg5\n    recipe", "model: snn_vgg11\n    recipe"), "snn_vgg11"),
    ("other.yaml", ("gradient: ste", "gradient: bptr"), "ste.*bptr"),
]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, mode in (("own", "bptt"), ("other", "ste")):
        (tmp_path / f"{name}.yaml").write_text(
            SUITE.replace("NAME", name).replace("MODE", mode), encoding="utf-8"
        )
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "plan.yaml"


def test_it_measures_differs_and_resumes(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, test = load_dataset("digits", split="train", n=64), load_dataset("digits", n=40)
    plan.write_text(plan.read_text().replace('"a paper"', r'"a paper\e[2J|\n"'))
    found = study(plan, data, test, out="runs")
    assert not found.missing
    first, second = found.defences
    verdict, predictions = load_run("runs/trained/seed-0/own")
    own = second.of("own protocol")
    assert own is not None and own.change is not None
    assert own.estimate.value == pytest.approx(verdict.robust.accuracy)
    before = first.of("own protocol")
    assert before is not None and before.change is None
    assert own.change.value == pytest.approx(own.estimate.value - before.estimate.value)
    best = second.of("best known")
    assert best is not None and best.estimate.value <= own.estimate.value
    assert second.joules is not None and second.joules > 0
    page, text = (Path("runs", f"study.{kind}").read_text("utf-8") for kind in ("html", "md"))
    for shown in ("trained", "a paper", "10 to 30.5", "+20.5"):
        assert shown in page and shown in text
    assert "\x1b" not in page + text and "a paper\\x1b[2J/ |" in text

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("nothing is trained or attacked twice")

    monkeypatch.setattr(defence_study, "write_study", lambda *_: None)
    for part in ("robust_snn.training.session.Session.run",):
        monkeypatch.setattr(part, lambda self, state, listener: state)
    monkeypatch.setattr("robust_snn.eval.execution.job.Job.attack", fail)
    assert study_text(study(plan, data, test, out="runs")) == text

    for file, change, said in CHANGED:
        path = plan.with_name(file)
        before = path.read_text()
        assert change[0] in before
        path.write_text(before.replace(*change))
        with_new_row = plan.read_text().replace("defences:", NEW)  # which is not trained before
        (mixed := plan.with_name("mixed.yaml")).write_text(with_new_row)
        with pytest.raises(InputError, match=said):
            study(mixed, data, test, out="runs")
        assert not Path("runs/new").exists()
        path.write_text(before)
    energy = Path("runs/plain/seed-0/energy.json")
    energy.write_text('{"joules": 1e9}')  # of another network
    assert study_text(study(plan, data, test, out="runs")) == text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("model: snn_vgg5\n    recipe: at", "'trained'.* eot of recipe.* a stochastic model"),
        ("model: snn_vgg5\n    recipe: tgo-at", "'trained'.* for nlif neurons"),
        ("model: snn_vgg5\n    converted: at\n    recipe: tgo-at", "'trained'.* for nlif neurons"),
    ],
)
def test_a_row_that_cannot_be_trained_is_refused_first(changed: str, said: str, plan: Path) -> None:
    text = plan.read_text().replace("model: snn_vgg5\n    recipe: at", changed)
    if "eot" in said:
        text = text.replace("model_kwargs: *small", "model_kwargs: *small\n    training: {eot: 2}")
    _refused_before_any_work(plan, text, said)


def test_a_row_that_cannot_be_attacked_is_refused_first(plan: Path) -> None:
    events = plan.read_text().replace("baseline: plain\n    protocol: own.yaml", PER_STEP)
    _refused_before_any_work(plan, events, "of the study: per-step needs sequences")


def _refused_before_any_work(plan: Path, text: str, said: str) -> None:
    plan.write_text(text)
    data, test = load_dataset("digits", split="train", n=64), load_dataset("digits", n=40)
    with pytest.raises(InputError, match=said):
        study(plan, data, test, out="runs")
    assert not Path("runs").exists()


def test_a_training_that_diverges_costs_its_own_cell(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def diverge(_: object, cell: defence_study.Cell, *rest: object) -> None:
        tried.append(cell.row.name)
        raise Diverged("the loss is not finite")

    monkeypatch.setattr(defence_study, "_finish", diverge)
    plan.write_text(plan.read_text().replace("name: two", 'name: "two\\e[31m"'))
    data, test = load_dataset("digits", split="train", n=64), load_dataset("digits", n=40)
    found = study(plan, data, test, out="runs")
    assert tried == ["plain", "trained"]
    assert found.missing == (("plain", 0), ("trained", 0))
    text = study_text(found)
    assert "Without an end: plain (seed 0), trained (seed 0)" in text
    assert text.startswith("two\\x1b[31m:") and "\x1b" not in Path("runs/study.html").read_text()


def test_a_converted_network_begins_as_one_of_activations(plan: Path) -> None:
    row = """
  - name: converted
    model: snn_vgg5
    recipe: conversion
    converted: at
    protocol: own.yaml
    model_kwargs: {T: 3, width: 0.0625, head_width: 8}
    training: {alpha: 0.05, lr: 1e-9}
"""
    plan.write_text(PLAN + row)
    data, test = load_dataset("digits", split="train", n=64), load_dataset("digits", n=40)
    part = load_plan(plan).only(["converted"], [], None)
    (cost,) = study_cost(part, data, test, "cpu")
    assert cost.training > 0
    found = study(part, data, test, out="runs")
    assert not found.missing
    cell = Path("runs/converted/seed-0")
    start, net = (load_model(cell / name)[0] for name in ("converted.safetensors", TRAINED))
    torch.testing.assert_close(start.fc.weight, net.fc.weight, atol=1e-6, rtol=0)
    assert load_card(cell / "activations/model.safetensors")["model"]["kwargs"]["T"] == 1
    before = (cell / "converted.safetensors").stat().st_mtime_ns
    study(part, data, test, out="runs")
    assert (cell / "converted.safetensors").stat().st_mtime_ns == before
    plan.write_text((PLAN + row).replace("{T: 3, ", "{"))
    with pytest.raises(InputError, match="is converted, to T steps: give T in model_kwargs"):
        load_plan(plan)


def test_cells_are_shared(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that meets a locked cell does the others first, and that one once it is free."""
    from filelock import FileLock

    held = FileLock("runs/plain/seed-0/lock")
    Path("runs/plain/seed-0").mkdir(parents=True)
    held.acquire()
    done = []

    def finish(_: object, cell: defence_study.Cell, *rest: object) -> None:
        done.append(cell.row.name)
        held.release()

    monkeypatch.setattr(defence_study, "_finish", finish)
    data, test = load_dataset("digits", split="train", n=64), load_dataset("digits", n=40)
    study(plan, data, test, out="runs")
    assert done == ["trained", "plain"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("baseline: plain", "baseline: plane"), "did you mean 'plain'"),
        (("name: trained", "name: plain"), "two defences of the study are called 'plain'"),
        (("recipe: at", "recipe: att"), "did you mean 'at'"),
        (("suites: [other.yaml]", "suites: [quik]"), "did you mean 'quick'"),
        (("seeds: [0]", "seeds: 0"), "seeds of plan 'plan.yaml' must be a list"),
        (("n: 8", "images: 8"), "unknown key of plan"),
        (("n: 8", "n: 0"), "n of a study must be at least 1"),
        (("{epochs: 1}", "{epoch: 1}"), "did you mean 'epochs'"),
        (('source: "a paper"', "sauce: x"), "did you mean 'source'"),
        (("baseline: 10,", "baseline: .nan,"), "baseline of what 'a paper' published must be"),
        (("name: trained", "name: PLAIN"), "the folder of a defence comes twice: 'plain'"),
        (("name: trained", "name: ..."), "name of a defence names a file"),
        (("name: trained", "name: [x]"), "name must be text"),
        (("name: trained", "name: study.html"), "a page of the study is called 'study.html'"),
        (
            ("model: snn_vgg5\n    recipe", "model: snn_vgg6\n    recipe"),
            "did you mean 'snn_vgg16'",
        ),
        (("model_kwargs: *small", "model_kwargs: 3"), "model_kwargs must be dict"),
        (("training: {epochs: 1}", "training: {1: 2}"), "training of a study must be a mapping"),
        (("training: {epochs: 1}", "training: x"), "training must be dict"),
        (("eps: 0.1", "eps: 8"), "must be in .0, 1., got 8"),
        (("seeds: [0]", "seeds: [x]"), "a seed of a study must be a whole number"),
        (("seeds: [0]", "seeds: [1, 1]"), "a seed of the study comes twice: '1'"),
        (("suites: [other.yaml]", "suites: [1]"), "a suite of a study must be a name, got 1"),
        (("suites: [other.yaml]", "suites: [adaptive, adaptive-medium]"), "comes twice"),
        (("n: 8", "size: 1.5"), "size of a study must be a whole number"),
        (("n: 8", "trained_on: -1"), "trained_on of a study must be at least 1"),
        (("own.yaml\n    model_kwargs: &", "7\n    model_kwargs: &"), "protocol must be text"),
    ],
)
def test_wrong_plans_are_refused(plan: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in PLAN
    plan.write_text(PLAN.replace(*change), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_plan("plan.yaml")


@pytest.mark.parametrize("name", ["training", "../../x", "energy.json"])
def test_suites_keep_to_folders_of_their_own(plan: Path, name: str) -> None:
    suite = SUITE.replace("NAME", name).replace("MODE", "ste")
    plan.with_name("other.yaml").write_text(suite, encoding="utf-8")
    with pytest.raises(InputError, match="comes twice|names a file"):
        load_plan(plan)


@pytest.mark.parametrize("name", ["clean", "own protocol", "best known", "other"])
def test_what_a_study_tells_has_names_of_its_own(plan: Path, name: str) -> None:
    """An attack called 'clean' took the place of the clean accuracy."""
    suite = plan.with_name("own.yaml")
    suite.write_text(suite.read_text().replace("name: fgsm", f"name: {name}"), encoding="utf-8")
    with pytest.raises(InputError, match=f"a suite or an attack is called comes twice: '{name}'"):
        load_plan(plan)


def test_networks_are_built_before_the_first_training(plan: Path) -> None:
    plan.write_text(PLAN.replace("*small", "{T: 0}"), encoding="utf-8")
    data, test = load_dataset("digits", split="train", n=64), load_dataset("digits", n=40)
    with pytest.raises(InputError, match="T must be at least 1"):
        study(plan, data, test, out="runs")
    assert not Path("runs").exists()


def test_a_part_keeps_its_baselines(plan: Path) -> None:
    whole = load_plan(plan)
    assert [row.name for row in whole.only(["trained"], [7], 3).defences] == ["plain", "trained"]
    assert whole.only([], [], None) == whole
    assert whole.only([], [7], 3) == replace(whole, seeds=(7,), n=3)
    with pytest.raises(InputError, match="did you mean 'trained'"):
        whole.only(["trainned"], [], None)


def test_wrong_arguments_are_refused(plan: Path) -> None:
    data = load_dataset("digits", split="train", n=64)
    with pytest.raises(InputError, match="needs 32 more"):
        study(plan, data, load_dataset("digits", n=39), out="runs")
    with pytest.raises(InputError, match="give ray='local' too"):
        study(plan, data, load_dataset("digits", n=40), out="runs", workers=2)


def test_costs_follow_sizes(plan: Path) -> None:
    data, test = load_dataset("digits", split="train", n=64), load_dataset("digits", n=40)
    part = load_plan(plan).only(["plain"], [], None)
    (cost,) = study_cost(part, data, test, "cpu")
    assert cost.name == "plain"
    assert 0 < cost.training < 60
    assert 0 < cost.attacks < 60
    shown = Console(width=100, record=True)
    shown.print(render_study_cost([("plain", 3600.0, 7200.0)], 2))
    assert "2.0 to 6.0 hours for 2 cells" in shown.export_text()


def test_the_shipped_plan_is_whole() -> None:
    plan = load_plan("newer-defences")
    assert {"TGO", "MPD-SGR", "RTE", "FEEL", "RandHet", "HoSNN", "StoG"} <= set(plan.rows)
    assert {"early exit", "fusion and early exit", "conversion", "max pooling"} <= set(plan.rows)


@pytest.mark.parametrize(
    ("p", "words", "left"),
    [
        ((0.001, 0.001), "gains", 2.0),
        ((0.02, 0.001), "gains, though its own protocol does not show it", None),
        ((0.001, 0.02), "a gain that the best attacks do not show", 2.0),
        ((0.02, 0.02), "not told apart", None),
    ],
)
def test_words_hold_for_all_rows_of_a_page(
    p: tuple[float, float], words: str, left: float | None
) -> None:
    row = load_plan("newer-defences").defences[1]
    changes = {"own protocol": 0.1, "best known": 0.2}
    measured = tuple(
        Measured(what, Estimate(0.5, (0.4, 0.6)), (0.5,), Estimate(change, (0.01, 0.3)), one)
        for (what, change), one in zip(changes.items(), p, strict=True)
    )
    found = DefenceFindings(row, (0,), measured, (), (), (), None)
    nothing = tuple(replace(each, p=0.9) for each in measured)
    others = [replace(found, measured=nothing) for _ in range(3)]
    first = corrected([found, *others])[0]
    assert (in_words(first), first.gain_left) == (words, left)
