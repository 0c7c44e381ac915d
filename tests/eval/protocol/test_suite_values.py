"""Odd values in a suite: types, bases and sizes that nobody meant are refused before any work."""

from __future__ import annotations

from typing import Any

import pytest

from robust_snn import InputError
from robust_snn.eval.protocol.implementations import implementation
from robust_snn.eval.protocol.library_options import naming_options
from robust_snn.eval.protocol.suite import AttackSpec
from robust_snn.eval.protocol.suite_files import parse_suite
from robust_snn.eval.protocol.threat_model import Threat

ROW = "{name: a, implementation: robust_snn, attack: pgd, steps: 2}"
OPTION = f"name: a\nattacks: [{ROW[:-1]}, options: {{alpha: %s}}}}]"

TEXTS = {
    f"name: a\nattacks: [{ROW.replace('2', '010')}]": "holds 010, which YAML reads as a number",
    f"name: a\nattacks: [{ROW.replace('2', '1:30')}]": "holds 1:30, which YAML reads",
    f"name: a\neps: 0:0.5\nattacks: [{ROW}]": "holds 0:0.5, which YAML reads",
    f"name: a\nattacks: [{ROW.replace('2', '1e3')}]": "steps .* whole number .* got '1e3'",
    f"name: a\nattacks: [{ROW.replace('2', 'yes')}]": "steps .* whole number .* got True",
    f"name: no\nattacks: [{ROW}]": "name of suite 'False' must be text, in quotes",
    f"name: 2020-01-01\nattacks: [{ROW}]": "must be text, in quotes",
    f"name: !!binary aGVsbG8=\nattacks: [{ROW}]": "must be text, in quotes",
    f"!!omap [name: a, attacks: [{ROW}]]": "must be a mapping",
    f"name: a\ndraws: !!set {{select}}\nattacks: [{ROW}]": "'draws' .* must be a mapping",
    f"name: a\nattacks: !!set {{{ROW}}}": "is not YAML",
    f"name: a\nattacks: [{ROW}]\n---\nname: b": "is not YAML",
    f"~: c\nname: a\nattacks: [{ROW}]": "mapping from names",
    f"? [a, b]\n: c\nname: a\nattacks: [{ROW}]": "is not YAML",
    f"name: a\nattacks: [{{<<: {ROW}, <<: {ROW}}}]": "has the key '<<' twice",
    f"name: a\nsource:\nattacks: [{ROW}]": "source .* must be text",
    f"name: a\nindependent: 'false'\nattacks: [{ROW}]": "must be true or false",
    f"name: a\neps: 0,03\nattacks: [{ROW}]": "eps .* must be a number",
    "name: a\nbudget: [small]": "unknown budget",
    "name: a\nattacks: [~]": "attack 1 .* must be a mapping",
    f"name: a\nattacks: [{ROW[:-1]}, gradient: ''}}]": "gradient .* must be text",
    f"name: a\nattacks: [{ROW[:-1]}, noise: off}}]": "noise .* must be a word",
    OPTION % "2020-01-01": "option 'alpha' .* got date",
    OPTION % "!!set {a}": "option 'alpha' .* got set",
    OPTION % "!!binary aGVsbG8=": "option 'alpha' .* got bytes",
    OPTION % ".nan": "option 'alpha' .* got float nan",
    OPTION % "[.inf]": "option 'alpha' .* got list",
    OPTION % "{x: {y: .inf}}": "option 'alpha' .* got dict",
    OPTION % f"1{'0' * 400}": "option 'alpha' .* got int 1000",
}


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_odd_yaml_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=TEXTS[text]):
        parse_suite(text, "x")


OPTIONS: list[tuple[str, str, dict[str, Any], str]] = [
    ("robust_snn", "pgd", {"alpha": -1}, "alpha must be a positive number, got -1"),
    ("robust_snn", "pgd", {"alpha": 0}, "alpha must be a positive number"),
    ("robust_snn", "pgd", {"alpha": True}, "alpha must be a number"),
    ("robust_snn", "pgd", {"temperature": 0}, "temperature must be a positive number"),
    ("robust_snn", "mim", {"decay": -1}, "decay must be at least 0, got -1"),
    ("robust_snn", "mim", {"decay": False}, "decay must be a number"),
    ("robust_snn", "mim", {"alpha": "1e-3"}, "alpha must be a number"),
    ("robust_snn", "do", {"lr": -0.1}, "lr must be a positive number"),
    ("robust_snn", "fmn", {"alpha": [1]}, "alpha must be a number"),
    ("robust_snn", "pgd", {"eot_loss": 10**40}, "draws must be a whole number from 1 to"),
    ("robust_snn", "pgd", {"eot_loss": "adaptive(most=1e30)"}, "whole number from 2 to"),
    ("robust_snn", "pgd", {"start": "maybe"}, "unknown gradient mode"),
    ("autoattack", "apgd-ce", {"eot_iter": "many"}, "eot_iter .* must be a whole number"),
    ("autoattack", "apgd-ce", {"eot_iter": 0}, "eot_iter .* must be at least 1"),
    ("torchattacks", "PGD", {"alpha": -1}, "alpha of PGD in 'a' must be a positive number"),
    ("torchattacks", "PGD", {"alpha": {"x": 1}}, "alpha .* must be a number"),
    ("torchattacks", "PGD", {"alpha": None}, "alpha .* must be a number, got None"),
    ("torchattacks", "PGD", {"random_start": "no"}, "random_start .* must be true or false"),
    ("foolbox", "LinfPGD", {"rel_stepsize": 0}, "rel_stepsize .* must be a positive number"),
    ("foolbox", "LinfPGD", {"rel_stepsize": "1e-3"}, "rel_stepsize .* must be a number"),
    ("foolbox", "LinfPGD", {"abs_stepsize": -1}, "abs_stepsize .* must be a positive number"),
    ("art", "ProjectedGradientDescent", {"eps_step": True}, "eps_step .* must be a number"),
    ("art", "ProjectedGradientDescent", {"eps_step": -1}, "eps_step .* must be a positive"),
    ("art", "ProjectedGradientDescent", {"random_eps": 1}, "random_eps .* true or false"),
    ("art", "ProjectedGradientDescent", {"batch_size": -1}, "batch_size .* must be a positive"),
]


@pytest.mark.parametrize(("library", "attack", "options", "said"), OPTIONS)
def test_options_without_sense_are_refused(
    library: str, attack: str, options: dict[str, Any], said: str
) -> None:
    norm = "L2" if attack == "do" else "Linf"
    row = AttackSpec("a", library, attack, options=options)
    with pytest.raises(InputError, match=said):
        implementation(row).check(row, Threat(norm, 0.1))


@pytest.mark.parametrize("error", [TypeError("x\ny"), ValueError(), OverflowError(), KeyError("k")])
def test_what_fails_in_a_library_is_named(error: Exception) -> None:
    row = AttackSpec("a", "foolbox", "LinfPGD", options={"abs_stepsize": "x"})
    said = "LinfPGD of foolbox fails with abs_stepsize='x'"
    with pytest.raises(InputError, match=said), naming_options("foolbox", row):
        raise error
    plain = AttackSpec("a", "foolbox", "LinfPGD")
    with pytest.raises(type(error)), naming_options("foolbox", plain):
        raise error
