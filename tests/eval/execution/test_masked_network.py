"""A network of one's own whose gradient vanishes: it is broken all the same, and it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robust_snn import adapt, evaluate
from robust_snn.data import load_dataset


class Window(torch.autograd.Function):
    """A step whose stand-in for the derivative is a window of any width."""

    width = 0.5

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v >= 0).float()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return upstream[0] * (v.abs() < Window.width).float()


class Leaky(nn.Module):
    """Two layers of neurons, whose recursion is written out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(256, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out, v = [], torch.zeros(len(x), 64)
        for _ in range(4):
            v = 0.5 * v + self.first(x.flatten(1) - 0.3)
            spike = Window.apply(v - 1.0)
            v = v * (1 - spike)
            out.append(self.second(spike))
        return torch.stack(out).mean(0)


def test_a_masked_gradient_shows_and_is_no_defence(tmp_path: Path, monkeypatch: Any) -> None:
    train, test = load_dataset("digits", split="train"), load_dataset("digits", n=20)
    torch.manual_seed(0)
    net = Leaky()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(60):
        rows = torch.randint(0, len(train.images), (64,))
        optimizer.zero_grad()
        F.cross_entropy(net(train.images[rows]), train.labels[rows]).backward()
        optimizer.step()
    verdicts = []
    for width, suite in ((0.5, "quick"), (0.002, "adaptive-small")):
        monkeypatch.setattr(Window, "width", width)
        out, victim = tmp_path / str(width), adapt(net.eval())
        verdicts.append(evaluate(victim, test.images, test.labels, suite=suite, eps=0.1, out=out))
    honest, masked = verdicts
    low, high = masked.robust.ci  # of fewer images: some choose the attacks
    assert masked.clean.accuracy > 0.8 and masked.robust.accuracy < 0.5
    assert low <= honest.robust.accuracy <= high
    failed = {note.name for note in masked.diagnostics if note.status == "fail"}
    assert len(failed) >= 2 and all(name.endswith("under own") for name in failed), failed
