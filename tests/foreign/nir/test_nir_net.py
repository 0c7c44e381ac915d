"""NIR graphs compute what their equations say, in every gradient mode that has a rule for them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import assert_close_rms
from robust_snn import InputError, adapt, evaluate
from robust_snn.foreign.nir import nir_build, nir_neurons
from robust_snn.kernels import Surrogate
from robust_snn.neurons import LIF

nir = pytest.importorskip("nir", reason="needs the extra nir")

T, N, K, DT = 12, 6, 3, 1e-4
GENERATOR = np.random.default_rng(0)
ONE = np.ones(N)
WEIGHT = GENERATOR.normal(0, 0.8, (N, 4))
OUT = GENERATOR.normal(0, 0.8, (K, N))
BACK = GENERATOR.normal(0, 0.4, (N, N))
TAU, R = 5 * DT, 4.0
tensor = torch.from_numpy
IMAGES = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
MODES = ("bptt", "ste", "bptr", "rga", "hart", "pdsg", "assg", "activation(relu)")


def graph(*neurons: Any, loop: Any = None, shape: Any = (4,), first: Any = None) -> Any:
    """Input, weights, neurons, weights, output; `loop` leads from the first neurons to them."""
    nodes = {"input": nir.Input(np.array(shape)), "w": first or nir.Linear(WEIGHT)}
    nodes |= {f"n{i}": neuron for i, neuron in enumerate(neurons)}
    nodes |= {"out": nir.Linear(OUT), "output": nir.Output(np.array([K]))}
    names = list(nodes)
    edges = list(zip(names, names[1:], strict=False))
    if loop is not None:
        nodes["back"] = loop
        edges += [("n0", "back"), ("back", "n0")]
    return nir.NIRGraph(nodes, edges, type_check=False)


def lif(tau: Any = TAU, threshold: Any = 1.0, reset: float = 0.0, rest: float = 0.0) -> Any:
    return nir.LIF(tau * ONE, R * ONE, rest * ONE, threshold * ONE, reset * ONE)


def by_hand(
    current: Tensor,
    leak: Any = DT / TAU,
    gain: Any = DT / TAU * R,
    threshold: Any = 1.0,
    reset: float = 0.0,
    rest: float = 0.0,
    back: Callable[[Tensor], Tensor] = lambda spikes: 0 * spikes,
) -> Tensor:
    v, s, spikes = torch.full((1, N), rest).double(), torch.zeros(1, N).double(), []
    for step in current:
        v = v + leak * (rest - v) + gain * (step + back(s))
        s = (v > threshold).double()
        v = torch.where(s > 0, reset, v)
        spikes.append(s)
    return torch.stack(spikes)


def filtered(current: Tensor, tau: float, factor: float = 1.0) -> Tensor:
    v, out = 0.0, []
    for step in current:
        v = v + DT / tau * (factor * step - v)
        out.append(v)
    return torch.stack(out)


UNEQUAL = np.linspace(2, 8, N) * DT
SPREAD = np.linspace(0.5, 1.5, N)
ROWS: dict[str, tuple[Callable[[], Any], Callable[[Tensor], Tensor], int]] = {
    # a graph, what it computes from the currents, its layers on the fused kernels
    "lif": (lambda: graph(lif()), by_hand, 1),
    "lif, v_reset": (lambda: graph(lif(reset=-0.2)), lambda c: by_hand(c, reset=-0.2), 0),
    "lif, v_leak": (
        lambda: graph(lif(rest=0.2, reset=0.2)),
        lambda c: by_hand(c, rest=0.2, reset=0.2),
        1,
    ),
    "lif, unequal": (
        lambda: graph(lif(UNEQUAL, SPREAD)),
        lambda c: by_hand(c, DT / tensor(UNEQUAL), DT / tensor(UNEQUAL) * R, tensor(SPREAD)),
        0,
    ),
    "if": (
        lambda: graph(nir.IF(ONE / DT, 2 * ONE)),
        lambda c: by_hand(c, 0.0, 1.0, 2.0),
        1,
    ),
    "cuba": (
        lambda: graph(nir.CubaLIF(3 * DT * ONE, TAU * ONE, R * ONE, 0 * ONE, ONE, w_in=3.0)),
        lambda c: by_hand(filtered(c, 3 * DT, 3.0)),
        1,
    ),
    "li after lif": (
        lambda: graph(lif(), nir.LI(TAU * ONE, 2 * ONE, 0 * ONE)),
        lambda c: filtered(by_hand(c), TAU, 2.0),
        1,
    ),
    "i": (lambda: graph(nir.I(ONE / DT)), lambda c: c.cumsum(0), 0),
    "threshold": (lambda: graph(nir.Threshold(0.3 * ONE)), lambda c: (c > 0.3).double(), 0),
    "scale": (
        lambda: graph(nir.Scale(SPREAD), lif()),
        lambda c: by_hand(c * tensor(SPREAD)),
        1,
    ),
    "loop": (
        lambda: graph(lif(), loop=nir.Affine(BACK, 0.1 * ONE)),
        lambda c: by_hand(c, back=lambda s: s @ tensor(BACK).T + 0.1),
        0,
    ),
    "loop inside": (
        lambda: graph(
            nir.NIRGraph(
                {"a": nir.Input([N]), "l": lif(), "w": nir.Linear(BACK), "z": nir.Output([N])},
                [("a", "l"), ("l", "w"), ("w", "l"), ("l", "z")],
            )
        ),
        lambda c: by_hand(c, back=lambda s: s @ tensor(BACK).T),
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_graph_computes_its_equations(name: str, tmp_path: Path) -> None:
    build, spikes, fused = ROWS[name]
    nir.write(tmp_path / "net.nir", build())
    victim = adapt(tmp_path / "net.nir", T=T, scheme="euler", dt=DT)
    current = (IMAGES.flatten(1).double() @ tensor(WEIGHT).T).expand(T, -1, -1)
    expected = (spikes(current) @ tensor(OUT).T).mean(0)
    assert expected.abs().max() > 0
    torch.testing.assert_close(victim(IMAGES), expected.float(), rtol=1e-5, atol=1e-6)
    assert sum(isinstance(m, LIF) for m in victim.modules()) == fused


def layers() -> dict[str, tuple[Any, tuple[int, ...], Callable[[Tensor], Tensor]]]:
    F = torch.nn.functional
    kernel, bias = GENERATOR.normal(size=(2, 1, 3, 3)), GENERATOR.normal(size=2)
    line = GENERATOR.normal(size=(2, 1, 3))
    k, b, li = (tensor(a).float() for a in (kernel, bias, line))
    pool = [np.array([2, 2]), np.array([2, 2]), np.array([1, 1])]
    return {
        "conv2d": (
            nir.Conv2d((6, 6), kernel, (2, 1), "valid", 1, 1, bias), (1, 6, 6),
            lambda x: F.conv2d(x, k, b, (2, 1)),
        ),
        "conv1d": (
            nir.Conv1d(36, line, 1, 1, 1, 1, bias), (1, 36),
            lambda x: F.conv1d(x.flatten(2), li, b, padding=1),
        ),
        "sum pool": (nir.SumPool2d(*pool), (1, 6, 6), lambda x: 4 * F.avg_pool2d(x, 2, 2, 1)),
        "mean pool": (nir.AvgPool2d(*pool), (1, 6, 6), lambda x: F.avg_pool2d(x, 2, 2, 1)),
        "flatten": (nir.Flatten({"input": np.array([1, 6, 6])}, 1, 2), (1, 6, 6), lambda x: x),
        "batch counted in": (
            nir.Conv2d((6, 6), kernel, 1, 0, 1, 1, bias), (7, 1, 6, 6), lambda x: F.conv2d(x, k, b),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", layers())
def test_layers_without_a_state(name: str) -> None:
    node, shape, by_hand = layers()[name]
    nodes = {"in": nir.Input(np.array(shape)), "layer": node, "out": nir.Output(None)}
    built = nir.NIRGraph(nodes, [("in", "layer"), ("layer", "out")], type_check=False)
    x = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(adapt(built, T=2, dt=DT)(x), by_hand(x).flatten(1))


@pytest.mark.parametrize("mode", MODES)
def test_stepped_neurons_have_the_gradients_of_the_fused_kernels(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradient() -> Tensor:
        victim = adapt(graph(lif()), T=T, scheme="euler", dt=DT, gradient=mode)
        x = IMAGES.clone().requires_grad_()
        return torch.autograd.grad(victim(x).square().sum(), x)[0]

    fused = gradient()
    monkeypatch.setattr(nir_build, "fused", lambda membrane: None)
    assert fused.abs().max() > 0
    assert_close_rms(gradient(), fused)


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_without_a_rule_for_a_loop_is_refused_before_and_in_a_pass(mode: str) -> None:
    victim = adapt(graph(lif(), loop=nir.Linear(BACK)), T=T, scheme="euler", dt=DT, gradient=mode)
    x = IMAGES.clone().requires_grad_()
    reach = victim.takes(mode)
    if mode in ("bptt", "ste", "pdsg", "assg"):
        assert reach.neurons == ("n0",) and reach.refusal is None
        assert torch.autograd.grad(victim(x).sum(), x)[0].abs().max() > 0
    else:
        assert reach.refusal is not None and "'n0'" in reach.refusal
        with pytest.raises(InputError, match="n0"):
            victim(x)


def test_surrogates_of_several_spikes_stand_at_every_threshold() -> None:
    z = torch.tensor([-0.5, 0.2, 1.1, 2.6], requires_grad=True)
    threshold, count = torch.tensor(1.0), torch.tensor([0.0, 1, 2, 3])
    surrogate = Surrogate("triangle", 1.0)
    fired = nir_neurons._Fire.apply(z, count, threshold, surrogate, 1.0)
    (slope,) = torch.autograd.grad(fired.sum(), z)
    levels = torch.arange(4).view(-1, 1)
    torch.testing.assert_close(slope, (1 - (z.detach() - levels).abs()).clamp(min=0).sum(0))


def test_readouts_event_frames_and_encoders() -> None:
    built = graph(lif(), nir.LI(TAU * ONE, ONE, 0 * ONE))
    frames = torch.rand(2, T, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    each = [adapt(built, dt=DT, readout=r)(frames) for r in ("mean", "sum", "last")]
    torch.testing.assert_close(T * each[0], each[1])
    assert not torch.equal(each[1], each[2])
    coded = adapt(built, dt=DT, T=T, encoder="poisson", seed=1)
    assert coded.stochastic and not torch.equal(coded(IMAGES), coded(IMAGES))
    with pytest.raises(InputError, match="number of time steps"):
        adapt(built, dt=DT)(IMAGES)
    with pytest.raises(InputError, match="12 steps"):
        adapt(built, dt=DT, T=3)(frames)
    with pytest.raises(InputError, match=r"shape \[4\]"):
        adapt(built, dt=DT, T=3)(torch.rand(2, 1, 3, 3))


def test_a_victim_of_a_graph_is_copied_pickled_prepared_and_judged(tmp_path: Path) -> None:
    victim = adapt(graph(lif()), T=T, dt=DT, mean=0.5, std=0.25)
    expected = victim(IMAGES)
    for other in (copy.deepcopy(victim), pickle.loads(pickle.dumps(victim))):
        assert torch.equal(other(IMAGES), expected)
    labels = expected.argmax(1)
    verdict = evaluate(victim, IMAGES, labels, suite="quick", out=tmp_path / "run", eps=0.1)
    assert verdict.to_dict()["clean"]["accuracy"] == 1.0
