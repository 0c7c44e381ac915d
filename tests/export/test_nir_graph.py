"""Our networks as NIR graphs: read again they answer the same, and what NIR lacks is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import robust_snn
from robust_snn import InputError, Victim, adapt

nir = pytest.importorskip("nir", reason="needs the extra nir")

TINY: dict[str, Any] = {"num_classes": 5, "T": 4, "in_chans": 1, "width": 0.1}
SMALL = {**TINY, "img_size": 16, "head_width": 16}
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "integrate-and-fire": ("snn_vgg5", SMALL),
    "leaky": ("snn_vgg5", {**SMALL, "decay": 0.7, "threshold": 0.4}),
    "normalised colours": ("snn_vgg5", {**SMALL, "in_chans": 3, "width": 0.2}),
    "sums after the neurons": ("snn_resnet20", {**TINY, "width": 0.5}),
    "a spiking head": ("snn_resnet19", TINY),
    "weighted sums before them": ("snn_wrn16", {**TINY, "width": 0.2, "threshold": 0.5}),
    "spiking shortcuts": (
        "snn_sew18",
        {**TINY, "width": 0.1, "stages": (64, 128), "blocks": (1, 1)},
    ),
    "a flat head": ("snn_vggsnn", {**TINY, "width": 0.2, "threshold": 0.3}),
}


def network(name: str, **kwargs: Any) -> nn.Module:
    """A network whose batch norms have seen some images."""
    torch.manual_seed(0)
    net = timm.create_model(name, **kwargs)
    side = kwargs.get("img_size", 32)
    with torch.no_grad():
        for _ in range(3):
            net(torch.rand(4, kwargs["in_chans"], side, side))
    return net.eval()


@pytest.mark.parametrize("row", WRITTEN)
def test_a_written_network_answers_the_same(row: str, tmp_path: Path) -> None:
    name, kwargs = WRITTEN[row]
    net = network(name, **kwargs)
    robust_snn.export.nir(Victim(net), tmp_path / "net.nir")
    side = kwargs.get("img_size", 32)
    x = torch.rand(4, kwargs["in_chans"], side, side)
    victim, ours = adapt(tmp_path / "net.nir"), Victim(net)
    expected = ours(x)
    assert expected.std() > 0.01
    torch.testing.assert_close(victim(x), expected, rtol=1e-5, atol=1e-5)
    gradients = []
    for one in (victim, ours):
        image = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(one(image).square().sum(), image)[0])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)
    neurons = [m for m in net.modules() if isinstance(m, robust_snn.neurons.LIF)]
    assert len(victim.takes("bptr").neurons) == len(neurons)


def test_another_library_reads_what_we_write() -> None:
    pytest.importorskip("spikingjelly", reason="needs spikingjelly")
    pytest.importorskip("nirtorch", reason="needs nirtorch")
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based.nir_exchange import from_nir

    net = network("snn_vgg5", **SMALL, decay=0.7, threshold=0.4)
    theirs = from_nir.import_from_nir(robust_snn.export.nir(net), dt=1e-4)
    functional.set_step_mode(theirs, "s")
    x, state, total = torch.rand(4, 1, 16, 16), None, 0
    with torch.no_grad():
        for _ in range(4):
            out, state = theirs(x, state)
            total = total + out
        torch.testing.assert_close(total / 4, net(x))


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "gates": ("snn_vgg5_stog", SMALL, "'stages.0.0.act.neuron' has a stochastic gate"),
    "membrane noise": ("snn_vgg5_nlif", SMALL, "'stages.0.0.act.neuron' is a NoisyLIF"),
    "factors per step": ("snn_vgg5_dlif", SMALL, "'stages.0.0.act.neuron' is a DLIF"),
    "random images": ("snn_vgg5_poisson", SMALL, "PoissonEncoding: NIR has no node"),
    "soft resets": ("snn_vgg5", {**SMALL, "reset": "soft"}, "soft reset"),
    "membrane readouts": ("snn_vgg5", {**SMALL, "readout": "membrane", "decay": 0.5}, "readout"),
    "an early exit": ("snn_vgg5", {**SMALL, "early_exit": "confidence"}, "build it without"),
    "integer spikes": ("snn_vgg5_ilif", SMALL, "'stages.0.0.act.neuron' is a IntegerLIF"),
    "attention": ("snn_spikformer", {**TINY, "width": 0.1}, "is a "),
    "maxima": ("snn_sew7b", {**TINY, "img_size": 8}, "is a TimeMaxPool2d"),
    "products of spikes": ("snn_sew7b", {**TINY, "img_size": 8, "connection": "and"}, "by and"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_nir_cannot_express_is_refused_by_name(row: str) -> None:
    name, kwargs, message = REFUSED[row]
    with pytest.raises(InputError, match=message):
        robust_snn.export.nir(timm.create_model(name, **kwargs).eval())


def test_only_our_networks_in_eval_mode_are_written() -> None:
    with pytest.raises(InputError, match=r"eval\(\) first"):
        robust_snn.export.nir(timm.create_model("snn_vgg5", **SMALL).train())
    with pytest.raises(InputError, match="got Linear"):
        robust_snn.export.nir(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, 0), ({"scheme": "euler", "dt": 1e-4}, 0), ({"dt": 1e-3}, 1), ({"scheme": "snntorch"}, 1)],
)
def test_another_scheme_than_the_file_notes_is_told(
    given: dict[str, Any], told: int, caplog: pytest.LogCaptureFixture
) -> None:
    adapt(robust_snn.export.nir(network("snn_vgg5", **SMALL)), **given)
    said = [line for line in caplog.messages if "notes that it was written for" in line]
    assert len(said) == told
