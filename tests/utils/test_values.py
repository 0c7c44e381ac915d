"""Numbers and names that people write."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robust_snn.utils.errors import InputError
from robust_snn.utils.values import assignments, file_name, number, whole


@pytest.mark.parametrize(
    ("value", "meant"),
    [(1, 1.0), ("8/255", 8 / 255), ("1e-3", 0.001), (np.float32(0.5), 0.5), (torch.tensor(2), 2.0)],
)
def test_numbers_are_read(value: object, meant: float) -> None:
    assert number(value, "it") == meant


@pytest.mark.parametrize(
    "value", ["", "a", "1/0", "nan", float("inf"), None, True, [1], np.ones(2), 1j, 10**400]
)
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="it must be a number"):
        number(value, "it")


def test_pairs_are_separated_by_spaces_or_commas() -> None:
    words = ["T=2,width=8 decay=[0.9,1]", "mode=assg(a=1,relax=2)"]
    found = {"T": 2, "width": 8, "decay": [0.9, 1], "mode": "assg(a=1,relax=2)"}
    assert assignments(words, "it") == found


@pytest.mark.parametrize("value", [np.int64(3), torch.tensor(3), 3])
def test_whole_numbers_are_read(value: object) -> None:
    assert whole(value, "it", 3) == 3


@pytest.mark.parametrize("value", [2, 3.0, "3", True, None, np.ones(3), 2**31, 10**400])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="it must be"):
        whole(value, "it", 3)


@pytest.mark.parametrize("value", [2**63, -(2**63), np.uint64(2**63), 10**400])
def test_a_seed_fits_into_64_bits(value: object) -> None:
    assert whole(1 - 2**63, "it") == 1 - 2**63
    with pytest.raises(InputError, match="it must be at most"):
        whole(value, "it")


@pytest.mark.parametrize("name", ["my-model_1", "é.b", "a" * 199])
def test_names_of_files_are_taken(name: str) -> None:
    assert file_name(name, "it") == name


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "a\\b", "c:d", ".hidden", "..", "a\nb", "\x1b[2J", "a" * 200, 3]
)
def test_names_that_leave_their_folder_are_refused(name: object) -> None:
    with pytest.raises(InputError, match="it names a file"):
        file_name(name, "it")
