"""No mask passes: a verdict holds what is true, or says that it need not."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from masks import MASKS
from robust_snn import InputError, evaluate
from robust_snn.attacks import BUDGETS
from robust_snn.eval import AttackSpec, Draws, Suite, Verdict

# masks that no bridge crosses, which fail a check instead, and what is refused before an attack
UNCROSSED = ("sinusoidal input", "detached branch", "arrays of NumPy")
REFUSED = {
    "undeclared noise": "random",
    "rare huge noise": "random",
    "batch norm in train mode": "1 at once",
}
SHOWN = (  # the others are as fast and many: they wait for the full run
    "vanished surrogate",
    "logits times 1e4",
    "one-hot with decoy",
    "reversed gradient",
    "sinusoidal input",
    "rounded input",
    "thermometer",
    "argmax readout",
)
LUCK = 2 / 8  # of images
SQUARE = AttackSpec("square", "autoattack", "square", noise="frozen", steps=10)
SMALL = Suite("small", (SQUARE,), draws=Draws(4, 4), budget="small")
modes = importlib.import_module("robust_snn.attacks.mode_ranking")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe of two modes, and a budget of few steps."""
    few = [*map(modes.parse_mode, ("bptt", "bptr"))]
    monkeypatch.setattr(modes, "registered_modes", lambda: few)
    monkeypatch.setattr(modes.RankingEffort, "on", lambda images: modes.RankingEffort(3, 0))
    monkeypatch.setitem(BUDGETS, "small", (("apgd", "ce", 0, 10, 1), ("apgd", "margin", 1, 10, 1)))


@pytest.fixture(scope="module")
def truth() -> dict[str, float]:
    """Share of the honest network's answers that hold, once it is known."""
    return {}


def judged(net: Any, digits: Any, out: Path) -> Verdict:
    images, labels = digits.images[:16], digits.labels[:16]
    return evaluate(
        net,
        images[:8],
        labels[:8],
        suite=SMALL,
        eps=0.15,
        out=out,
        calibration=(images[8:], labels[8:]),
    )


ROWS = [name if name in SHOWN else pytest.param(name, marks=pytest.mark.slow) for name in MASKS]


@pytest.mark.parametrize("name", ROWS)
def test_no_mask_passes(
    name: str, trained_digits: Any, truth: dict[str, float], short: None, tmp_path: Path
) -> None:
    net = trained_digits.victim.net
    if not truth:
        honest = judged(net, trained_digits, tmp_path / "honest")
        assert not [note for note in honest.diagnostics if note.status == "fail"]
        assert not any(note.name == "bridge" for note in honest.diagnostics)
        truth["honest"] = honest.robust.accuracy
    try:
        verdict = judged(MASKS[name](net), trained_digits, tmp_path / "mask")
    except InputError as error:
        assert REFUSED[name] in str(error)
        return
    failed = [note.name for note in verdict.diagnostics if note.status == "fail"]
    broken = verdict.robust.accuracy <= truth["honest"] + LUCK
    assert broken or failed, verdict.robust
    assert broken or name in UNCROSSED, verdict.robust
