"""Folders of certificates: what is finished is not computed again, what is another's is refused."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from torch import Tensor

from helpers import held_by_another
from robust_snn.certificates.certificate_folder import CertificateFolder, Row, no_more_than
from robust_snn.certificates.certificate_tasks import SmoothingTask
from robust_snn.utils.errors import InputError

ASKED: list[int] = []


def rows(ids: Tensor) -> list[Row]:
    ASKED.extend(ids.tolist())
    return [{"label": i % 3, "lead": i / 7} for i in ids.tolist()]


def finished(folder: Path, count: int = 5, config: int = 1) -> list[Row]:
    ASKED.clear()
    return CertificateFolder(folder, {"eps": config}).finish(count, 2, rows, lambda _: None)


def test_a_later_start_goes_on(tmp_path: Path) -> None:
    whole = finished(tmp_path / "whole")
    assert ASKED == [0, 1, 2, 3, 4]
    finished(tmp_path / "parts", count=3)
    assert finished(tmp_path / "parts") == whole
    assert ASKED == [3, 4]
    assert (tmp_path / "parts/certificates.csv").read_text() == (
        tmp_path / "whole/certificates.csv"
    ).read_text()


def test_a_second_process_waits_and_takes_the_rows_of_the_first(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    whole = finished(one)
    CertificateFolder(two, {"eps": 1})
    copied = partial(shutil.copy, one / "certificates.csv", two)
    with held_by_another(two, copied):
        assert finished(two) == whole
    assert not ASKED


def test_folders_of_another_configuration_are_refused(tmp_path: Path) -> None:
    finished(tmp_path, config=2)
    with pytest.raises(InputError, match="eps: 2, now 1"):
        finished(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("certificate.json", '{"configuration": {"eps": 1}}', "changed since it was written"),
        ("certificate.json", '{"configuration"', "damaged"),
        ("certificates.csv", "image,label\n1,2\n", "damaged"),
        ("certificates.csv", "label\n2\n", "damaged"),
        ("certificates.csv", "image,label,lead\n0,1,2\n", "earlier version"),
        ("certificates.csv", "image,label,lead,sha256\n0,0,0,00\n", "another run"),
        ("certificates.csv", "image,label,lead,sha256\n0,0,0,00,1,1\n", "damaged"),
        ("certificates.csv", "image\n\0\n", "damaged"),
    ],
)
def test_damaged_folders_are_refused(tmp_path: Path, file: str, text: str, said: str) -> None:
    finished(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=said):
        finished(tmp_path)


@pytest.mark.parametrize(
    ("place", "said"),
    [("file", "is no folder"), ("file/inside", "is no folder"), ("/dev/full", "is no folder")],
)
def test_places_that_are_no_folders_are_refused(tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=said):
        CertificateFolder(tmp_path / place, {})
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("change", [("0,0,0", "0,1,0"), ("\n1,1,0.1", "\n1,1,0.9")])
def test_a_changed_row_is_refused(tmp_path: Path, change: tuple[str, str]) -> None:
    finished(tmp_path)
    rows_file = tmp_path / "certificates.csv"
    text = rows_file.read_text()
    assert change[0] in text
    rows_file.write_text(text.replace(*change))
    with pytest.raises(InputError, match="damaged"):
        finished(tmp_path)


def test_rows_of_another_folder_are_refused(tmp_path: Path) -> None:
    finished(tmp_path / "a", config=2)
    (tmp_path / "a" / "certificate.json").unlink()
    with pytest.raises(InputError, match="of another run"):
        finished(tmp_path / "a")
    finished(tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "b" / "certificates.csv").rename(tmp_path / "c" / "certificates.csv")
    with pytest.raises(InputError, match="of another run"):
        finished(tmp_path / "c", config=2)


@pytest.mark.parametrize("value", [0.12345678, -0.12345678, 1 / 3, 2e-9 / 3, 0.5, 0.0, 7.0])
@pytest.mark.parametrize("digits", [4, 6])
def test_a_lower_bound_is_one_as_text(value: float, digits: int) -> None:
    told = float(no_more_than(value, digits))
    assert value - abs(value) * 10 ** (1 - digits) <= told <= value


def test_certified_accuracy_is_that_of_the_radius_that_is_told() -> None:
    """The largest radius was rounded up, to one that no image is certified for."""
    radii = [0.12345678, 0.06, 0.0]
    told = [{"label": "1", "predicted": "1", "radius": no_more_than(at)} for at in radii]
    result = SmoothingTask.result(object.__new__(SmoothingTask), told)["certified"]
    assert len(result) == 5 and min(result.values()) == pytest.approx(1 / 3)
    for at, share in result.items():
        assert share == sum(radius >= float(at) for radius in radii) / len(radii)
