"""Frequency encoding against waves whose frequency is known."""

from __future__ import annotations

import math

import pytest
import torch

from helpers import assert_close_rms
from robust_snn.models.frequency_encoding import FrequencyEncoding, low_pass, radii
from zoo import awake, images, narrow


def test_radii_are_those_of_the_paper() -> None:
    assert radii(32, 32, 4) == [(16, 16), (14, 14), (12, 12), (10, 10)]
    assert [a for a, _ in radii(32, 32, 9)] == [16, 14, 12, 10, 8, 6, 4, 2, 2]
    assert radii(48, 16, 2) == [(24, 8), (21, 7)]


@pytest.mark.parametrize("side", [32, 31])
@pytest.mark.parametrize(("down", "across"), [(0, 0), (3, 0), (0, 11), (9, 13), (13, 2)])
def test_a_wave_passes_while_its_frequencies_are_low_enough(
    side: int, down: int, across: int
) -> None:
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    phase = 2 * math.pi * (down * row + across * column).double() / side
    wave = torch.cos(phase + 0.4)
    x = wave.expand(8, 2, 3, side, side).contiguous()
    out = low_pass(x, 8)
    for step, (high, wide) in enumerate(radii(side, side, 8)):
        expected = wave if down <= high and across <= wide else torch.zeros_like(wave)
        assert (out[step] - expected).abs().max() < 1e-9


def test_it_is_linear_and_keeps_the_mean() -> None:
    x, y = torch.rand(2, 6, 2, 3, 16, 16, dtype=torch.float64)
    assert_close_rms(low_pass(2 * x - y, 6), 2 * low_pass(x, 6) - low_pass(y, 6), 1e-12)
    assert_close_rms(low_pass(x, 6).mean((-2, -1)), x.mean((-2, -1)), 1e-12)
    its_adjoint = (x * low_pass(y, 6)).sum()  # it is its own
    assert_close_rms((low_pass(x, 6) * y).sum(), its_adjoint, 1e-12)
    assert torch.equal(low_pass(x[:1], 6), low_pass(x[:1].expand_as(x).contiguous(), 6))


def test_the_first_step_is_the_image_and_events_keep_their_own() -> None:
    encode = FrequencyEncoding(3, 4)
    x = torch.rand(2, 3, 32, 32)
    shown = encode(x)
    assert shown.shape == (4, 2, 3, 32, 32)
    assert_close_rms(shown[0], (x - encode.mean) / encode.std, 1e-5)
    frames = torch.rand(2, 4, 3, 32, 32)
    normalised = ((frames - encode.mean) / encode.std).transpose(0, 1)
    assert_close_rms(encode(frames)[2], low_pass(normalised, 4)[2])


def test_leaks_change_what_a_network_says() -> None:
    net, x = awake(narrow("snn_vgg5_feel"), images("snn_vgg5", 4)), images("snn_vgg5")
    with torch.no_grad():
        before = net(x)
        for name, parameter in net.named_parameters():
            if name.endswith(".leak"):
                parameter.mul_(0.3)
        assert not torch.equal(net(x), before)
