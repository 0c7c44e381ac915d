"""The random stream: known answers, independence of everything but the address."""

from __future__ import annotations

import sys

import pytest
import torch

from robust_snn.kernels import derive_seed, philox, sample_keys
from robust_snn.kernels.backend import auto_runs
from robust_snn.kernels.draws import fast_uniform
from robust_snn.kernels.philox import Purpose, draw_uniform

# Random123's known answers for Philox4x32-10.
KNOWN = [
    (0, (0, 0, 0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (-1, (0xFFFFFFFF,) * 4, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        0x299F31D0A4093822,
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize("key, counter, words", KNOWN)
def test_philox_known_answers(key, counter, words):
    drawn = philox(torch.tensor(key), counter)
    assert " ".join(f"{int(word):08x}" for word in drawn) == words


def test_draw_depends_on_the_address_alone():
    keys = sample_keys(7, torch.arange(5))
    everything = draw_uniform(keys, (3, 4), 9, 2, Purpose.GATE)
    for order in ([4, 0, 2], [1]):
        assert torch.equal(
            draw_uniform(keys[order], (3, 4), 9, 2, Purpose.GATE), everything[:, order]
        )
    assert torch.equal(draw_uniform(keys, (3, 4), 6, 2, Purpose.GATE), everything[:6])
    assert not torch.equal(draw_uniform(keys, (3, 4), 9, 3, Purpose.GATE), everything)
    assert not torch.equal(draw_uniform(keys, (3, 4), 9, 2, Purpose.SPIKE), everything)


@pytest.mark.cpu_only
@pytest.mark.parametrize("neurons", [0, 1, 63, 127, 4097])
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_kernel_draws_the_same_bits(neurons, steps, monkeypatch):
    keys = sample_keys(-3, torch.arange(6))[::2]
    address = keys, (neurons, 2), steps, 2**31 + 5, Purpose.LEAK
    drawn, expected = fast_uniform(*address), draw_uniform(*address)
    assert drawn.dtype == torch.float32 and torch.equal(drawn, expected)
    monkeypatch.setenv("ROBUST_SNN_BACKEND", "torch")
    monkeypatch.setitem(sys.modules, "robust_snn.kernels.numba_tools.uniform_blocks", None)
    assert torch.equal(fast_uniform(*address), expected)


def test_draw_is_uniform():
    drawn = draw_uniform(sample_keys(0, torch.arange(64)), (256,), 8, 0, Purpose.GATE).double()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert drawn.mean().item() == pytest.approx(0.5, abs=3e-3)
    assert drawn.var().item() == pytest.approx(1 / 12, abs=2e-3)


def test_sample_keys_tell_ids_draws_and_calls_apart():
    ids = torch.arange(100)
    keys = torch.cat([sample_keys(1, ids, d, c) for d in range(3) for c in range(3)])
    assert keys.unique().numel() == keys.numel()


def test_derive_seed_is_stable():
    assert derive_seed(0, "attack", "apgd-ce", 3) == derive_seed(0, "attack", "apgd-ce", 3)
    assert derive_seed(0, "ab", "c") != derive_seed(0, "a", "bc")
    assert 0 <= derive_seed(2**62, "x") < 2**63


@pytest.mark.parametrize("seed", [0, 1, 16, 2**31, 2**40 + 17, 2**63 - 1])
@pytest.mark.parametrize("batch", [1, 3, 127, 300])
def test_keys_by_triton(seed, batch, device, monkeypatch):
    ids = torch.arange(batch) * 7
    if not auto_runs("triton", ids):
        pytest.skip("needs a GPU or the interpreter")
    for draw, call in ((0, 0), (1, 3), (5, 2**31)):
        got = sample_keys(seed, ids, draw, call)
        with monkeypatch.context() as patch:
            patch.setattr(
                sys.modules["robust_snn.kernels.philox"], "auto_runs", lambda backend, ids: False
            )
            assert torch.equal(got, sample_keys(seed, ids, draw, call))
