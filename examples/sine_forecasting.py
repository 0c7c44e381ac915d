"""Forecasting a sine with noisy neurons, and the code they use (NSNN, section 4.4 and A.2.3).

    python examples/sine_forecasting.py --out runs/sine

A network of 32 and 16 noisy neurons reads a sine, one value per time step (48 steps of 0.1), and
says at every step what comes next. It learns by the mean squared error. Then the page of
`robust-snn analyse` is drawn of its last layer: in the paper, forecasting relies less on firing
rates than classification does, and neurons fire together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from robust_snn import Victim
from robust_snn.metrics import repeat
from robust_snn.metrics.neural_code_page import draw_page
from robust_snn.neurons import NoisyLIF

STEPS, STEP = 48, 0.1
WIDTHS = (32, 16)
NOISE = "gaussian(sigma=0.3)"


class Forecaster(nn.Module):
    """Series `[B, T, 1, 1, 1]` to the next value at every step, `[B, T]`."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (1, *WIDTHS)
        self.linear = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, WIDTHS, strict=False))
        self.neurons = nn.ModuleList(NoisyLIF(NOISE) for _ in WIDTHS)
        self.readout = nn.Linear(WIDTHS[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        spikes = 2 * x.flatten(1).T[:, :, None] - 1  # [T, B, 1], back from [0, 1] to [-1, 1]
        for linear, neurons in zip(self.linear, self.neurons, strict=True):
            spikes = neurons(linear(spikes))
        trace, said = torch.zeros_like(spikes[0]), []
        for now in spikes:  # a leaky trace, or 16 spikes could say few values
            trace = 0.5 * trace + now
            said.append(self.readout(trace)[:, 0])
        return torch.stack(said, 1)


def series(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sines of random phase as frames in [0, 1], `[count, T, 1, 1, 1]`, and what comes next."""
    phase = 2 * torch.pi * torch.rand(count, 1, generator=generator)
    values = torch.sin(phase + STEP * torch.arange(STEPS + 1))
    return (values[:, :-1] / 2 + 0.5)[:, :, None, None, None], values[:, 1:]


def trained(iterations: int, seed: int = 0) -> tuple[Forecaster, float]:
    """A network, and its mean squared error on new series."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = Forecaster()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for _ in range(iterations):
        x, y = series(64, generator)
        loss = nn.functional.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        x, y = series(256, generator)
        return net.eval(), float(nn.functional.mse_loss(net(x), y))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/sine"))
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    net, error = trained(options.iterations)
    x, _ = series(200, torch.Generator().manual_seed(1))
    trials = repeat(Victim(net), x, options.trials, batch_size=200, answer=lambda said: said)
    options.out.mkdir(parents=True, exist_ok=True)
    title = f"sine forecasting: mean squared error {error:.3f}, {options.trials} trials"
    draw_page(trials, options.out / "code.png", stimulus=x[0].flatten(), title=title)
    r, p = trials.correlation()
    print(f"mean squared error {error:.4f}; correlation {r:.2f} (p = {p:.2g})")  # noqa: T201


if __name__ == "__main__":
    main()
