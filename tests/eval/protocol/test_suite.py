"""Suites: what ships is valid, what is wrong is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

import robust_snn.eval
from robust_snn import InputError
from robust_snn.eval import load_suite, shipped_suites
from robust_snn.eval.protocol.implementations import implementation
from robust_snn.eval.protocol.suite_files import parse_suite
from robust_snn.eval.protocol.threat_model import Threat
from robust_snn.gradients import parse_mode

GOOD = """
name: mine
draws: {select: 3, report: 4}
attacks:
  - {name: a, implementation: autoattack, attack: square, eot: 2, steps: 5}
"""


@pytest.mark.parametrize("name", shipped_suites())
def test_shipped_suites(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name and suite.source
    for row in suite.attacks:
        implementation(row).check(row, Threat(suite.norm, suite.eps))
        if row.gradient is not None:
            parse_mode(row.gradient)
    text = (
        Path(robust_snn.eval.__file__).parent / "protocol" / "suites" / f"{name}.yaml"
    ).read_text()
    assert text.startswith("# ")


def test_the_expected_suites_ship() -> None:
    assert {"quick", "autoattack-standard", "autoattack-rand"} <= set(shipped_suites())


def test_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    suite = load_suite(path)
    assert (suite.norm, suite.draws.select, suite.attacks[0].steps) == ("Linf", 3, 5)


def test_overrides_show_in_the_name() -> None:
    suite = parse_suite(GOOD, "mine").override(steps=2, eot=9, draws=7, norm="L2")
    assert suite.name == "mine(norm=L2,draws=7,steps=2,eot=9)"
    assert (suite.attacks[0].steps, suite.attacks[0].eot) == (2, 9)
    assert (suite.norm, suite.draws.report, suite.draws.select) == ("L2", 7, 3)
    assert parse_suite(GOOD, "mine").override() == parse_suite(GOOD, "mine")


def test_deterministic_needs_one_draw() -> None:
    suite = parse_suite(GOOD.replace("eot: 2", "eot: 2, noise: frozen"), "mine").deterministic()
    assert (suite.draws.select, suite.draws.report) == (1, 1)
    assert (suite.attacks[0].eot, suite.attacks[0].noise) == (1, "fresh")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: mine", "nam: mine", "did you mean 'name'"),
        ("name: mine", "", "needs 'name'"),
        ("name: mine", "norm: linf\nname: m", "did you mean 'Linf'"),
        ("report: 4", "reprot: 4", "did you mean 'report'"),
        ("report: 4", "report: 0", "at least 1"),
        ("select: 3", "select: many", "at least 1"),
        ("eot: 2", "eto: 2", "did you mean 'eot'"),
        ("eot: 2", "eot: 0", "at least 1"),
        ("eot: 2", "eot: 1.5", "at least 1"),
        ("steps: 5", "steps: yes", "at least 1"),
        ("steps: 5", "restarts: -1", "at least 1"),
        ("attack: square, ", "", "needs 'attack'"),
        ("attack: square", "attack: 3", "must be a word"),
        ("steps: 5", "gradient: 5", "must be text"),
        ("steps: 5", "options: 5", "must be a mapping"),
        ("attacks:", "attacks: {}\nsource:", "needs 'attacks', a list"),
        (GOOD, "name: x\nattacks: []", "has no attacks"),
        (GOOD, "- 1\n- 2", "must be a mapping"),
        (GOOD, "", "must be a mapping"),
        (GOOD, "a: [", "is not YAML"),
        (GOOD, "a: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_suite(GOOD.replace(old, new), "mine")
    assert "\n" not in str(caught.value)


def test_two_attacks_of_one_name() -> None:
    with pytest.raises(InputError, match="two attacks called 'a'"):
        parse_suite(GOOD + GOOD.splitlines()[-1], "mine")


@pytest.mark.parametrize(
    ("suite", "message"),
    [("quik", "did you mean 'quick'"), ("absent.yaml", "cannot read the suite 'absent.yaml'")],
)
def test_not_found(suite: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_suite(suite)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("implementation: autoatack, attack: square", "did you mean 'autoattack'"),
        ("implementation: autoattack, attack: sqare", "did you mean 'square'"),
        ("implementation: autoattack, attack: fab, options: {eot: 3}", "did you mean 'eot_iter'"),
        ("implementation: torchattacks, attack: PGDD", "did you mean 'PGD"),
        ("implementation: torchattacks, attack: DeepFool", "cannot be held to an eps"),
        ("implementation: torchattacks, attack: PGDL2", "perturbs in L2, not Linf"),
        ("implementation: torchattacks, attack: PGD, options: {alfa: 1}", "did you mean 'alpha'"),
        ("implementation: torchattacks, attack: PGD, restarts: 2", "has no restarts"),
        ("implementation: torchattacks, attack: FGSM, steps: 2", "has no steps"),
        ("implementation: spatial, attack: spatial, steps: 2", "'a': spatial has no steps"),
        ("implementation: robust_snn, attack: fgsm, steps: 2", "'a': fgsm has no steps"),
        ("implementation: patch, attack: patch, restarts: 2", "'a': patch has no restarts"),
        (
            "implementation: corruption, attack: event-drop, options: {rho: 0.1}, steps: 2",
            "'a': event-drop has no steps",
        ),
    ],
)
def test_rows_that_no_library_can_run(row: str, message: str) -> None:
    if "torchattacks" in row:
        pytest.importorskip("torchattacks")
    suite = parse_suite(f"name: x\nattacks: [{{name: a, {row}}}]", "x")
    with pytest.raises(InputError, match=message):
        implementation(suite.attacks[0]).check(suite.attacks[0], Threat("Linf", 0.03))


def test_a_misspelt_alias_is_offered() -> None:
    with pytest.raises(InputError, match="did you mean 'adaptive'[?]"):
        load_suite("adaptiv")
