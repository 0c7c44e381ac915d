"""Attention of spikes: every backend against the reference, and that against loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from devices import INTERPRETED
from helpers import assert_close_rms
from launches import counted_kernels
from robust_snn.kernels import attend
from robust_snn.kernels.attention import api
from robust_snn.kernels.attention.numba import launch
from robust_snn.utils.errors import InputError

COMPILED = ["numba", "triton"]
SIZES = [(1, 1), (1, 3), (7, 9), (8, 8), (5, 13), (127, 1)]
WIDTHS = [1, 3, 16, 33, 63]
KINDS = {
    "spikes": lambda draws: (draws < 0.3).float(),
    "silent": torch.zeros_like,
    "all": torch.ones_like,
    "integers": lambda draws: (4 * draws).round(),
    "real": lambda draws: draws + 0.25,  # so that no sum cancels
}


def maps(*shape: int, kind: str = "spikes", last: bool = False) -> Tensor:
    x = KINDS[kind](torch.rand(shape))
    return x.flatten(0, 1).to(memory_format=torch.channels_last).view(shape) if last else x


def results(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float, backend: str, twice=False):
    """The result and the gradients under one that arrives; if `twice`, their gradients as well."""
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    out = attend(*leaves, heads, scale, backend=backend)
    upstream = torch.linspace(0.5, 1.5, out.numel()).view(out.shape).to(out).requires_grad_()
    gradients = torch.autograd.grad(out, leaves, upstream, retain_graph=True)
    if not twice:
        return out.detach(), gradients
    again = torch.autograd.grad(out, leaves, upstream, create_graph=True)
    total = sum(gradient.square().sum() for gradient in again)
    return out.detach(), (*gradients, *torch.autograd.grad(total, [*leaves, upstream]))


def assert_close(got: Tensor, wanted: Tensor, ratio: float = 1e-5) -> None:
    assert_close_rms(got + 1e-20, wanted + 1e-20, ratio)  # where nothing spikes, both are zero


@pytest.mark.parametrize("backend", COMPILED)
@settings(max_examples=5 if INTERPRETED else 60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 99),
    lead=st.sampled_from([(1, 1), (3, 2)]),
    heads=st.sampled_from([1, 2, 3]),
    size=st.sampled_from(SIZES),
    widths=st.tuples(st.sampled_from(WIDTHS), st.sampled_from(WIDTHS)),
    kind=st.sampled_from(list(KINDS)),
    last=st.booleans(),
)
def test_agrees_with_the_reference(backend, seed, lead, heads, size, widths, kind, last):
    torch.manual_seed(seed)
    q, k, v = (
        maps(*lead, heads * width, *size, kind=kind, last=last)
        for width in (widths[0], widths[0], widths[1])
    )
    twice = not INTERPRETED  # it is the same kernel
    out, gradients = results(q, k, v, heads, 0.3, backend, twice)
    expected, expected_gradients = results(q, k, v, heads, 0.3, "torch", twice)
    if kind == "real":
        assert_close(out, expected)
    else:
        assert torch.equal(out, expected)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        assert_close(got, wanted)


def test_the_reference_is_its_formula():
    for size in [(2, 3), (1, 1), (4, 5)]:
        q, k, v = (maps(2, 2, 2 * width, *size, kind="real").double() for width in (4, 4, 7))
        heads = [x.flatten(3).unflatten(2, (2, -1)) for x in (q, k, v)]
        wanted = 0.3 * torch.einsum("tbhdn,tbhdm,tbhem->tbhen", *heads)
        torch.testing.assert_close(attend(q, k, v, 2, 0.3), wanted.reshape(v.shape))


@pytest.mark.parametrize("size", [(1, 2), (2, 3)])
def test_derivatives_of_the_reference(size):
    q, k, v = (maps(2, 1, 2 * w, *size, kind="real").double().requires_grad_() for w in (2, 2, 3))

    def run(q, k, v):
        return attend(q, k, v, 2, 0.3)

    assert torch.autograd.gradcheck(run, (q, k, v))
    assert torch.autograd.gradgradcheck(run, (q, k, v))


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("last", [False, True])
def test_half_precision_is_summed_in_float32(backend, dtype, last):
    q, k, v = (maps(1, 1, width, 5, 13, kind="all", last=last) for width in (6, 6, 40))
    out, gradients = results(q.to(dtype), k.to(dtype), v.to(dtype), 2, 1.0, backend)
    wanted, expected = results(q, k, v, 2, 1.0, "torch")
    assert {x.dtype for x in (out, *gradients)} == {dtype}
    # the interpreter cuts off what bfloat16 has no room for
    exact = {"rtol": 0, "atol": 0} if dtype != torch.bfloat16 or not INTERPRETED else {}
    torch.testing.assert_close(out, wanted.to(dtype), **exact)
    for got, gradient in zip(gradients, expected, strict=True):
        assert_close(got.float(), gradient, 4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("size", [(1, 5), (5, 13)])
def test_writes_every_value(backend, size, poisoned_empty):
    out, gradients = results(*(maps(2, 1, 6, *size) for _ in range(3)), 2, 1.0, backend)
    assert all(x.isfinite().all() for x in (out, *gradients))


@pytest.mark.cpu_only
@pytest.mark.parametrize("value", [2.0, 0.5, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("size", [(6, 11), (1, 2)])
def test_what_is_no_spike_is_multiplied(value, place, size):
    given = [maps(2, 2, 6, *size, kind="all") for _ in range(3)]
    given[place][-1, -1, -1, -1, -1] = value
    found = [attend(*given, 2, backend=backend) for backend in ("numba", "torch")]
    torch.testing.assert_close(*found, equal_nan=True, rtol=0, atol=0)


@pytest.mark.cpu_only
def test_auto_counts_only_where_that_is_faster(monkeypatch):
    ran = []
    real = api._kernels("numba").run_attention
    monkeypatch.setattr(
        api._kernels("numba"), "run_attention", lambda *a: ran.append(len(ran)) or real(*a)
    )
    monkeypatch.delenv("ROBUST_SNN_BACKEND", raising=False)
    monkeypatch.setattr(launch, "LEAST", 1024)
    spikes = maps(2, 1, 8, 8, 8)
    for x, runs in (
        (spikes, True),
        (spikes[:1], False),
        (maps(2, 4, 32, 3, 3), False),
        (maps(2, 1, 8, 8, 8, last=True), False),
        (spikes.bfloat16(), False),
        (spikes.double(), False),
        (spikes[:0], False),
    ):
        ran.clear()
        assert attend(x, x, x, 2).shape == x.shape
        assert bool(ran) == runs


@pytest.mark.cpu_only
@pytest.mark.parametrize("last", [False, True])
def test_a_gpu_launches_one_kernel_and_one_per_gradient(last, monkeypatch):
    pytest.importorskip("triton")
    count = counted_kernels(monkeypatch)
    given = [maps(2, 1, 8, 3, 5, last=last).requires_grad_() for _ in range(3)]
    with count() as forward:
        out = attend(*given, 2, 0.125)
    upstream = maps(2, 1, 8, 3, 5, last=last)
    with count() as backward:
        torch.autograd.grad(out, given, upstream)
    assert forward.counts == {"head_attention": 1}
    assert backward.counts == {"head_attention": 3}


def test_transforms_follow_the_reference():
    x = maps(2, 1, 4, 6, 6, kind="real")
    one = attend(x, x, x, 2)
    assert torch.equal(torch.vmap(lambda y: attend(y, y, y, 2))(x[None])[0], one)
    _, moved = torch.func.jvp(lambda y: attend(y, y, y, 2), (x,), (x,))
    torch.testing.assert_close(moved, 3 * one)


@pytest.mark.slow
def test_compiles_without_graph_breaks():
    x = maps(2, 1, 8, 8, 8).requires_grad_()

    def run(y):
        return attend(y, y, y, 2)

    plain, compiled = run(x), torch.compile(run, fullgraph=True)(x)
    assert torch.equal(plain, compiled)
    gradients = [torch.autograd.grad(out.square().sum(), x)[0] for out in (plain, compiled)]
    assert_close_rms(*gradients)


@pytest.mark.parametrize(
    "shapes, heads, message",
    [
        (((2, 1, 4, 3, 3), (2, 1, 4, 3, 3), (2, 1, 4, 2, 2)), 2, "as many tokens"),
        (((2, 1, 4, 3, 3), (2, 1, 8, 3, 3), (2, 1, 4, 3, 3)), 2, "as many tokens"),
        (((2, 1, 4), (2, 1, 4), (2, 1, 4)), 2, "as many tokens"),
        (((2, 1, 4, 3, 3),) * 3, 3, "3 heads cannot share 4 channels"),
    ],
)
def test_shapes_that_do_not_fit(shapes, heads, message):
    with pytest.raises(InputError, match=message):
        attend(*(torch.zeros(shape) for shape in shapes), heads)
