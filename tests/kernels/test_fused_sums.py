"""Triton's weighted sums in float32 arithmetic, on a GPU or under the interpreter."""

from __future__ import annotations

import pytest
import torch

from devices import GPU, INTERPRETED
from robust_snn.kernels.convolution.constant_gradients import WeightedSum

pytestmark = pytest.mark.skipif(not (GPU or INTERPRETED), reason="needs a GPU or the interpreter")


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (3, 2, 5, 3, 7), (2, 3, 9, 8, 8)])
def test_triton_sums_and_shares(sizes, dtype, last, device):
    if device.type == "cpu" and not INTERPRETED:
        pytest.skip("PyTorch's own sums run on a CPU")
    a, b, upstream = (torch.randn(sizes).to(dtype) for _ in range(3))
    if last:
        a, b, upstream = (
            x.flatten(0, 1).to(memory_format=torch.channels_last).view(x.shape)
            for x in (a, b, upstream)
        )
    weight = torch.tensor([0.3, 0.7])
    # the interpreter cuts off what bfloat16 has no room for
    exact = {"rtol": 0, "atol": 0} if dtype != torch.bfloat16 or not INTERPRETED else {}
    for given in (upstream, upstream[:1].expand(upstream.shape)):
        leaves = [x.detach().requires_grad_() for x in (a, b)]
        out = WeightedSum.apply(*leaves, weight)
        wanted = (weight[0] * a.float() + weight[1] * b.float()).to(dtype)
        assert out.stride() == a.stride()
        torch.testing.assert_close(out, wanted, **exact)
        for share, got in zip(weight, torch.autograd.grad(out, leaves, given), strict=True):
            torch.testing.assert_close(got, (share * given.float()).to(dtype), **exact)
