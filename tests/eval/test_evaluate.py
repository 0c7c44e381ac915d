"""`evaluate`: its numbers, its verdict, its resume and what it refuses."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robust_snn import InputError, evaluate
from robust_snn.eval import (
    AttackSpec,
    ConstraintViolation,
    Draws,
    Predictions,
    Progress,
    Suite,
    Verdict,
)
from robust_snn.eval.execution import final_verdict
from robust_snn.eval.execution.report_data import ReportData
from robust_snn.eval.protocol import implementations
from robust_snn.eval.protocol.implementation import Crafted, CraftInputs, Implementation
from robust_snn.eval.reporting.terminal import render_verdict, sentence
from victims import SHAPE, tiny_victim, told_by

EPS = 0.1
TINY = Suite(
    "tiny",
    (
        AttackSpec("apgd", "autoattack", "apgd-ce", eot=2, steps=3),
        AttackSpec("square", "autoattack", "square", noise="frozen", eot=2, steps=4),
    ),
    draws=Draws(select=4, report=5),
)
SCHEMA: dict[str, Any] = {
    "schema": int,
    "model": {
        "name": str,
        "kwargs": dict,
        "weights_sha256": str,
        "parameters": int,
        "adapt": dict,
        "structure_sha256": str,
    },
    "data": {"name": str, "split": str, "n": int, "sha256": str, "calibration": int},
    "threat": {"norm": str, "eps": float},
    "suite": str,
    "draws": {"select": int, "report": int},
    "stochastic": bool,
    "clean": {"accuracy": float, "ci": list, "vote": float, "vote_ci": list},
    "robust": {
        "accuracy": float,
        "ci": list,
        "vote": float,
        "asr": float,
        "vote_ci": list,
        "asr_ci": list,
        "in_every_try": list,
        "known_noise": float | None,
        "known_noise_ci": list | None,
    },
    "attacks": list,
    "diagnostics": list,
    "environment": {
        "robust_snn": str,
        "torch": str,
        "python": str,
        "device": str,
        "backend": str,
        "threads": int,
    },
    "seed": int,
    "seconds": float,
    "larger_budget": {"factor": int, "breaks": float, "ci": list},
}
ATTACK = {
    "name": str,
    "implementation": str,
    "gradient": str,
    "eot": int,
    "accuracy": float,
    "ci": list,
    "claimed": float,
    "forwards": int,
    "backwards": int,
    "seconds": float,
    "images": int,
    "after": float,
    "after_ci": list,
}


def conforms(tree: dict[str, Any], schema: dict[str, Any]) -> None:
    assert list(tree) == list(schema)
    for key, kind in schema.items():
        if isinstance(kind, dict):
            conforms(tree[key], kind)
        else:
            assert isinstance(tree[key], kind), key


def timeless(verdict: Verdict) -> dict[str, Any]:
    tree = verdict.to_dict()
    for part in (tree, *tree["attacks"]):
        part.pop("seconds")
    return tree


class Fake:
    """An attack for tests: `move` makes the adversarial images; every batch is recorded."""

    def __init__(self, move: Any) -> None:
        self.move = move
        self.batches: list[Tensor] = []

    def craft(self, asked: CraftInputs) -> Crafted:
        images = asked.images
        self.batches.append(images)
        made = self.move(images) if asked.row.attack == "move" else images
        return Crafted((made,), torch.ones(len(images), dtype=torch.bool))

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Suite:
        fake = Implementation("torch", lambda *_: None, self.craft, lambda row: 2)
        monkeypatch.setitem(implementations.IMPLEMENTATIONS, "fake", fake)
        rows = (AttackSpec("move", "fake", "move"), AttackSpec("rest", "fake", "rest"))
        return Suite("fake", rows, draws=Draws(2, 3))


class Brightness(nn.Module):
    """Class 1 for images brighter than one half: what attacks it is obvious."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        bright = (x.flatten(1).mean(1) - 0.5) * self.scale
        return torch.stack([-bright, bright], 1)


def shades(values: list[float]) -> tuple[Tensor, Tensor]:
    shade = torch.tensor(values)
    return shade[:, None, None, None].expand(-1, *SHAPE).clone(), (shade > 0.5).long()


@pytest.mark.parametrize("noisy", [False, True], ids=["deterministic", "noisy"])
def test_verdict(tmp_path: Path, noisy: bool, device: torch.device) -> None:
    victim = tiny_victim(noisy)
    images, labels = (x.cpu() for x in told_by(victim, 6))
    verdict = evaluate(
        victim,
        images,
        labels,
        suite=TINY,
        out=tmp_path / "run",
        eps=EPS,
        batch_size=4,
        model_info={"name": "snn_vgg5", "kwargs": {"T": 2}},
        data_info={"name": "random", "split": "test"},
    )
    tree = verdict.to_dict()
    conforms(tree, SCHEMA)
    for row in tree["attacks"]:
        conforms(row, ATTACK)
    written = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert len(written.pop("sha256")) == 64 and written == tree
    assert Verdict.from_dict(tree) == verdict == Verdict.load(tmp_path / "run" / "verdict.json")
    assert tree["model"]["name"] == "snn_vgg5" and tree["data"]["name"] == "random"
    assert tree["stochastic"] is noisy
    assert tree["draws"] == ({"select": 4, "report": 5} if noisy else {"select": 1, "report": 1})
    tries = [row["tries"] for row in tree["robust"]["in_every_try"]]
    assert tries == ([5] if noisy else [])
    known = tree["robust"]["known_noise"]
    assert known <= tree["robust"]["accuracy"] if noisy else known is None
    assert [row["eot"] for row in tree["attacks"]] == ([2, 2] if noisy else [1, 1])
    assert tree["attacks"][0]["implementation"] == "pyautoattack 0.2.0: apgd-ce(steps=3)"
    for part in (tree["clean"], tree["robust"], *tree["attacks"]):
        low, high = part["ci"]
        assert 0 <= low <= part["accuracy"] <= high <= 1 and high > low
    assert {d["status"] for d in tree["diagnostics"]} <= {"pass", "warn", "fail"}
    assert render_verdict(verdict) and "Robust accuracy" in sentence(verdict)


def test_deterministic_numbers_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six shades, one misread from the start; darkening by eps turns two of the rest."""
    images, labels = shades([0.55, 0.58, 0.7, 0.8, 0.2, 0.3])
    labels[4] = 1
    fake = Fake(lambda x: (x - EPS).clamp(0, 1))
    suite = fake.install(monkeypatch)
    verdict = evaluate(Brightness(), images, labels, suite=suite, out=tmp_path, eps=EPS)
    assert verdict.clean.accuracy == pytest.approx(5 / 6) == verdict.clean.vote
    assert verdict.robust.accuracy == pytest.approx(3 / 6) == verdict.robust.vote
    assert verdict.robust.asr == pytest.approx(2 / 5)
    assert [row.accuracy for row in verdict.attacks] == pytest.approx([3 / 6, 3 / 6])
    assert [row.claimed for row in verdict.attacks] == pytest.approx([5 / 6, 3 / 6])
    assert [len(batch) for batch in fake.batches] == [5, 3]  # what is broken is not attacked again
    assert [row.images for row in verdict.attacks] == [5, 3]
    assert [row.after for row in verdict.attacks] == pytest.approx([3 / 6, 3 / 6])
    assert not any(map(verdict.is_alone, verdict.attacks))  # one image was misread from the start
    notes = {note.name: note for note in verdict.diagnostics}
    assert notes["claimed against measured"].value == pytest.approx(2 / 5)


def test_an_attack_that_helps_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = shades([0.45, 0.6, 0.9])
    labels[0] = 1
    suite = Fake(lambda x: (x + EPS).clamp(0, 1)).install(monkeypatch)
    verdict = evaluate(Brightness(), images, labels, suite=suite, out=tmp_path, eps=EPS)
    assert verdict.clean.accuracy == verdict.robust.accuracy == pytest.approx(2 / 3)


def test_a_violation_is_an_error_not_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = Fake(lambda x: x + 2 * EPS).install(monkeypatch)
    with pytest.raises(ConstraintViolation, match="move perturbed"):
        evaluate(Brightness(), *shades([0.6, 0.7]), suite=suite, out=tmp_path, eps=EPS)
    assert not (tmp_path / "verdict.json").exists()


def test_null_attack(tmp_path: Path) -> None:
    """At eps = 1e-6 nobody can be fooled: AutoAttack claims so, the verdict does not."""
    victim = tiny_victim(True)
    images, labels = told_by(victim, 96)
    rows = (
        AttackSpec("apgd-ce", "autoattack", "apgd-ce", steps=10),
        AttackSpec("apgd-dlr", "autoattack", "apgd-dlr", steps=10),
    )
    suite = Suite("null", rows, draws=Draws(10, 20))
    verdict = evaluate(victim, images, labels, suite=suite, out=tmp_path, eps=1e-6)
    low, high = verdict.clean.ci
    assert low <= verdict.robust.accuracy <= high
    assert verdict.robust.asr < 0.05
    assert verdict.attacks[0].claimed < low
    notes = {note.name: note for note in verdict.diagnostics}
    assert notes["claimed against measured"].status == "warn"


@pytest.mark.parametrize("noisy", [False, True], ids=["deterministic", "noisy"])
def test_resume_after_an_interruption_at_every_piece(tmp_path: Path, noisy: bool) -> None:
    victim = tiny_victim(noisy)
    images, labels = told_by(victim, 5)

    def run(out: str, stop_after: int | None = None) -> Verdict:
        moments = 0

        def listener(_: Progress) -> None:
            nonlocal moments
            moments += 1
            if stop_after is not None and moments > stop_after:
                raise KeyboardInterrupt

        torch.rand(3)  # the global generator is somewhere else each time
        return evaluate(
            victim,
            images,
            labels,
            suite=TINY,
            out=tmp_path / out,
            eps=EPS,
            batch_size=3,
            progress=listener,
        )

    whole = timeless(run("whole"))
    for stop_after in range(1, 6):
        out = f"stopped-{stop_after}"
        try:
            run(out, stop_after)
        except KeyboardInterrupt:
            assert not (tmp_path / out / "verdict.json").exists()
        assert timeless(run(out)) == whole


def test_a_resumed_run_computes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(lambda x: (x - EPS).clamp(0, 1))
    suite = fake.install(monkeypatch)
    run = {"suite": suite, "out": tmp_path, "eps": EPS}
    first = evaluate(Brightness(), *shades([0.6, 0.7]), **run)
    done = len(fake.batches)
    assert evaluate(Brightness(), *shades([0.6, 0.7]), **run) == first
    assert len(fake.batches) == done


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0.05}, "threat.eps: 0.1, now 0.05"),
        ({"seed": 1}, "seed: 0, now 1"),
        ({"batch_size": 1}, "batch_size: 64, now 1"),
        ({"steps": 7}, "attacks.move.steps: null, now 7"),
        ({"data": [0.6, 0.8]}, "data.sha256"),
        ({"weight": 2.0}, "weights"),
    ],
)
def test_a_changed_run_does_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    run: dict[str, Any] = {"eps": EPS, "suite": Fake(lambda x: x).install(monkeypatch)}
    evaluate(Brightness(), *shades([0.6, 0.7]), out=tmp_path, **run)
    before = (tmp_path / "verdict.json").read_bytes()
    net = Brightness()
    net.scale.data.fill_(change.pop("weight", 1.0))
    data = shades(change.pop("data", [0.6, 0.7]))
    with pytest.raises(InputError, match=message):
        evaluate(net, *data, out=tmp_path, **{**run, **change})
    assert (tmp_path / "verdict.json").read_bytes() == before


@pytest.mark.parametrize("attribute", ["steps", "told"])
def test_another_network_of_the_same_weights_does_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    class Steps(Brightness):
        def __init__(self, steps: int, told: float) -> None:
            super().__init__()
            self.steps, self.told = steps, lambda x: told * x

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.told(super().forward(x))] * self.steps).mean(0)

    first, other = {"steps": 2, "told": 1.0}, {"steps": 3, "told": 2.0}
    run: dict[str, Any] = {"eps": EPS, "suite": Fake(lambda x: x).install(monkeypatch)}
    verdict = evaluate(Steps(**first), *shades([0.6, 0.7]), out=tmp_path, **run)
    assert evaluate(Steps(**first), *shades([0.6, 0.7]), out=tmp_path, **run) == verdict
    with pytest.raises(InputError, match=rf"victim\.network\.net\.{attribute}"):
        net = Steps(**{**first, attribute: other[attribute]})
        evaluate(net, *shades([0.6, 0.7]), out=tmp_path, **run)


def test_damage_is_repaired_by_starting_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flipped bit, a cut and another run's file, in every file of a run that counts."""
    suite = Fake(lambda x: (x - EPS).clamp(0, 1)).install(monkeypatch)
    monkeypatch.setattr(final_verdict, "_masking", lambda *_: [])  # a third of the time, no file

    def run(out: str, values: tuple[float, ...] = (0.55, 0.58, 0.7, 0.2)) -> dict[str, Any]:
        data = shades(list(values))
        of = {"suite": suite, "out": tmp_path / out, "eps": EPS, "batch_size": 2}
        return timeless(evaluate(Brightness(), *data, **of))

    whole, _ = run("run"), run("other", (0.51, 0.59, 0.9, 0.1))
    pieces = sorted(
        path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*.npz")
    )
    assert len(pieces) == 9  # one shard had no image left for the last row; two hold versions
    rng = random.Random(0)
    for name in (*pieces, Path("config.json")):
        path = tmp_path / "run" / name
        sound = path.read_bytes()
        damages = [sound[: len(sound) // 2], b""]
        if name.suffix == ".npz":
            damages += [(tmp_path / "other" / name).read_bytes()]
            damages += [(tmp_path / "run" / pieces[2]).read_bytes()]  # of another part of the run
        for bit in rng.sample(range(8 * len(sound)), 3):
            flipped = bytearray(sound)
            flipped[bit // 8] ^= 1 << bit % 8
            damages.append(bytes(flipped))
        for damage in damages:
            path.write_bytes(damage)
            assert run("run") == whole
            evidence = ReportData.load(tmp_path / "run" / "evidence.npz")
            assert evidence is not None and evidence.labels.tolist() == [1, 1, 1, 0]
            Predictions.load(tmp_path / "run")


def test_memory_that_does_not_suffice_changes_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > int(os.environ["FITS"]):  # a change of the network would be looked at
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(x)

    images, labels = shades([0.52, 0.56, 0.7, 0.8, 0.9, 0.95])
    suite = Fake(lambda x: (x - EPS).clamp(0, 1)).install(monkeypatch)
    accuracies = []
    for most in (100, 2):
        monkeypatch.setenv("FITS", "100")

        def progress(now: Any, most: int = most) -> None:
            if "shard" in now.doing:
                monkeypatch.setenv("FITS", str(most))

        verdict = evaluate(
            Small(),
            images,
            labels,
            suite=suite,
            out=tmp_path / str(most),
            eps=EPS,
            progress=progress,
        )
        accuracies.append(verdict.robust)
    assert accuracies[0] == accuracies[1]


def test_undeclared_noise_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.randn(len(x), 2)

    suite = Fake(lambda x: x).install(monkeypatch)
    with pytest.raises(InputError, match=r"draws random numbers: say .*random=True"):
        evaluate(Careless(), *shades([0.6, 0.7]), suite=suite, out=tmp_path, eps=EPS)
    assert not (tmp_path / "verdict.json").exists()


def test_zero_gradients_fail_the_diagnosis(tmp_path: Path) -> None:
    class Step(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return (logits > 0).float() + 0 * logits

    suite = Suite("s", (AttackSpec("pgd", "robust_snn", "pgd", steps=2),))
    verdict = evaluate(Step(), *shades([0.6, 0.7]), suite=suite, out=tmp_path, eps=EPS)
    note = next(n for n in verdict.diagnostics if n.name.startswith("zero gradients"))
    assert (note.status, note.value) == ("fail", 1.0)


def test_attacks_that_need_more_classes_are_left_out_and_named(tmp_path: Path) -> None:
    victim = tiny_victim(False, classes=3)
    images, labels = told_by(victim, 3)
    verdict = evaluate(
        victim, images, labels, suite="autoattack-standard", out=tmp_path, eps=EPS, steps=2
    )
    assert verdict.suite == "autoattack-standard(steps=2)"
    assert [row.name for row in verdict.attacks] == ["apgd-ce", "fab-t", "square"]
    assert "not run: apgd-t" in [note.name for note in verdict.diagnostics]


def test_torchattacks_row(tmp_path: Path) -> None:
    pytest.importorskip("torchattacks")
    victim = tiny_victim(True)
    images, labels = told_by(victim, 3)
    rows = (AttackSpec("pgd", "torchattacks", "PGD", gradient="bptr", eot=2, steps=3),)
    verdict = evaluate(
        victim, images, labels, suite=Suite("t", rows, draws=Draws(2, 2)), out=tmp_path, eps=EPS
    )
    assert verdict.attacks[0].gradient == "bptr"
    assert verdict.attacks[0].forwards > 0 and verdict.attacks[0].backwards > 0


@pytest.mark.parametrize(("norm", "eps"), [("L2", 0.5), ("L1", 3.0)])
def test_other_norms(tmp_path: Path, norm: str, eps: float) -> None:
    victim = tiny_victim(False)
    own = AttackSpec("apgd-t", "robust_snn", "apgd-t", options={"target_order": "malt"})
    suite = Suite("t", (*TINY.attacks, own), draws=TINY.draws)
    verdict = evaluate(
        victim, *told_by(victim, 3), suite=suite, norm=norm, out=tmp_path, eps=eps, steps=3
    )
    assert verdict.threat == {"norm": norm, "eps": eps}


@pytest.mark.parametrize("library", ["jinja2", "matplotlib.figure"])
def test_a_page_that_cannot_be_written_is_named_before_the_work(
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    said = []

    def attacking(progress: Progress) -> None:
        if progress.done and not said:  # the clean images are scored, nothing is attacked yet
            said.append(caplog.text)

    victim = tiny_victim(False)
    of = victim, *told_by(victim, 4)
    evaluate(*of, suite=TINY, out=tmp_path, eps=EPS, progress=attacking)
    assert "no report.html at the end" in said[0] and "robust-snn[report]" in said[0]
    assert (tmp_path / "verdict.json").exists() and not (tmp_path / "report.html").exists()


def test_modes_and_generators_are_left_alone(tmp_path: Path) -> None:
    victim = tiny_victim(True)
    victim.net.train()
    modes = [module.training for module in victim.modules()]
    images, labels = told_by(tiny_victim(True), 2)
    state = torch.get_rng_state()
    evaluate(victim, images, labels, suite=TINY, out=tmp_path, eps=EPS)
    assert modes == [module.training for module in victim.modules()]
    assert torch.equal(torch.get_rng_state(), state)


def good() -> dict[str, Any]:
    images, labels = shades([0.6, 0.7])
    return {"victim": Brightness(), "images": images, "labels": labels, "suite": "quick"}


def poisoned(value: float) -> Tensor:
    images = good()["images"]
    images[1, 0, 0, 0] = value
    return images


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nan": ({"images": poisoned(float("nan"))}, "NaN"),
    "infinity": ({"images": poisoned(float("inf"))}, "infinite"),
    "above one": ({"images": poisoned(1.5)}, r"\[0, 1\]"),
    "below zero": ({"images": poisoned(-0.1)}, r"\[0, 1\]"),
    "bytes": ({"images": (good()["images"] * 255).byte()}, "divide bytes by 255"),
    "numpy": ({"images": good()["images"].numpy()}, "torch.Tensor"),
    "no images": ({"images": torch.empty(0, *SHAPE)}, "no images"),
    "one dimension less": ({"images": torch.rand(2, 8, 8)}, r"\[B, C, H, W\]"),
    "label too large": ({"labels": torch.tensor([0, 2])}, "labels must lie in 0..1"),
    "label negative": ({"labels": torch.tensor([0, -1])}, "labels must lie in 0..1"),
    "labels too few": ({"labels": torch.tensor([0])}, "labels of shape"),
    "labels as floats": ({"labels": torch.tensor([0.0, 1.0])}, "integers"),
    "channels": (
        {"victim": tiny_victim(False), "images": torch.rand(2, 1, 8, 8)},
        "channels|images",
    ),
    "model": ({"victim": "snn_vgg55"}, "snn_vgg5"),
    "suite": ({"suite": "quik"}, "did you mean 'quick'"),
    "eps negative": ({"eps": -0.1}, "eps must be"),
    "eps in bytes": ({"eps": 8}, "did you mean 8/255"),
    "eps nan": ({"eps": float("nan")}, "eps must be"),
    "norm": ({"norm": "linf"}, "did you mean 'Linf'"),
    "steps": ({"steps": 0}, "steps .* must be a whole number"),
    "eot": ({"eot": -1}, "eot .* must be a whole number"),
    "draws": ({"draws": 0}, "draws.report .* must be a whole number"),
    "batch size": ({"batch_size": 0}, "batch_size must be"),
    "gradient mode": (
        {"suite": Suite("s", (AttackSpec("a", "autoattack", "square", gradient="bptx"),))},
        "did you mean 'bpt",
    ),
    "noise policy": (
        {"suite": Suite("s", (AttackSpec("a", "autoattack", "square", noise="frsh"),))},
        "did you mean 'fresh'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_writes_nothing(tmp_path: Path, case: str) -> None:
    change, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        evaluate(**{"eps": EPS, "out": tmp_path / "run", **good(), **change})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    net = Brightness()
    net.scale.data.fill_(float("nan"))
    with pytest.raises(InputError, match="logits are not finite"):
        evaluate(net, *shades([0.6]), out=tmp_path / "run", eps=EPS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tree", [None, {}, {"schema": 2}, {"schema": 1, "model": {}}])
def test_what_is_no_verdict(tree: Any) -> None:
    with pytest.raises(InputError, match="not a verdict of schema 1"):
        Verdict.from_dict(tree)


def test_scores_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    victim = tiny_victim(True)
    images, labels = told_by(victim, 6)
    accuracies = [
        evaluate(
            victim, images, labels, suite=TINY, out=tmp_path / str(n), eps=EPS, batch_size=n
        ).clean
        for n in (2, 6)
    ]
    assert accuracies[0] == accuracies[1]
    assert np.isfinite(accuracies[0].accuracy)
