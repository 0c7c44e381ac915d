"""Adversarial images that somebody made elsewhere, as a row of a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.utils import save_image

from robust_snn import InputError, Verdict, evaluate
from robust_snn.attacks import PGD
from robust_snn.eval import Draws, Suite, load_suite
from robust_snn.eval.submission import submit
from victims import tiny_victim, told_by

EPS = 32 / 255


class Case:
    """Eight images of 8 bits, a victim, and adversarial versions of 8 bits."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.victim = tiny_victim(False)
        images, _ = told_by(self.victim, 8)
        self.images = (images * 255).round() / 255
        self.labels = self.victim(self.images).argmax(1)
        made = PGD(steps=5)(self.victim, self.images, self.labels, eps=EPS).images
        rounded = (made * 255).round() / 255  # a radius of whole levels stays one
        self.made = rounded
        self.left = float((self.victim(self.made).argmax(1) == self.labels).float().mean())

    def run(self, folder: Path, attack: Path | str, **changes: Any) -> Verdict:
        (folder / "theirs.yaml").write_text(
            "name: theirs\ndraws: {select: 1, report: 1}\nattacks:\n"
            f"  - {{name: theirs, implementation: images, attack: {attack}}}"
        )
        settings = {"suite": folder / "theirs.yaml", "out": folder / "run", "eps": EPS, **changes}
        return evaluate(self.victim, self.images, self.labels, batch_size=3, **settings)


@pytest.fixture(scope="module")
def case() -> Case:
    case = Case()
    assert case.left < 0.8
    return case


def as_npz(place: Path, made: Tensor) -> str:
    np.savez(place / "theirs.npz", x_adv=made.numpy())
    return "theirs.npz"


def as_bytes_last(place: Path, made: Tensor) -> str:
    pixels = (made * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez(place / "bytes.npz", pixels)
    return "bytes.npz"


def as_pt(place: Path, made: Tensor) -> str:
    torch.save((made, torch.zeros(len(made))), place / "theirs.pt")  # as torchattacks does
    return "theirs.pt"


def as_autoattack(place: Path, made: Tensor) -> str:
    torch.save({"adv_complete": made, "other": 1}, place / "aa.pth")
    return "aa.pth"


def as_folder(place: Path, made: Tensor) -> str:
    (place / "pictures").mkdir()
    for number, image in enumerate(made):
        save_image(image, place / "pictures" / f"adv_{number + 5}.png")  # 10 after 9
    return "pictures"


@pytest.mark.parametrize("form", [as_npz, as_bytes_last, as_pt, as_autoattack, as_folder])
def test_every_form_is_scored_like_any_attack(case: Case, tmp_path: Path, form: Any) -> None:
    verdict = case.run(tmp_path, form(tmp_path, case.made))
    assert verdict.robust.accuracy == case.left
    (row,) = verdict.attacks
    assert row.implementation.startswith("images ") and (row.claimed, row.backwards) == (
        case.left,
        0,
    )
    with pytest.raises(InputError, match="another configuration"):
        changed = case.made.clone()
        changed[0] = case.images[0]
        case.run(tmp_path, as_npz(tmp_path, changed))


def test_those_of_a_submission_are_some_of_them(case: Case, tmp_path: Path) -> None:
    case.run(tmp_path, as_npz(tmp_path, case.made))
    submit(tmp_path / "run", tmp_path / "submission")
    verdict = case.run(tmp_path, "submission/adversarial.npz", out=tmp_path / "again")
    assert verdict.robust.accuracy == case.left


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": torch.zeros(8, 3, 8, 8)}, "'theirs' perturbed an image by .* same images"),
        ({"images": torch.full((8, 3, 8, 8), 2.0)}, "'theirs' left .0, 1."),
        ({"images": torch.zeros(7, 3, 8, 8)}, "holds 7 images, and 8 are attacked"),
        ({"images": torch.zeros(8, 3, 9, 9)}, "images .3, 9, 9., the attacked ones are .3, 8, 8."),
        ({"images": torch.zeros(1, 3, 8, 8), "positions": [9]}, "positions up to 9 of 8 images"),
        ({"images": torch.zeros(2, 3, 8, 8), "positions": [1, 1]}, "must be 2 different numbers"),
        ({"a": [1], "b": [2]}, "unknown array of images"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    case: Case, tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "bad.npz", **{key: np.asarray(value) for key, value in content.items()})
    with pytest.raises(InputError, match=message):
        case.run(tmp_path, "bad.npz")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.npz", "no images at 'gone.npz'; expected an .npz"),
        ("words.txt", "has the ending '.txt'; expected an .npz"),
        ("broken.pt", "cannot read images from"),
        ("empty", "no pictures in the folder"),
    ],
)
def test_what_is_no_file_of_images_is_refused(
    case: Case, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "words.txt").write_text("images")
    (tmp_path / "broken.pt").write_bytes(b"broken")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        case.run(tmp_path, name)


def test_a_suite_names_them_beside_itself(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((1, 1, 2, 2), np.float32))
    (tmp_path / "s.yaml").write_text(
        "name: s\nattacks: [{name: a, implementation: images, attack: x.npz}]"
    )
    suite = load_suite(tmp_path / "s.yaml")
    assert suite.attacks[0].attack == str(tmp_path / "x.npz") and isinstance(suite, Suite)
    assert suite.draws == Draws()
