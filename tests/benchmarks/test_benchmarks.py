"""The benchmark refuses what is wrong, compares like with like, and says what it measured."""

from __future__ import annotations

import csv

import pytest
import torch

from helpers import assert_close_rms
from robust_snn import InputError, Victim, adapt
from robust_snn.benchmarks import (
    foreign_step_speed,
    host_speed,
    layer_speed,
    run_part,
    sparse_choice_speed,
    timing,
)
from robust_snn.benchmarks.published_network import (
    as_published,
    convolutions_alone,
    network_with_rates,
)
from robust_snn.cli import main
from robust_snn.neurons import LIF


def test_rounds_are_interleaved_and_compared_within_a_round():
    order, ticks = [], iter(range(100))
    work = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = timing.interleave(work, 2, lambda: next(ticks))
    assert order == ["a", "b"] * 3
    assert times == {"a": [1000, 1000], "b": [1000, 1000]}
    found = timing.ratio([10.0, 30.0, 20.0], [10.0, 10.0, 10.0])
    assert found == {"ratio": 2.0, "low": 1.0, "high": 3.0}


@pytest.mark.parametrize(
    "layer, why",
    [
        (layer_speed._ours(), ""),
        (layer_speed._ours("bptr"), "gradients differ"),
        (lambda x: 1 - layer_speed.plain_loop(x), "spikes differ"),
    ],
)
def test_a_wrong_layer_is_not_timed(layer, why):
    current = torch.randn(4, 2, 30, requires_grad=True)
    found = layer_speed.layer_refusal("ours bptt", layer, current, torch.randn(4, 2, 30))
    assert why in found
    assert bool(found) == bool(why)


def test_our_network_is_the_published_one():
    net = network_with_rates(3, width=0.25, batch=4)
    rates = []
    for module in net.modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda *call: rates.append(float(call[-1].mean())))
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        net(x)
    assert 0.15 < rates[0] < 0.35
    assert 0.04 < rates[-1] < 0.16
    logits = as_published(net, 3)(x)
    with torch.no_grad():
        assert_close_rms(Victim(net).sample(x, torch.arange(4)), logits.detach())
    gated = as_published(network_with_rates(2, gated=True, width=0.1, batch=2), 2)
    assert not torch.equal(gated(x), gated(x))


def test_every_mode_reaches_the_network_of_somebody():
    net, x = foreign_step_speed.their_network(3, batch=4, channels=8)
    victim = adapt(net, images=x)
    assert len(victim.net.neurons) == 3
    for mode in foreign_step_speed.MODES:
        assert victim.takes(mode).refusal is None


def test_convolutions_alone_are_all_of_them():
    net = as_published(network_with_rates(2, width=0.1, batch=2), 2)
    x = torch.rand(2, 3, 32, 32)
    found = convolutions_alone(net, x)["convolutions, forward"]()
    assert len(found) == sum(isinstance(m, torch.nn.Conv2d) for m in net.modules())


def test_every_layer_that_reads_spikes_is_timed_both_ways(monkeypatch):
    net = network_with_rates(2, width=0.1, batch=2)
    monkeypatch.setattr(sparse_choice_speed, "_networks", lambda: {"small": (net, (3, 32, 32))})
    table = sparse_choice_speed.measure_sparse_choices(1, "wall")
    layers = sum(isinstance(m, torch.nn.Conv2d) for m in net.modules())
    assert len(table) == layers - 1  # the first reads an image
    for row in table:
        assert 0 < row["spikes"] < 1
        assert row["auto_by_better"] > 0


def test_results_say_where_they_come_from(tmp_path, monkeypatch):
    found = timing.records(
        {"shape": "s"}, {"a": [2.0, 2.0], "b": [1.0, 1.0]}, "a", {"c": "differs"}
    )
    monkeypatch.setitem(run_part.__globals__["PARTS"], "layers", (lambda rounds, clock: found, 1))
    monkeypatch.setattr(host_speed, "COPIED", 1 << 16)
    monkeypatch.setattr(host_speed, "IMAGES", 1)
    run_part("layers", tmp_path)
    with open(tmp_path / "layers.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["ratio"] for row in table] == ["1.0", "2.0", ""]
    assert table[2]["refused"] == "differs"
    assert table[0]["commit"] and table[0]["torch"] and table[0]["threads"] and table[0]["vectors"]
    assert float(table[0]["copy_gb_s"]) > 0 and float(table[0]["dense_gflop_s"]) >= 0
    assert (tmp_path / "layers.png").stat().st_size > 0
    with pytest.raises(InputError, match="did you mean 'layers'"):
        run_part("layer", tmp_path)


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "name a part"),
        (["--kernels"], "--kernels and --static go together"),
        (["layers", "--rounds", "0"], "at least 1"),
        (["layers", "--clock", "cqu"], "did you mean 'cpu'"),
        (["layrs"], "did you mean 'layers'"),
    ],
)
def test_wrong_words_are_named(words, message, capsys):
    with pytest.raises(SystemExit) as leave:
        main(["benchmark", *words])
    assert leave.value.code == 2
    assert message in capsys.readouterr().err
