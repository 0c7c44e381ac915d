"""Libraries of which only the states are known by name: norse, sinabs, BrainCog and lava-dl."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robust_snn import Victim, adapt
from robust_snn.foreign import braincog, lava, library, sinabs

T, K = 6, 3
IMAGES = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Looping(nn.Module):
    """Runs a net for `T` steps, passes its state on, and averages."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for _ in range(T):
            out, state = self.net(x, state)
            outputs.append(out)
        return torch.stack(outputs).mean(0)


def norse() -> nn.Module:
    nt = pytest.importorskip("norse", reason="needs norse").torch
    neuron = nt.LIFBoxCell(nt.LIFBoxParameters(torch.tensor(300.0), v_th=torch.tensor(0.3)))
    return nt.SequentialState(nn.Flatten(), nn.Linear(16, 8), neuron, nn.Linear(8, K))


def sinabs_net() -> nn.Module:
    layers = pytest.importorskip("sinabs", reason="needs sinabs").layers
    neuron = layers.IAFSqueeze(num_timesteps=T, spike_threshold=torch.tensor(0.3))
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), neuron, nn.Linear(8, K))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> Tensor:
            frames = x.unsqueeze(1).expand(len(x), T, *x.shape[1:]).flatten(0, 1)
            return self.body(frames).unflatten(0, (len(x), T)).mean(1)

    return Net()


def braincog_net() -> nn.Module:
    node = pytest.importorskip("braincog.base.node.node", reason="needs BrainCog")
    base = pytest.importorskip("braincog.model_zoo.base_module")

    class Net(base.BaseModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__(T, "direct")
            self.first, self.node = nn.Linear(16, 8), node.LIFNode(threshold=0.2, step=T)
            self.last = nn.Linear(8, K)

        def forward(self, x: Tensor) -> Tensor:
            frames = self.encoder(x)
            self.reset()
            return sum(self.last(self.node(self.first(f.flatten(1)))) for f in frames) / T

    return Net()


def lava_net() -> nn.Module:
    slayer = pytest.importorskip("lava.lib.dl.slayer", reason="needs lava-dl")
    neuron = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.03}
    blocks = [slayer.block.cuba.Dense(neuron, *n, weight_scale=2) for n in ((16, 8), (8, K))]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(*blocks)

        def forward(self, x: Tensor) -> Tensor:
            return self.blocks(x.flatten(1).unsqueeze(-1).expand(-1, -1, 2 * T)).mean(-1)

    return Net()


NETS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], Callable[[nn.Module], nn.Module]]]
NETS = {  # a net, how it is adapted, and what runs it without us
    "norse": (norse, {"T": T}, Looping),
    "sinabs": (sinabs_net, {}, lambda net: net),
    "BrainCog": (braincog_net, {}, lambda net: net),
    "lava-dl": (lava_net, {}, lambda net: net),
}


@pytest.mark.parametrize("name", NETS)
def test_nets_are_run_as_their_authors_mean_it(name: str) -> None:
    build, arguments, run = NETS[name]
    torch.manual_seed(2)
    net = build().eval()
    for module in net.modules():
        if isinstance(module, nn.Linear):
            module.weight.data.mul_(2)
    with torch.no_grad():
        expected = run(net)(IMAGES)
    victim = adapt(net, images=IMAGES, **arguments)
    before = torch.random.get_rng_state()
    for images in (IMAGES, IMAGES[:2], IMAGES):  # whatever batch came before
        torch.testing.assert_close(victim(images), expected[: len(images)], rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.random.get_rng_state(), before)
    gradients = [_gradient(victim.replace(gradient=mode)) for mode in ("own", "bptt")]
    assert gradients[1].abs().max() > 0
    assert not torch.equal(*gradients)


def _gradient(victim: Victim) -> Tensor:
    x = IMAGES.clone().requires_grad_()
    return torch.autograd.grad(victim(x).square().sum(), x)[0]


class Encoder(nn.Module):
    """Encodes as BrainCog's does."""

    def __init__(self, encode_type: str) -> None:
        super().__init__()
        self.encode_type, self.step, self.temporal_flatten = encode_type, T, False
        self.fun = self.direct

    @torch.no_grad()
    def direct(self, x: Tensor) -> Tensor:
        return x.unsqueeze(0).repeat(self.step, 1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fun(x)


def test_braincogs_direct_encoding_gets_a_gradient_and_no_other_is_touched() -> None:
    x = IMAGES.clone().requires_grad_()
    encoder = Encoder("direct")
    plain = encoder(x)
    with braincog.on_torch(encoder):
        repaired = encoder(x)
    assert torch.equal(repaired, plain)
    assert repaired.requires_grad and not plain.requires_grad and not encoder(x).requires_grad
    with braincog.on_torch(other := Encoder("rate")):
        assert not other(x).requires_grad


class Buffered(nn.Module):
    """Keeps its state as sinabs' layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("v_mem", torch.zeros(0))

    def init_state_with_shape(self, shape: tuple[int, ...]) -> None:
        self.register_buffer("v_mem", torch.zeros(shape))

    def is_state_initialised(self) -> bool:
        return self.v_mem.numel() > 0

    def reset_states(self) -> None:
        self.v_mem.zero_()


def test_buffers_of_sinabs_are_empty_after_a_reset() -> None:
    layer = Buffered()
    assert sinabs.holds(layer) and not sinabs.holds(nn.Linear(1, 1))
    layer.init_state_with_shape((2, 3))
    sinabs.reset(layer)
    assert layer.v_mem.shape == (0,)


class Step(nn.Module):
    """Hands its state back."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = x.flatten(1) if state is None else state + x.flatten(1)
        spikes = _Step.apply(total - 1.2)
        return spikes[:, :K], total * (1 - spikes)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z >= 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream / (1 + ctx.saved_tensors[0].abs()) ** 2


def test_a_net_that_hands_its_state_back_gets_it_again() -> None:
    net = Step()
    expected = Looping(net)(IMAGES)
    assert expected.unique().numel() > 2
    victim = adapt(net, T=T, images=IMAGES)
    for _ in range(2):
        torch.testing.assert_close(victim(IMAGES), expected)
    assert victim.takes("bptt").neurons
    assert not library.find_states(Step())


def test_lava_modules_are_told_by_their_package_and_keep_what_they_did_not_ask_for() -> None:
    Named = type("Named", (nn.Module,), {"__module__": "lava.lib.dl.slayer.neuron.cuba"})
    neuron = Named()
    neuron.register_buffer("voltage_state", torch.ones(2))
    assert lava.holds(neuron) and not lava.holds(nn.Linear(1, 1))
    lava.reset(neuron)
    assert neuron.voltage_state.all()
    neuron.persistent_state = True
    lava.reset(neuron)
    assert not neuron.voltage_state.any()
