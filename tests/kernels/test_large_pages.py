"""Large pages are asked for where they can be, and change no value."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from robust_snn.kernels import large_pages
from robust_snn.kernels.large_pages import LARGE, in_large_pages
from robust_snn.neurons import LIF


@pytest.mark.parametrize("numbers, asks", [(LARGE // 4, 1), (LARGE // 4 - 1, 0), (0, 0)])
def test_only_large_results_ask(numbers, asks, monkeypatch):
    seen = []
    monkeypatch.setattr(large_pages, "_advise", lambda: lambda *arguments: seen.append(arguments))
    fresh = torch.empty(numbers, device="cpu")
    assert in_large_pages(fresh) is fresh
    assert len(seen) == asks
    for first, size, _ in seen:
        assert first % 4096 == 0
        begin = fresh.untyped_storage().data_ptr()
        assert begin <= first and first + size <= begin + fresh.nbytes


def test_a_compiler_that_traces_asks_for_none(monkeypatch):
    monkeypatch.setattr(large_pages, "_advise", lambda: pytest.fail)
    with FakeTensorMode():
        in_large_pages(torch.empty(LARGE, device="cpu"))


@pytest.mark.cpu_only
def test_systems_without_them_give_the_same(monkeypatch):
    current = torch.randn(2, 1, LARGE // 8)
    with_them = LIF()(current)
    monkeypatch.setattr(large_pages, "_advise", lambda: None)
    assert torch.equal(LIF()(current), with_them)
