"""A user's own attack in a suite: called as promised, checked like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from robust_snn import InputError, Verdict, evaluate
from robust_snn.eval import load_suite
from robust_snn.eval.protocol.threat_model import ConstraintViolation
from victims import tiny_victim, told_by

HEAD = """
import torch
def attack(victim, images, labels, eps, norm, seed, steps=1, scale=1.0):
"""
SIGN = """
    assert steps == 3 and norm == "Linf"
    x = images.requires_grad_()
    torch.nn.functional.cross_entropy(victim(x), labels).backward()
    noise = torch.rand_like(images) - 0.5
    return (images + scale * eps * (x.grad + noise).sign()).clamp(0, 1).double()
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Verdict]:
    def run(body: str, options: str = "", workers: int | None = None) -> Verdict:
        (tmp_path / "hidden").mkdir(exist_ok=True)
        (tmp_path / "hidden" / "user_attack_file.py").write_text(HEAD + body)
        (tmp_path / "hidden" / "mine.yaml").write_text(
            "name: mine\nattacks:\n  - {name: own, implementation: user_attack_file.py:attack, "
            f"steps: 3, options: {{{options}}}}}"
        )
        victim = tiny_victim(False)
        return evaluate(
            victim,
            *told_by(victim, 8),
            suite=tmp_path / "hidden" / "mine.yaml",
            out=tmp_path / "run",
            eps=0.2,
            batch_size=4,
            workers=workers,
        )

    return run


def test_it_runs_and_resumes_with_the_same_code_alone(
    run: Callable[..., Verdict], tmp_path: Path
) -> None:
    verdict = run(SIGN)
    (own,) = verdict.attacks
    assert own.implementation.startswith("user_attack_file.py ")
    assert own.implementation.endswith(": attack(steps=3)")
    assert own.accuracy < 1 and own.claimed == own.accuracy and own.backwards == 8
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["attacks"]["own"]["attack"] == "attack"
    assert run(SIGN) == verdict
    with pytest.raises(InputError, match="user_attack_file.py"):
        run(SIGN + "\n# changed")


def test_workers_share_it(run: Callable[..., Verdict]) -> None:
    assert run(SIGN, workers=2).attacks[0].accuracy < 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    return images + 2 * eps", "own (left|perturbed)"),
        ("    return images.mul_(0)", "perturbed an image"),
        ("    return images[:1]", "returned shape"),
        ("    return images.tolist()", "own returned list, expected images"),
        ("    return images * float('nan')", "not finite"),
    ],
)
def test_the_threat_model_holds_for_it(
    run: Callable[..., Verdict], body: str, message: str
) -> None:
    with pytest.raises(ConstraintViolation, match=message):
        run(body)


@pytest.mark.parametrize(
    ("body", "options", "message"),
    [
        (SIGN, "scal: 2", "'own' is called as attack.* argument of .*'scal': did you mean 'scale'"),
        (SIGN, "eps: 2", "'own' gets eps from the threat model"),
        (
            "    pass\ndef attack(victim, images, labels, eps): pass",
            "",
            "'own' is called as attack",
        ),
        ("    pass\ndel attack", "", "unknown function of .*user_attack_file.py 'attack'"),
    ],
)
def test_refused_before_the_first_attack(
    run: Callable[..., Verdict], tmp_path: Path, body: str, options: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(body, options)
    assert not (tmp_path / "run").exists()


def test_a_suite_is_read_without_running_code(tmp_path: Path) -> None:
    (tmp_path / "boom.py").write_text("raise SystemExit")
    text = "name: m\nattacks: [{name: a, implementation: boom.py:attack}]"
    (tmp_path / "m.yaml").write_text(text)
    (row,) = load_suite(tmp_path / "m.yaml").attacks
    assert row.implementation == f"{tmp_path}/boom.py:attack" and row.attack == "attack"
