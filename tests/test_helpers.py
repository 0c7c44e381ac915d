"""The test tools themselves."""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close_rms, rms_ratio


@pytest.mark.parametrize(
    ("actual", "expected", "close"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, 2.0], [1.0, 2.00001], True),
        ([1.0, 2.0], [1.0, 2.001], False),
        ([0.0, 0.0], [0.0, 0.0], True),
        ([1e-9, 0.0], [0.0, 0.0], False),
        ([torch.nan, 0.0], [1.0, 0.0], False),
        ([torch.nan, 0.0], [torch.nan, 0.0], False),
        ([1.0], [1.0, 1.0], False),
    ],
)
def test_assert_close_rms(actual: list[float], expected: list[float], close: bool) -> None:
    if close:
        assert_close_rms(torch.tensor(actual), torch.tensor(expected))
    else:
        with pytest.raises(AssertionError):
            assert_close_rms(torch.tensor(actual), torch.tensor(expected))


def test_rms_ratio_of_a_known_error() -> None:
    assert rms_ratio(torch.tensor([1.1, 1.0]), torch.tensor([1.0, 1.0])) == pytest.approx(
        0.1 / 2**0.5, rel=1e-5
    )


@pytest.mark.usefixtures("poisoned_empty")
def test_poisoned_empty() -> None:
    like = torch.ones(3)
    for out in (torch.empty(3), torch.empty_like(like), like.new_empty(2)):
        assert out.isnan().all()
    assert torch.empty(2, requires_grad=True).requires_grad
    assert not torch.empty(3, dtype=torch.int64).is_floating_point()
