"""Repeated trials, the page of pictures, and the command that makes it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers import assert_close_rms
from robust_snn import InputError, Victim
from robust_snn.cli import _run
from robust_snn.metrics import Trials, correlation, fano_factor, jpsth, jpsth_of_pairs, repeat
from robust_snn.metrics.neural_code_page import draw_page
from zoo import awake, narrow


def net_of(name: str) -> Victim:
    x = torch.rand(8, 4, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    return Victim(awake(narrow(name, "fresh", in_chans=2), x))


def frames(count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(count, 4, 2, 16, 16, generator=generator) < 0.3).float()


def test_trials_differ_and_come_again() -> None:
    victim, x = net_of("snn_vggsnn_nlif"), frames()
    trials = repeat(victim, x, 6)
    assert trials.spikes.shape[:3] == (6, 4, 5) and trials.spikes.dtype == torch.uint8
    assert trials.spikes.shape[3] == torch.Size(trials.shape).numel()
    assert trials.layer == "stages.3.2.act.neuron"
    assert_close_rms(trials.predictions.sum(-1), torch.ones(6, 5))
    assert (trials.spikes[0] != trials.spikes[1]).any()
    again = repeat(victim, x, 6, batch_size=2)
    assert torch.equal(again.spikes, trials.spikes)
    first = repeat(victim, x, 3, "stages.0.0.act.neuron")
    assert first.shape == (4, 16, 16)
    expected = fano_factor(trials.spikes.sum(1).float())
    assert torch.equal(trials.fano.isnan(), expected.isnan())
    assert_close_rms(trials.fano.nan_to_num(), expected.nan_to_num())
    assert trials.similarity.shape == (5,) and (trials.similarity <= 1 + 1e-5).all()
    chosen = trials.liveliest(0, 3)
    assert len(chosen) <= 3 and (chosen.diff() > 0).all()


def test_wrong_trials_are_refused() -> None:
    with pytest.raises(InputError, match="are all alike"):
        repeat(net_of("snn_vggsnn"), frames())
    victim = net_of("snn_vggsnn_nlif")
    with pytest.raises(InputError, match="at least 2 trials, got 1"):
        repeat(victim, frames(), 1)
    with pytest.raises(InputError, match="unknown spiking layer 'stages.9'"):
        repeat(victim, frames(), 2, "stages.9")
    for wrong in (2 * frames(), frames() * torch.nan, frames().to(torch.uint8), frames(0)):
        with pytest.raises(InputError, match="pixel|images"):
            repeat(victim, wrong, 2)
    with pytest.raises(InputError, match="expected a Victim"):
        repeat(victim.net, frames(), 2)  # type: ignore[arg-type]


def test_a_rate_code_shows() -> None:
    """Neurons whose counts vary more give answers that vary more: a negative correlation."""
    generator = torch.Generator().manual_seed(0)
    p = torch.linspace(0.05, 0.5, 40)  # Bernoulli spikes have a Fano factor of 1 - p
    spikes = torch.rand(200, 10, 40, 30, generator=generator) < p[:, None]
    noise = (1 - p)[:, None] * torch.randn(200, 40, 3, generator=generator)
    answers = torch.tensor([1.0, 0.0, 0.0]) + noise
    trials = Trials(spikes.to(torch.uint8), answers, "layer", (30,))
    assert (trials.mean_fano - (1 - p)).abs().max() < 0.08
    r, chance = trials.correlation()
    assert r < -0.9 and chance < 1e-10


def test_correlation_needs_something_to_correlate() -> None:
    x = torch.tensor([0.0, 1.0, 2.0, torch.nan, 4.0])
    r, p = correlation(x, 3 - x)
    assert r == pytest.approx(-1) and p < 1e-6
    for y in (torch.ones(5), torch.tensor([torch.nan] * 3 + [1.0, 2.0])):
        assert all(value != value for value in correlation(x, y))


def test_all_pairs_are_the_single_ones() -> None:
    spikes = (torch.rand(30, 4, 3) < 0.5).float()
    spikes[:, 2, 1] = 1.0
    joint, defined = jpsth_of_pairs(spikes)
    for i in range(3):
        for j in range(3):
            single, known = jpsth(spikes[:, :, i], spikes[:, :, j])
            assert torch.allclose(joint[i, j], single, atol=1e-6)
            assert torch.equal(defined[i, j], known)


@pytest.mark.parametrize(
    ("shape", "stimulus"),
    [
        ((12,), torch.rand(3, 8, 8)),
        ((3, 4, 4), torch.rand(4, 2, 8, 8)),
        ((16,), torch.rand(9)),
    ],
)
def test_the_page_takes_any_stimulus(
    shape: tuple[int, ...], stimulus: Tensor, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    neurons = torch.Size(shape).numel()
    spikes = (torch.rand(5, 4, 3, neurons) < 0.3).to(torch.uint8)
    trials = Trials(spikes, torch.rand(5, 3, 2), "layer", shape)
    draw_page(trials, tmp_path / "page.png", neurons=4, stimulus=stimulus, title="a $ title")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_silent_neurons_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trials = Trials(torch.zeros(3, 4, 2, 5, dtype=torch.uint8), torch.ones(3, 2, 2), "layer", (5,))
    draw_page(trials, tmp_path / "page.png")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    words = ["analyse", "--model", "snn_vggsnn_nlif", "--data", "digits-events", "-n", "3"]
    words += ["--trials", "3", "--neurons", "4"]
    words += ["--model-kwargs", "width=0.0625", "T=2", "--out", str(tmp_path / "code")]
    assert _run(words) == 0
    assert "mean Fano factor" in capsys.readouterr().out
    assert (tmp_path / "code" / "code.png").is_file()
    with (tmp_path / "code" / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["0", "1", "2"]
    with (tmp_path / "code" / "neurons.csv").open() as file:
        assert {"sample", "neuron", "fano_factor"} <= set(next(csv.reader(file)))
    assert _run([*words, "--sample", "3"]) == 2
    assert "between 0 and 2" in capsys.readouterr().err


def test_the_command_runs_to_the_end_without_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["analyse", "--model", "snn_vgg5", "--data", "digits", "-n", "3"]
    words += ["--model-kwargs", "width=0.0625", "T=2", "--out", str(tmp_path / "code")]
    assert _run(words) == 0
    said = capsys.readouterr().out
    assert "accuracy" in said and "warning: no spikes are analysed: " in said
    with (tmp_path / "code" / "samples.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    assert [path.name for path in (tmp_path / "code").iterdir()] == ["samples.csv"]
