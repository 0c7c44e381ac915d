"""Where branches part and meet."""

import itertools

import pytest
import torch
from torch import Tensor

from helpers import assert_close_rms
from robust_snn.kernels.convolution.constant_gradients import Fork, WeightedSum
from robust_snn.models.time_layers import SimplexSum

LAYOUTS = {
    "channels-first": lambda x: x,
    "channels-last": lambda x: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
}
DTYPES = [(torch.float32, torch.float32), (torch.float64, torch.float64)]


def weights(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor([0.3, 0.7], dtype=dtype, requires_grad=True)


def leaves(*dtypes: torch.dtype, layout: str = "channels-first") -> list[Tensor]:
    make = torch.Generator().manual_seed(0)
    shapes = [torch.randn(4, 3, 2, 5, 6, generator=make, dtype=dtype) for dtype in dtypes]
    return [LAYOUTS[layout](x).requires_grad_() for x in shapes]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("expanded", [False, True])
def test_a_weighted_sum_is_its_formula(dtypes: tuple, layout: str, expanded: bool) -> None:
    a, b = leaves(*dtypes, layout=layout)
    weight = weights(dtypes[0])
    upstream = torch.randn_like(a)
    if expanded:
        upstream = upstream[:1].expand(a.shape)
    out, plain = WeightedSum.apply(a, b, weight), weight[0] * a + weight[1] * b
    torch.testing.assert_close(out, plain)
    found = torch.autograd.grad(out, (a, b, weight), upstream)
    for got, wanted in zip(
        found, torch.autograd.grad(plain, (a, b, weight), upstream), strict=True
    ):
        assert_close_rms(got, wanted)
    assert all((gradient.stride(0) == 0) == expanded for gradient in found[:2])


@pytest.mark.parametrize(
    "dtypes", list(itertools.product((torch.float32, torch.bfloat16), repeat=2))
)
@pytest.mark.parametrize("constant", [False, True])
def test_a_sum_has_the_type_and_shape_of_its_formula(dtypes: tuple, constant: bool) -> None:
    a, b = (x.detach().to(kind) for x, kind in zip(leaves(*dtypes), dtypes, strict=True))
    a = a[:1] if constant else a
    mixing = SimplexSum()
    mixing.weight.data = weights()
    out, plain = mixing(a, b), mixing.weight[0] * a + mixing.weight[1] * b
    assert out.dtype == plain.dtype
    rounding = 4 * torch.finfo(out.dtype).eps
    torch.testing.assert_close(out, plain, rtol=rounding, atol=rounding)
    out.sum().backward()
    size = out.numel() / torch.tensor([a.numel(), b.numel()])
    wanted = torch.stack((a.float().sum(), b.float().sum())) * size
    torch.testing.assert_close(mixing.weight.grad, wanted, rtol=0.02, atol=0.3)


def test_second_derivatives_of_a_weighted_sum() -> None:
    a, b = leaves(torch.float64, torch.float64)
    small = [x[:2, :1, :, :2, :2].detach().requires_grad_() for x in (a, b)]
    weight = weights(torch.float64)
    assert torch.autograd.gradgradcheck(WeightedSum.apply, (*small, weight))


@pytest.mark.parametrize("expanded", [(False, False), (True, False), (True, True)])
def test_a_fork_adds_the_gradients(expanded: tuple) -> None:
    (x,) = leaves(torch.float32)
    upstream = [torch.randn_like(x), torch.randn_like(x)]
    upstream = [
        g[:1].expand(g.shape) if one else g for g, one in zip(upstream, expanded, strict=True)
    ]
    (found,) = torch.autograd.grad(Fork.apply(x), x, upstream)
    torch.testing.assert_close(found, upstream[0] + upstream[1])
    assert (found.stride(0) == 0) == all(expanded)
