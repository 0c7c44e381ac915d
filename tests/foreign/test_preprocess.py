"""Networks behind the preparation of their images: the same answers, images in [0, 1] outside."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision.transforms.v2.functional as transforms
from torch import Tensor, nn

from robust_snn import InputError, Victim, adapt
from robust_snn.foreign import adaptation
from robust_snn.foreign.preprocess import LUMINANCE, Preprocessed
from robust_snn.utils.modules import weights_sha256

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
IMAGES = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
KWARGS = {"T": 2, "width": 0.1, "head_width": 8, "img_size": 8, "in_chans": 3}


def network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("snn_vgg5", num_classes=10, **KWARGS).eval()


@pytest.mark.parametrize(
    ("arguments", "images", "expected"),
    [
        ({}, IMAGES, IMAGES),
        ({"mean": MEAN, "std": STD}, IMAGES, transforms.normalize(IMAGES, [*MEAN], [*STD])),
        ({"mean": 0.5, "std": 0.5}, IMAGES, 2 * IMAGES - 1),
        (
            {"mean": torch.tensor(MEAN), "std": 1},
            IMAGES,
            IMAGES - torch.tensor([[MEAN]]).mT[..., None],
        ),
        ({"resize": 4}, IMAGES, transforms.resize(IMAGES, [4, 4], antialias=True)),
        ({"resize": (12, 9)}, IMAGES, transforms.resize(IMAGES, [12, 9], antialias=True)),
        ({"channels": 3}, IMAGES[:, :1], IMAGES[:, :1].repeat(1, 3, 1, 1)),
        ({"channels": 3}, IMAGES, IMAGES),
        ({"channels": 1}, IMAGES, transforms.rgb_to_grayscale(IMAGES)),
        (
            {"resize": 4},
            IMAGES[:, None],
            transforms.resize(IMAGES[:, None], [4, 4], antialias=True),
        ),
    ],
)
def test_what_the_network_sees(arguments: dict[str, Any], images: Tensor, expected: Tensor) -> None:
    seen = Preprocessed(nn.Identity(), **arguments)(images)
    torch.testing.assert_close(seen, expected, rtol=0, atol=2e-4)  # theirs round the luminance


def test_logits_and_gradient_are_those_of_the_prepared_image() -> None:
    net = timm.create_model("snn_vgg5.digits", pretrained=True).eval()
    image = torch.rand(4, 3, 20, 20, generator=torch.Generator().manual_seed(1)).requires_grad_()
    victim = adapt(net, mean=0.1, std=0.8, resize=16, channels=1)
    grey = (image * torch.tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True)
    prepared = (
        nn.functional.interpolate(grey, (16, 16), mode="bilinear", antialias=True) - 0.1
    ) / 0.8
    outcomes = victim(image), Victim(net)(prepared)
    torch.testing.assert_close(*outcomes)
    found, wanted = (torch.autograd.grad(z[:, 0].sum(), image)[0] for z in outcomes)
    assert wanted.any()
    torch.testing.assert_close(found, wanted)
    reached = Victim(net).takes("bptr").neurons
    assert victim.takes("bptr").neurons == tuple(f"net.{name}" for name in reached)


def test_a_name_takes_it_too() -> None:
    victim = adapt("snn_vgg5", resize=8, mean=MEAN, std=STD, gradient="bptr", **KWARGS)
    assert isinstance(victim.net, Preprocessed) and not victim.training
    assert victim.gradient.name == "bptr"
    own = victim.net.net.encoder.mean  # models of ours normalise inside
    assert own.flatten().tolist() == pytest.approx(MEAN) and not victim.net.mean.any()


def test_the_record_names_the_network_and_its_preparation() -> None:
    net = network()
    inner, arguments = adaptation(adapt(net, resize=4, mean=0.25, std=(0.5, 1, 1)).net)
    assert inner is net
    assert arguments == {"resize": [4, 4], "mean": [0.25], "std": [0.5, 1, 1]}
    assert adaptation(adapt(net).net) == (net, {})


def test_the_digest_of_weights_tells_two_normalisations_apart() -> None:
    net = network()
    digests = {weights_sha256(adapt(net, mean=m, std=0.5).net) for m in (0.4, 0.5)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": 0.5}, "mean and std go together"),
        ({"mean": MEAN, "std": (1, 0, 1)}, "std must be positive"),
        (
            {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},
            "divide values for bytes by 255",
        ),
        ({"mean": float("nan"), "std": 1}, r"mean must lie in \[0, 1\]"),
        ({"mean": "half", "std": 1}, "mean must be a number or one per channel"),
        ({"mean": (), "std": 1}, "mean has no value"),
        ({"mean": MEAN, "std": STD, "channels": 1}, "mean has 3 values for images of 1 channels"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"resize": 0}, "resize must be a side"),
        ({"resize": (4, 4, 4)}, "resize must be a side"),
        ({"resize": True}, "resize must be a side"),
        ({"means": 0.5}, "did you mean 'mean'"),
        ({"mean": 0.5, "std": 0.5, "encoder": "poisson", "T": 2}, "leave mean, std to the net"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapt(network(), **arguments)


def test_images_that_do_not_suit() -> None:
    with pytest.raises(InputError, match="mean has 3 values for images of 1 channels"):
        adapt(network(), mean=MEAN, std=STD)(IMAGES[:, :1])
    with pytest.raises(InputError, match="these have 2 channels"):
        adapt(network(), channels=3)(IMAGES[:, :2])


def test_it_is_settled_once() -> None:
    with pytest.raises(InputError, match="settled when a net is first adapted"):
        adapt(adapt(network()), mean=0.5, std=0.5)


def test_the_digest_of_weights_takes_quantised_layers() -> None:
    def quantised(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, torch.qint8)

    assert (
        weights_sha256(quantised(0)) == weights_sha256(quantised(0)) != weights_sha256(quantised(1))
    )
