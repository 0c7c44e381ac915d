"""On a GPU, no training step waits for a number of its own: those of several are read together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from robust_snn.data import ImageSet
from robust_snn.training import Diverged, load_recipe, loop, session, train
from robust_snn.training.training_losses import Objective

KWARGS = {"T": 2, "width": 0.0625, "head_width": 8, "img_size": 8, "num_classes": 10}


class Waits(TorchDispatchMode):
    """Counts the operations that make the host wait for the device of a tensor."""

    NAMES = ("_local_scalar_dense", "nonzero", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (name := func.overloadpacket.__name__) in self.NAMES:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are read as they are on a GPU."""
    tally = loop._Tally
    monkeypatch.setattr(loop, "_Tally", lambda epoch, device: tally(epoch, torch.device("cuda")))


@pytest.mark.parametrize("name", ["natural", "rat"])
def test_no_step_waits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_a_gpu: None
) -> None:
    images = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    data = ImageSet("noise", "all", images, torch.arange(12) % 10, tuple("0123456789"))
    recipe = load_recipe(name).replace(epochs=1, batch_size=4)
    monkeypatch.setenv("ROBUST_SNN_BACKEND", "torch")
    run, seen = loop.train_epoch, list[Counter[str]]()

    def watched(*args: Any, **options: Any) -> tuple[float, float]:
        with Waits() as waits:
            options["after_step"] = lambda step: seen.append(Counter(waits.found))
            return run(*args, **options)

    monkeypatch.setattr(session, "train_epoch", watched)
    train("snn_vgg5", data, data, recipe, out=tmp_path, model_kwargs=KWARGS)
    assert seen == [Counter()] * 3


def test_losses_that_are_read_together(on_a_gpu: None) -> None:
    labels = torch.tensor([1, 0])
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    still = torch.tensor(0.0)
    tally = loop._Tally(7, torch.device("cpu"))
    for loss in (0.5, 0.25):
        tally.add(Objective(torch.tensor(2 * loss), torch.tensor(loss), logits), labels, still)
    assert (tally.loss, tally.right, tally.seen) == (0, 0, 0)
    tally.read()
    assert (tally.loss, tally.right, tally.seen) == (1.5, 2, 4)
    tally.add(Objective(torch.tensor(torch.nan), torch.tensor(0.0), logits), labels, still)
    for _ in range(loop.READ_TOGETHER - 2):
        tally.add(Objective(torch.tensor(1.0), torch.tensor(1.0), logits), labels, still)
    with pytest.raises(Diverged, match="the loss is nan in step 3 of epoch 7"):
        tally.add(Objective(torch.tensor(1.0), torch.tensor(1.0), logits), labels, still)
