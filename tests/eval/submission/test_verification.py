"""Submissions: what is honest is accepted, what is forged is refused with the reason."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from robust_snn import InputError, Victim, cli, evaluate
from robust_snn.data import load_dataset
from robust_snn.data.exact_differences import encode, pack
from robust_snn.data.lazy_images import LazyImages
from robust_snn.eval import AttackSpec, Draws, Predictions, Suite, Verdict
from robust_snn.eval.reporting.leaderboard import rank_runs
from robust_snn.eval.scoring import intervals
from robust_snn.eval.scoring.verdict import Robust
from robust_snn.eval.submission import fresh_scores, load_submission, submit, verify
from robust_snn.eval.submission.submission_folder import HASHES, file_hashes
from robust_snn.eval.submission.verification import is_verified
from robust_snn.foreign.identity import identity
from robust_snn.utils.checked_files import write_arrays

EPS = 0.15
PLAIN, NOISY = "snn_vgg5.digits", "snn_vgg5_stog.digits"
ROWS = (AttackSpec("pgd", "robust_snn", "pgd", steps=5),)


class Case(NamedTuple):
    folder: Path
    victim: Victim
    images: Tensor
    labels: Tensor


def packaged(name: str, **changes: Any) -> Victim:
    return Victim(timm.create_model(name, pretrained=True, **changes).eval())


def submitted(name: str, place: Path, count: int) -> Case:
    """A submission of a short run of a packaged network."""
    victim, data = packaged(name), load_dataset("digits", n=count)
    suite = Suite("tiny", ROWS, draws=Draws(8, 8))
    # under this seed its few steps are no luckier than those of the verification
    how: dict[str, Any] = {"eps": EPS, "out": place / "run", "batch_size": 9, "seed": 1}
    evaluate(victim, data.images, data.labels, suite=suite, **how)
    return Case(submit(place / "run"), victim, data.images, data.labels)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return submitted(PLAIN, tmp_path_factory.mktemp("submission"), 24)


@pytest.fixture
def copy(honest: Case, tmp_path: Path) -> Case:
    shutil.copytree(honest.folder, tmp_path / "copy")
    return honest._replace(folder=tmp_path / "copy")


def test_an_honest_one_is_accepted_until_it_changes(copy: Case) -> None:
    submission = load_submission(copy.folder)
    assert len(submission.differences) > 4 and 0.2 < submission.verdict.robust.accuracy < 0.8
    found = verify(*copy, seed=7)
    assert found.accepted and is_verified(copy.folder), found.reasons
    assert len(found.holds) > 4 and len(found.fell) <= 1
    assert found.attacked is not None and found.robust is not None
    assert found.attacked.value <= found.robust.value + 0.05
    (copy.folder / "README.md").write_text("a card is for people")
    assert is_verified(copy.folder)
    drop_image(copy)
    assert not is_verified(copy.folder)


class Pairs:
    """The data as a map-style set."""

    def __init__(self, case: Case) -> None:
        self.case, self.targets = case, case.labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.case.images[index], self.targets[index]


def test_images_on_disk_are_read_a_batch_at_a_time(
    copy: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, taken = verify(*copy, seed=7), list[int]()
    monkeypatch.setattr(fresh_scores, "BATCH", 5)
    read = LazyImages.__getitem__

    def noted(images: LazyImages, at: Any) -> Tensor:
        found = read(images, at)
        taken.append(len(found))
        return found

    monkeypatch.setattr(LazyImages, "__getitem__", noted)
    assert verify(copy.folder, copy.victim, Pairs(copy), seed=7) == whole
    assert max(taken) <= 8 and sum(taken) > 2 * len(copy.images)  # 8 are shown to the network


def edit_verdict(case: Case, **changes: Any) -> None:
    path = case.folder / "verdict.json"
    replace(Verdict.load(path), **changes).save(path)


def edit_record(case: Case, **changes: Any) -> None:
    path = case.folder / "network.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _robust(case: Case) -> Robust:
    return Verdict.load(case.folder / "verdict.json").robust


def edit_robust(case: Case, **changes: Any) -> None:
    edit_verdict(case, robust=replace(_robust(case), **changes))


def edit_images(case: Case, change: Callable[[dict[str, np.ndarray]], dict[str, Any]]) -> None:
    """Changes the adversarial images or their positions."""
    submission, path = load_submission(case.folder), case.folder / "adversarial.npz"
    found = {
        "images": submission.worst(case.images[submission.positions], submission.positions).numpy(),
        "positions": submission.positions,
    }
    found |= change(found)
    clean = case.images.numpy()[found["positions"]]
    contents = [encode(*pair, EPS) for pair in zip(found["images"], clean, strict=True)]
    write_arrays(path, {"positions": found["positions"], **pack(contents)})


def everywhere(case: Case, key: str, **changes: Any) -> None:
    """Edits a part of the verdict and of the record beside it."""
    value = {**getattr(Verdict.load(case.folder / "verdict.json"), key), **changes}
    edit_verdict(case, **{key: value})
    edit_record(case, **{key: value})


def rehash(case: Case) -> None:
    """Gives a forged submission the hashes of what it holds."""
    path = case.folder / HASHES
    hashes = {**json.loads(path.read_text()), "sha256": file_hashes(case.folder)}
    path.write_text(json.dumps(hashes))


def drop_image(case: Case) -> None:
    edit_images(case, lambda arrays: {key: array[1:] for key, array in arrays.items()})


def leave_out(case: Case) -> None:
    """Claims that most images were not broken, in every file, without their versions."""
    old = Predictions.load(case.folder)
    kept = np.arange(len(old.labels)) % 4 == 0
    worst = np.where(kept[:, None], old.worst, old.clean)
    attacks = np.where(kept[None, :, None], old.attacks, old.clean)
    by = np.where(kept, old.by, -1).astype(np.int16)
    replace(old, worst=worst, attacks=attacks, by=by).save(case.folder)
    clean, left, first = (a == old.labels[:, None] for a in (old.clean, worst, attacks[0]))
    robust, alone = map(intervals.accuracy_estimate, (left, first))
    vote, rate = intervals.vote(worst, old.labels), intervals.success_rate(clean, left)
    verdict = Verdict.load(case.folder / "verdict.json")
    row = replace(verdict.attacks[0], accuracy=alone.value, ci=alone.ci)
    row = replace(row, after=robust.value, after_ci=robust.ci)
    told = replace(verdict.robust, accuracy=robust.value, ci=robust.ci, vote=vote.value)
    told = replace(told, vote_ci=vote.ci, asr=rate.value, asr_ci=rate.ci)
    edit_verdict(case, robust=told, attacks=(row,))
    whole = np.flatnonzero(kept)
    edit_images(
        case, lambda a: {key: array[np.isin(a["positions"], whole)] for key, array in a.items()}
    )


def clean_images(case: Case) -> None:
    """Puts clean images in place of those that were broken."""
    edit_images(case, lambda a: {"images": case.images.numpy()[a["positions"]]})


FORGED: dict[str, tuple[Callable[[Case], None], str]] = {
    "accuracy": (
        lambda case: edit_robust(case, accuracy=_robust(case).ci[1]),
        "says robust.accuracy is .*, but results.npz beside it gives",
    ),
    "interval": (
        lambda case: edit_robust(case, ci=(0.0, 1.0)),
        "says robust.ci is 0 to 1, but results.npz beside it gives",
    ),
    "radius": (
        lambda case: edit_verdict(case, threat={"norm": "Linf", "eps": 0.5}),
        "the run's record and verdict.json differ in threat.eps: 0.15, now 0.5",
    ),
    "radius everywhere": (
        lambda case: everywhere(case, "threat", eps=4 * EPS),
        "a short attack of the verification leaves .*, below the submission's interval",
    ),
    "smaller radius everywhere": (
        lambda case: everywhere(case, "threat", eps=EPS / 2),
        "adversarial images are outside the threat model: .* more than eps = 0.075",
    ),
    "weights": (
        lambda case: edit_verdict(case, model={**_model(case), "weights_sha256": "ab" * 32}),
        "differ in model.weights_sha256",
    ),
    "data": (
        lambda case: everywhere(case, "data", sha256="ab" * 32),
        "the 24 images are not the 24 of images that were evaluated",
    ),
    "an image less": (drop_image, "there are adversarial images of"),
    "what was broken": (leave_out, "a short attack of the verification leaves"),
    "noise as images": (
        lambda case: edit_images(case, lambda a: {"images": 1 - a["images"]}),
        "are outside the threat model: adversarial image .* perturbed an image by",
    ),
    "values": (
        lambda case: edit_images(case, lambda a: {"images": a["images"] + 2}),
        "are outside the threat model: adversarial image .* left .0, 1.",
    ),
    "clean images": (clean_images, "robust accuracy is .* on fresh noise, outside"),
}


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "an accuracy outside its interval": (
        lambda folder: edit_text(folder / "verdict.json", "robust", "accuracy", 0.99),
        "'robust.accuracy' must be a share in its interval",
    ),
    "a share above 1": (
        lambda folder: edit_text(folder / "verdict.json", "clean", "vote", 1.7),
        "'clean.vote' must be",
    ),
    "an interval upside down": (
        lambda folder: edit_text(folder / "verdict.json", "clean", "ci", [0.9, 0.1]),
        "'clean.ci' must be two shares in order",
    ),
    "no verdict": (lambda folder: (folder / "verdict.json").unlink(), "verdict.json"),
    "half a verdict": (
        lambda folder: (folder / "verdict.json").write_text('{"schema": 1,'),
        "verdict.json",
    ),
    "no predictions": (lambda folder: (folder / "results.npz").unlink(), "results.npz"),
    "damaged predictions": (
        lambda folder: (folder / "results.npz").write_bytes(b"PK\3\4"),
        "results.npz",
    ),
    "no images": (lambda folder: (folder / "adversarial.npz").unlink(), "adversarial.npz"),
    "images that are no array": (
        lambda folder: (folder / "adversarial.npz").write_bytes(b"\x93NUMPY"),
        "adversarial.npz",
    ),
    "no record of the network": (
        lambda folder: (folder / "network.json").write_text("[]"),
        "network.json",
    ),
}


def edit_text(path: Path, part: str, name: str, value: object) -> None:
    tree = json.loads(path.read_text())
    tree[part][name] = value
    path.write_text(json.dumps(tree))


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_refused(
    copy: Case, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy.folder / "verification.json").write_text("{}")
    spoil, reason = UNREADABLE[kind]
    spoil(copy.folder)
    (said,) = verify(*copy).reasons
    assert reason in said
    assert not is_verified(copy.folder) and not (copy.folder / "verification.json").exists()
    with pytest.raises(SystemExit) as left:
        cli.main(["verify", str(copy.folder)])
    assert left.value.code == 3 and f"refused: {said}" in capsys.readouterr().out


def _model(case: Case) -> dict[str, Any]:
    return Verdict.load(case.folder / "verdict.json").model


@pytest.mark.parametrize("forgery", FORGED)
def test_what_is_forged_is_refused(copy: Case, forgery: str) -> None:
    forge, reason = FORGED[forgery]
    forge(copy)
    found = verify(*copy)
    assert "has changed since the submission was made" in found.reasons[0]
    rehash(copy)
    found = verify(*copy)
    assert re.search(reason, " ".join(found.reasons)), found.reasons
    assert not is_verified(copy.folder)


def shaken(name: str) -> Victim:
    other = packaged(name)
    torch.manual_seed(0)
    for weights in other.net.parameters():
        weights.data.mul_(1 + 0.5 * torch.randn(weights.shape))
    return other


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("weights", "another network: weights"),
        ("steps", "another network: network"),
        ("record", "the network answers otherwise on"),
    ],
)
def test_another_network_is_refused(copy: Case, change: str, reason: str) -> None:
    other = packaged(PLAIN, T=2) if change == "steps" else shaken(PLAIN)
    if change == "record":  # which the forger made of the other network
        edit_record(copy, victim=identity(other, copy.images))
        rehash(copy)
    found = verify(*copy._replace(victim=other))
    assert reason in " ".join(found.reasons), found.reasons


@pytest.mark.slow  # diagnoses of a noisy network and its passes, 8 draws each
def test_noisy_networks_are_scored_on_fresh_noise(tmp_path: Path) -> None:
    case = submitted(NOISY, tmp_path, 10)
    found = verify(*case, seed=7)
    assert found.accepted and found.robust != found.clean, found.reasons
    again = verify(*case, seed=8)
    assert again.accepted and again.robust != found.robust
    other = case._replace(victim=shaken(NOISY))
    edit_record(case, victim=identity(other.victim, case.images))
    rehash(case)
    reasons = " ".join(verify(*other).reasons)
    assert "accuracy is" in reasons and "on fresh noise, outside the submission's" in reasons


def test_what_is_no_submission_is_said(honest: Case, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no submission; make one by robust-snn submit"):
        verify(tmp_path, *honest[1:])
    run = honest.folder.with_name("run")
    (tmp_path / "mine").write_text("mine")
    for place, message in ((tmp_path / "mine", "is no folder"), (tmp_path, "holds something else")):
        with pytest.raises(InputError, match=message):
            submit(run, place)
    with pytest.raises(InputError, match="seed must be a whole number"):
        verify(*honest, seed="one")  # type: ignore[arg-type]
    # a board takes a submission without its hashes for no run of its own
    shutil.copytree(honest.folder, tmp_path / "part")
    (tmp_path / "part" / HASHES).unlink()
    assert rank_runs([tmp_path / "part"]).entries[0].verified is False
    shutil.copytree(run, tmp_path / "run")
    assert rank_runs([tmp_path / "run"]).entries[0].verified is None
    shutil.rmtree(tmp_path / "run" / "versions")
    with pytest.raises(InputError, match="no adversarial images .* start the evaluation again"):
        submit(tmp_path / "run")
