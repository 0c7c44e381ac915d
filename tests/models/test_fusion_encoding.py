"""Codes of an image side by side, as channels of one input."""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close_rms
from robust_snn import Victim
from robust_snn.models.fusion_encoding import FusionEncoding
from robust_snn.neurons import FirstEncoder, LatencyEncoder
from robust_snn.utils.errors import InputError
from zoo import awake, images, narrow


def test_every_code_has_its_channels_and_is_normalised() -> None:
    encode, x = FusionEncoding(3, 4, codes="direct+first+latency"), torch.rand(2, 3, 8, 8)
    shown = encode(x)
    assert encode.out_chans == 9
    assert shown.shape == (4, 2, 9, 8, 8)
    parts = (x.expand(4, -1, -1, -1, -1), FirstEncoder()(x[None], 4), LatencyEncoder()(x[None], 4))
    for number, part in enumerate(parts):
        expected = (part - encode.mean) / encode.std
        assert_close_rms(shown[:, :, 3 * number : 3 * number + 3], expected)


def test_a_network_sees_more_channels_and_its_attacker_pixels() -> None:
    net, x = narrow("snn_vgg5_fusion"), images("snn_vgg5")
    alone = narrow("snn_vgg5_fusion", codes="first")
    assert [n.stages[0][0].conv.in_channels for n in (net, alone)] == [6, 3]
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(Victim(awake(net, x))(x).logsumexp(1).sum(), x)
    assert gradient.shape == x.shape
    assert gradient.any()


@pytest.mark.parametrize("codes", ["direct+furst", "furst"])
def test_an_unknown_code_is_refused(codes: str) -> None:
    with pytest.raises(InputError, match="did you mean 'first'"):
        narrow("snn_vgg5_fusion", codes=codes)
