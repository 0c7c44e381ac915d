"""Certificates beside attacks: what both say of the same images, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robust_snn import InputError, Victim, evaluate
from robust_snn.certificates.certificate_folder import CertificateFolder, read_certificates
from robust_snn.certificates.certificate_tasks import BoundsTask
from robust_snn.data import ImageSet
from robust_snn.eval import AttackSpec, Draws, Suite, Verdict
from robust_snn.eval.execution.certified_images import CertificateContradicted
from robust_snn.eval.reporting.html import render_page
from robust_snn.eval.reporting.leaderboard import rank_runs
from robust_snn.eval.reporting.leaderboard_output import leaderboard_csv
from robust_snn.eval.reporting.terminal import render_verdict, sentence
from robust_snn.foreign.identity import identity
from victims import tiny_victim, told_by

EPS, WIDE = 1e-6, 0.3
SUITE = Suite(
    "a", (AttackSpec("pgd", "robust_snn", "pgd", gradient="ste", steps=8),), draws=Draws(1, 1)
)


def certified(folder: Path, victim: Victim, images: Tensor, labels: Tensor, eps: float) -> Path:
    """The folder that `robust-snn certify --eps` makes."""
    data = ImageSet("images", "all", images, labels, ())
    task = BoundsTask(victim, data, eps, 0)
    model = identity(victim, images)
    made = CertificateFolder(folder, {"model": model, **task.settings})
    made.finish(len(labels), 4, task.rows, lambda _: None)
    return folder


def attacked(out: Path, victim: Victim, *batch: Tensor, **more: Any) -> Verdict:
    return evaluate(victim, *batch, suite=SUITE, out=out, **{"eps": EPS, **more})


def test_the_bracket_is_in_everything_that_is_shown(tmp_path: Path) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 6)
    folder = certified(tmp_path / "c", victim, images[:4], labels[:4], 2 * EPS)
    order = torch.tensor([5, 0, 3, 1])  # another order, one image without a certificate
    shown = attacked(tmp_path / "a", victim, images[order], labels[order], certificates=folder)
    floor = shown.certified
    assert floor is not None and floor.images == 3 and 0 < floor.accuracy <= 0.75
    assert floor.accuracy <= shown.robust.accuracy and floor.decided >= floor.accuracy
    assert Verdict.from_dict(shown.to_dict()) == shown
    assert f"{floor.accuracy:.1%} certified" in sentence(shown)
    assert "certified" in render_verdict(shown).renderables[0].columns[0]._cells  # type: ignore[union-attr]
    assert "Certified accuracy" in render_page(shown)
    board = rank_runs([tmp_path / "a"])
    assert board.entries[0].certified == floor.accuracy
    assert "certified" in leaderboard_csv(board).splitlines()[0]
    bare = attacked(tmp_path / "a", victim, images[order], labels[order])
    assert bare.certified is None and "certified" not in bare.to_dict()
    assert bare.robust == shown.robust


def forge(folder: Path, status: str) -> None:
    """Gives every certificate of a folder a status."""
    configuration, rows = read_certificates(folder)
    (folder / "certificates.csv").unlink()
    forged = [{**row, "status": status} for row in rows]
    CertificateFolder(folder, configuration).finish(
        len(rows), len(rows), lambda _: forged, lambda _: None
    )


@pytest.mark.parametrize(("eps", "known"), [(EPS, 1.0), (2 * EPS, 0.0)])
def test_what_a_larger_ball_breaks_says_nothing(tmp_path: Path, eps: float, known: float) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 4)
    folder = certified(tmp_path / "c", victim, images, labels, eps)
    forge(folder, "broken")
    shown = attacked(tmp_path / "a", victim, images, labels, certificates=folder)
    assert shown.robust.accuracy == 1 and shown.certified is not None
    assert shown.certified.decided == known
    notes = {note.name: note.value for note in shown.diagnostics}
    assert notes["attacks against proofs"] == known


def test_a_broken_certificate_is_loud(tmp_path: Path) -> None:
    """The file is forged; nothing else can make the two disagree."""
    victim = tiny_victim(False)
    images, labels = told_by(victim, 4)
    folder = certified(tmp_path / "c", victim, images, labels, WIDE)
    forge(folder, "certified")
    with pytest.raises(CertificateContradicted, match="wrong"):
        attacked(tmp_path / "a", victim, images, labels, eps=WIDE, certificates=folder)
    assert not (tmp_path / "a/verdict.json").exists()


def test_certificates_of_something_else_are_refused(tmp_path: Path) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 4)
    folder = certified(tmp_path / "c", victim, images, labels, EPS)
    torch.manual_seed(5)
    other = tiny_victim(False)
    next(other.net.parameters()).data += 0.01
    cases: list[tuple[Victim, Tensor, dict[str, Any], str]] = [
        (other, images, {}, "another network"),
        (victim, 1 - images, {}, "no certificate of any"),
        (victim, images, {"eps": 2 * EPS}, "certify again with --eps 2e-06"),
        (victim, images, {"eps": 0.9, "norm": "L2"}, "in Linf"),
        (victim, images, {"certificates": tmp_path / "none"}, "robust-snn certify makes them"),
    ]
    for number, (net, pixels, more, said) in enumerate(cases):
        given = {"certificates": folder, **more}
        with pytest.raises(InputError, match=said):
            attacked(tmp_path / str(number), net, pixels, labels, **given)
        assert not (tmp_path / str(number)).exists()


def test_a_verdict_with_a_floor_above_its_ceiling_is_refused(tmp_path: Path) -> None:
    victim = tiny_victim(False)
    images, labels = told_by(victim, 2)
    folder = certified(tmp_path / "c", victim, images, labels, EPS)
    tree = attacked(tmp_path / "a", victim, images, labels, certificates=folder).to_dict()
    tree["robust"] |= {"accuracy": 0.0, "ci": [0.0, 0.5]}
    tree["certified"] |= {"accuracy": 0.5, "ci": [0.0, 1.0]}
    with pytest.raises(InputError, match=r"certified\.accuracy"):
        Verdict.from_dict(tree)
