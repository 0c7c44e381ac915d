"""Networks of other libraries, through the NIR files that these write: equal logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import adapt

nir = pytest.importorskip("nir", reason="needs the extra nir")
pytest.importorskip("nirtorch", reason="needs nirtorch, with which libraries write NIR files")

T, N, K = 16, 20, 5
FLAT, IMAGES = ((8, *shape) for shape in ((36,), (1, 6, 6)))
Written = tuple[Tensor, Any]  # outputs [T, B, K] of the library, and its graph


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def stepped(net: nn.Module, x: Tensor) -> Tensor:
    """Outputs `[T, B, K]` of a net that takes single steps and keeps its state."""
    outputs = [net(x) for _ in range(T)]
    return torch.stack([out[0] if isinstance(out, tuple) else out for out in outputs])


def louder(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.mul_(2)
    return net


def snntorch(hidden: Callable[[Any, dict[str, Any]], nn.Module], reset: str) -> Written:
    snn = pytest.importorskip("snntorch", reason="needs snntorch")
    from snntorch.export_nir import export_to_nir

    settings = {"init_hidden": True, "reset_mechanism": reset}
    last = snn.Leaky(torch.full((K,), 0.8), threshold=torch.full((K,), 0.5), **settings)
    net = louder(nn.Sequential(nn.Linear(36, N), hidden(snn, settings), nn.Linear(N, K), last))
    out = stepped(net, images(*FLAT))
    return out, export_to_nir(net, images(1, 36), ignore_dims=[0])


def full(value: float) -> Tensor:
    return torch.full((N,), value)


SNNTORCH: dict[str, Callable[[Any, dict[str, Any]], nn.Module]] = {
    "Leaky": lambda snn, s: snn.Leaky(full(0.9), threshold=full(1.0), **s),
    "Leaky, unequal": lambda snn, s: snn.Leaky(
        torch.linspace(0, 1, N), threshold=torch.linspace(0.3, 1, N), **s
    ),
    "Synaptic": lambda snn, s: snn.Synaptic(full(0.6), full(0.8), threshold=full(1.0), **s),
    "RLeaky": lambda snn, s: snn.RLeaky(0.9, linear_features=N, **s),
    "RLeaky, one to one": lambda snn, s: snn.RLeaky(
        0.9, V=torch.linspace(-1, 1, N), all_to_all=False, **s
    ),
    "RSynaptic": lambda snn, s: snn.RSynaptic(0.6, 0.7, linear_features=N, **s),
}


def snntorch_convolutions() -> Written:
    snn = pytest.importorskip("snntorch", reason="needs snntorch")
    from snntorch.export_nir import export_to_nir

    hidden = snn.Leaky(torch.full((4, 6, 6), 0.9), threshold=torch.ones(4, 6, 6), init_hidden=True)
    last = snn.Leaky(torch.full((K,), 0.8), threshold=torch.ones(K), init_hidden=True)
    first = [nn.Conv2d(1, 4, 3, padding=1, bias=False), hidden, nn.AvgPool2d(2), nn.Flatten()]
    net = louder(nn.Sequential(*first, nn.Linear(36, K), last))
    out = stepped(net, images(*IMAGES))
    return out, export_to_nir(net, images(1, 1, 6, 6), ignore_dims=[0])


def spikingjelly() -> Written:
    pytest.importorskip("spikingjelly", reason="needs spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import to_nir

    first = [layer.Conv2d(1, 4, 3, padding=1), neuron.IFNode(v_threshold=0.5)]
    middle = [layer.AvgPool2d(2, 2), layer.Flatten(), layer.Linear(36, N)]
    last = [layer.Linear(N, K), neuron.LIFNode(tau=1.5, decay_input=False, v_threshold=0.5)]
    net = nn.Sequential(*first, *middle, neuron.LIFNode(v_reset=0.1, v_threshold=0.4), *last)
    out = stepped(louder(net), images(*IMAGES))
    functional.reset_net(net)
    return out, to_nir.export_to_nir(net, images(1, 1, 6, 6))


def norse() -> Written:
    nt = pytest.importorskip("norse", reason="needs norse").torch

    def box(n: int) -> Any:
        v_th, v_leak = torch.full((n,), 0.3), torch.full((n,), 0.05)
        return nt.LIFBoxParameters(torch.full((n,), 200.0), v_leak, v_th)

    zeros, slow = torch.zeros(N), torch.full((N,), 100.0)
    cuba = nt.LIFParameters(2 * slow, slow, zeros, zeros + 0.2, zeros)
    iaf = nt.IAFCell(nt.IAFParameters(zeros + 0.5, zeros))
    first = [nn.Linear(36, N), nt.LIFBoxCell(box(N)), nn.Linear(N, N), nt.LIFCell(cuba)]
    middle = [nn.Linear(N, N), iaf]
    readout = nt.LIBoxCell(nt.LIBoxParameters(torch.full((K,), 100.0), torch.zeros(K)))
    net = nt.SequentialState(*first, *middle, nn.Linear(N, K), readout)
    louder(net)
    state, outputs = None, []
    for _ in range(T):
        out, state = net(images(*FLAT), state)
        outputs.append(out)
    return torch.stack(outputs), nt.to_nir(net, images(1, 36))


def sinabs(spikes: str, reset: str) -> Written:
    pytest.importorskip("sinabs", reason="needs sinabs, which pins an old nir")
    import sinabs.layers as sl
    from sinabs import activation, reset_states
    from sinabs.nir import to_nir

    fire = {"multi": activation.MultiSpike, "single": activation.SingleSpike}[spikes]
    back = {"subtract": activation.MembraneSubtract, "zero": activation.MembraneReset}[reset]
    settings = {"batch_size": 8, "spike_fn": fire, "reset_fn": back()}
    whole = sl.IAFSqueeze(spike_threshold=torch.tensor(0.4), **settings)
    leaky = sl.LIFSqueeze(tau_mem=full(10.0), spike_threshold=full(0.1), **settings)
    readout = sl.ExpLeakSqueeze(tau_mem=torch.full((K,), 20.0), batch_size=8)
    net = nn.Sequential(nn.Linear(36, N), whole, nn.Linear(N, N), leaky, nn.Linear(N, K), readout)
    frames = images(*FLAT).unsqueeze(1).expand(8, T, 36).reshape(8 * T, 36)
    out = net(frames).unflatten(0, (8, T)).transpose(0, 1)
    reset_states(net)
    return out, to_nir(net, frames)


ROWS: dict[str, tuple[Callable[[], Written], str]] = {
    f"snnTorch {name} {reset}": (
        lambda name=name, reset=reset: snntorch(SNNTORCH[name], reset),
        f"snntorch(reset={reset})",
    )
    for name in SNNTORCH
    for reset in ("subtract", "zero", "none")
}
ROWS |= {
    f"sinabs {spikes} {reset}": (
        lambda spikes=spikes, reset=reset: sinabs(spikes, reset),
        f"sinabs(spikes={spikes},reset={reset})",
    )
    for spikes in ("multi", "single")
    for reset in ("subtract", "zero")
}
ROWS |= {
    "snnTorch convolutions": (snntorch_convolutions, "snntorch"),
    "SpikingJelly": (spikingjelly, "spikingjelly"),
    "norse": (norse, "norse"),
}


@pytest.mark.parametrize("name", ROWS)
@torch.no_grad()
def test_logits_are_those_of_the_library(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    write, scheme = ROWS[name]
    outputs, graph = write()
    nir.write(tmp_path / "net.nir", graph)
    x = images(*IMAGES)
    for readout, expected in (("mean", outputs.mean(0)), ("last", outputs[-1])):
        victim = adapt(tmp_path / "net.nir", T=T, scheme=scheme, readout=readout)
        torch.testing.assert_close(victim(x), expected, rtol=1e-5, atol=2e-6)
    assert outputs.abs().sum((0, 2)).min() > 0
