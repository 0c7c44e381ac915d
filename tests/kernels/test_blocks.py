"""Formulas computed in blocks give the bits that they give at once."""

from __future__ import annotations

import pytest
import torch

from robust_snn.kernels import blocks as blocks_file
from robust_snn.kernels.blocks import blocks, blockwise, blockwise_product

TENSORS = {
    "maps": torch.randn(3, 5, 4, 6),
    "channels last": torch.randn(3, 5, 4, 6).to(memory_format=torch.channels_last),
    "every other": torch.randn(3, 5, 4, 12)[..., ::2],
    "the same for all": torch.randn(1, 5, 1, 1).expand(3, 5, 4, 6),
    "features": torch.randn(7, 130),
    "half": torch.randn(7, 130).half(),
    "a number": torch.randn(()),
    "empty": torch.randn(0, 3),
}


def formula(x, y):
    return torch.exp(-x.square()) * (2 * y + 1)


@pytest.mark.parametrize("limit", [1, 7, 64, 1 << 16])
@pytest.mark.parametrize("name", TENSORS)
def test_blocks_are_the_whole(name, limit, monkeypatch):
    monkeypatch.setattr(blocks_file, "BLOCK", limit)
    x = TENSORS[name]
    weight = torch.randn(x.shape[1:2] + (1,) * (x.dim() - 2), device=x.device)
    whole = formula(x, weight).to(x.dtype)
    with torch.no_grad():
        found = blockwise(formula, x, weight)
        product = blockwise_product(torch.exp, x, weight)
    assert torch.equal(found, whole) and found.dtype == x.dtype
    assert torch.equal(product, (x * torch.exp(weight)).to(x.dtype)) and product.dtype == x.dtype
    sizes = [part.numel() for part, _ in blocks(x, weight)]
    most = limit * torch.get_num_threads()
    assert sum(sizes) == x.numel() and max(sizes) <= max(most, 1)


def test_a_second_derivative_is_that_of_the_formula():
    x, y = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x, y: blockwise(formula, x, y), (x, y))
    assert torch.autograd.gradcheck(lambda x, y: blockwise_product(torch.exp, x, y), (x, y))
