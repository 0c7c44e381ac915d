"""Noise that an attacker knows: one draw, the same for attacks and scores."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

import robust_snn
from robust_snn import InputError, Victim
from robust_snn.eval import AttackSpec, Suite
from robust_snn.neurons import StochasticGate, with_known_noise
from robust_snn.neurons.known_noise import known_draws

NETS = ["snn_vgg5_stog", "snn_vgg5_nlif", "snn_vgg5_poisson"]


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    size = {"img_size": 8, "in_chans": 1, "num_classes": 5}
    victim = robust_snn.adapt(name, T=3, width=0.125, head_width=16, **size)
    return victim.net.eval()


@pytest.mark.parametrize("name", NETS)
def test_one_draw_whoever_asks(name: str) -> None:
    net, x = build(name), torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    known = Victim(with_known_noise(net, 3), seed=5, eot=4)
    ids = torch.arange(6)
    assert Victim(net).stochastic and not known.stochastic
    once = known(x).detach()
    for other in (
        known(x),
        known.replace(seed=9, noise="frozen")(x),
        known.sample(x, ids + 7, draw=2),
        known(x.flip(0)).flip(0),
    ):
        assert torch.allclose(once, other, atol=1e-5)
    assert not torch.allclose(once, Victim(with_known_noise(net, 4))(x), atol=1e-5)
    assert not torch.allclose(known.replace(noise="mean")(x), once, atol=1e-5)
    assert Victim(net).stochastic  # the network that was given stays as it was


@pytest.mark.parametrize("name", NETS)
def test_every_image_has_a_draw_of_its_own(name: str) -> None:
    """Its versions share it, whatever batch they are in, in attacks and in scores."""
    net, x = build(name), torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    known = Victim(with_known_noise(net, 3, x), seed=5, eot=4)
    draws, ids = known_draws(known.net), torch.arange(6)
    assert draws is not None and not known.stochastic
    keys = draws.keys(x)
    assert len(set(keys.tolist())) == 6
    assert torch.equal(draws.keys((x + 0.1 * torch.randn_like(x).sign()).clamp(0, 1)), keys)
    once, rows = known(x).detach(), torch.tensor([4, 1])
    for other in (
        known.replace(seed=9, noise="frozen")(x),
        known.sample(x, ids + 7, draw=2),
        known(x.flip(0)).flip(0),
        pickle.loads(pickle.dumps(known))(x),
    ):
        assert torch.allclose(once, other, atol=1e-5)
    assert torch.allclose(known(x[rows]), once[rows], atol=1e-5)
    twice = Victim(with_known_noise(net, 3, torch.cat([1 - x[:1], x])))
    assert not torch.allclose(twice(x), once, atol=1e-5)  # images of other places, other draws


def test_a_network_without_noise_has_none_to_know() -> None:
    with pytest.raises(InputError, match="draws nothing at random"):
        with_known_noise(torch.nn.Flatten())
    with pytest.raises(InputError, match="no images"):
        with_known_noise(StochasticGate((4,)).eval(), 0, torch.rand(0, 1, 8, 8))


def test_a_suite_of_known_noise(tmp_path: Path) -> None:
    """The verdict says so, an attack's own view is what is scored, and fresh noise is another."""
    net, labels = build("snn_vgg5_stog"), torch.tensor([0, 1, 2, 3, 4, 0])
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    row = AttackSpec("apgd", "robust_snn", "apgd", steps=4)
    suite = Suite("s", (row,), known_noise=True)
    verdict = robust_snn.evaluate(net, images, labels, suite=suite, eps=0.1, out=tmp_path / "known")
    assert verdict.threat["noise"] == "known" and not verdict.stochastic
    assert verdict.attacks[0].claimed == verdict.attacks[0].accuracy
    suite = Suite("s", (row,))
    robust_snn.evaluate(net, images, labels, suite=suite, eps=0.1, out=tmp_path / "fresh")
    with pytest.raises(InputError, match="threat.noise is known"):
        robust_snn.eval.compare(tmp_path / "known", tmp_path / "fresh")
