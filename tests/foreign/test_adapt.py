"""One `adapt`: raw nets of other libraries are adapted everywhere, or refused with the way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import robust_snn
from robust_snn import InputError, Victim, adapt, evaluate
from robust_snn.adapters.autoattack import AutoAttack
from robust_snn.eval import AttackSpec, Draws, Suite, sweep

T, CLASSES = 4, 3
PGD = AttackSpec("pgd", "robust_snn", "pgd", gradient="bptt", steps=2)
SETTINGS: dict[str, Any] = {"suite": Suite("tiny", (PGD,), draws=Draws(2, 2), eps=0.05)}
IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def jelly(step_mode: str = "m") -> nn.Module:
    """A net of SpikingJelly; in mode "m" it presents images for `T` steps by itself."""
    pytest.importorskip("spikingjelly", reason="needs spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    torch.manual_seed(0)
    body = nn.Sequential(layer.Flatten(), layer.Linear(16, CLASSES), neuron.IFNode())
    functional.set_step_mode(body, step_mode)

    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.expand(T, *x.shape)).mean(0)

    return (body if step_mode == "s" else Repeated()).eval()


def torch_snn(steps: int = T, init_hidden: bool = True) -> nn.Module:
    """A net of snnTorch that runs its steps itself; only its caller resets `init_hidden`."""
    snntorch = pytest.importorskip("snntorch", reason="needs snntorch")
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, CLASSES)
            self.neuron = snntorch.Leaky(beta=0.9, init_hidden=init_hidden)

        def forward(self, x: Tensor) -> Tensor:
            if init_hidden:
                return sum(self.neuron(self.linear(x.flatten(1))) for _ in range(steps)) / steps
            membrane, total = self.neuron.reset_mem(), 0
            for _ in range(steps):
                spikes, membrane = self.neuron(self.linear(x.flatten(1)), membrane)
                total = total + spikes
            return total / steps

    return Net().eval()


NETS = {
    "spikingjelly": jelly,
    "snntorch": torch_snn,
    "snntorch, passed by hand": lambda: torch_snn(init_hidden=False),
}
ONE_STEP = {"spikingjelly": lambda: jelly("s"), "snntorch": lambda: torch_snn(1)}


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest) -> nn.Module:
    return NETS[request.param]()


def labels(victim: Victim) -> Tensor:
    """What the network answers, so that its clean accuracy is 1."""
    return victim.sample(IMAGES, torch.arange(len(IMAGES))).argmax(1)


def test_evaluate_adapts_a_raw_net(net: nn.Module, tmp_path: Path) -> None:
    y = labels(adapt(net))
    adapted = evaluate(adapt(net), IMAGES, y, out=tmp_path / "adapted", **SETTINGS).to_dict()
    net(IMAGES)  # leaves a state behind
    raw = evaluate(net, IMAGES, y, out=tmp_path / "raw", **SETTINGS).to_dict()
    assert adapted["clean"]["accuracy"] == 1
    for verdict in (adapted, raw):
        verdict.pop("seconds")
        for row in verdict["attacks"]:
            row.pop("seconds")
    assert raw == adapted


def test_sweep_and_autoattack_adapt_a_raw_net(net: nn.Module, tmp_path: Path) -> None:
    y = labels(adapt(net))
    verdicts = []
    for name, subject in (("adapted", adapt(net)), ("raw", net)):
        net(IMAGES)
        verdict, _ = sweep(subject, IMAGES, y, out=tmp_path / name, **SETTINGS)
        verdicts.append((asdict(verdict.clean), asdict(verdict.robust)))
    assert verdicts[0] == verdicts[1]
    first, second = AutoAttack(net, eps=0.1).victim, adapt(net)
    net(IMAGES)
    assert torch.equal(first(IMAGES), second(IMAGES))
    assert torch.equal(first(IMAGES), second(IMAGES))


def test_a_victim_refuses_a_raw_net(net: nn.Module) -> None:
    for raw in (net, nn.Sequential(nn.Identity(), net)):
        with pytest.raises(InputError, match=r"use robust_snn\.adapt\(net, T=\.\.\.\) instead"):
            Victim(raw)
    victim = adapt(net)
    assert isinstance(victim.replace(gradient="ste"), Victim)
    assert isinstance(Victim(nn.Sequential(victim.net)), Victim)


@pytest.mark.parametrize("build", ONE_STEP.values(), ids=ONE_STEP)
def test_a_net_of_one_time_step_is_told_to_say_how_many(
    build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    net, y = build(), torch.zeros(len(IMAGES), dtype=torch.long)
    with pytest.raises(InputError, match=r"say robust_snn\.adapt\(net, T=\.\.\.\)"):
        evaluate(net, IMAGES, y, out=tmp_path / "run", **SETTINGS)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"say robust_snn\.adapt\(net, T=\.\.\.\)"):
        adapt(net, gradient="own")(IMAGES)
    assert adapt(net, T=1)(IMAGES).shape == (len(IMAGES), CLASSES)


def test_what_is_adapted_stays_adapted(net: nn.Module) -> None:
    victim = adapt(net, gradient="ste", seed=3)
    assert adapt(victim) is victim
    assert adapt(victim, eot=2).gradient == victim.gradient
    assert adapt(victim.net).gradient == victim.net.own_mode()
    for subject in (victim, victim.net):
        with pytest.raises(InputError, match="settled when a net is first adapted"):
            adapt(subject, T=3)


def test_a_name_takes_the_arguments_of_its_model() -> None:
    small: dict[str, Any] = {"width": 0.125, "head_width": 8, "img_size": 8, "T": 2}
    net = adapt("snn_vgg5", readout="membrane", decay=0.5, **small).net
    assert net.pre_logits.readout.decay == 0.5
    with pytest.raises(InputError, match="encoder is for other people's nets, not for 'snn_vgg5'"):
        adapt("snn_vgg5", encoder="poisson")


@pytest.mark.parametrize(("given", "told"), [(False, 1), (True, 0), (None, 0)])
def test_a_name_of_weights_has_them_or_says_so(
    given: bool | None, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    found = adapt("snn_vgg5.digits", **({} if given is None else {"pretrained": given})).net
    trained = timm.create_model("snn_vgg5.digits", pretrained=True).get_classifier().weight
    assert torch.equal(found.get_classifier().weight, trained) == (not told)
    assert len([r for r in caplog.messages if "pretrained=True" in r]) == told


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("given", [{"T": 4}, {"encoder": "poisson", "T": 4}, {"readout": "sum"}])
def test_steps_of_our_networks_are_their_own(given: dict[str, Any], wrapped: bool) -> None:
    """They keep no state between calls: shown an image `T` times, they would answer as for one."""
    net: nn.Module = timm.create_model("snn_vgg5", T=2, width=0.125, head_width=8, img_size=8)
    with pytest.raises(InputError, match="build it with them.*--model-kwargs T=8"):
        adapt(nn.Sequential(nn.Identity(), net) if wrapped else net, **given)


def test_there_is_one_adapt() -> None:
    assert robust_snn.adapt is robust_snn.foreign.adapt
    assert not hasattr(robust_snn.victim, "adapt")
