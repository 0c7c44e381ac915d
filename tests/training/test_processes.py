"""Two processes that share every batch train the network of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

PROGRAM = """
import sys
from robust_snn.data import load_dataset
from robust_snn.training import load_recipe, train

out, model, name, seed = sys.argv[1:]
data, test = load_dataset("digits", split="train", size=8), load_dataset("digits", size=8)
chosen = load_recipe(name).replace(epochs=2, batch_size=32, eps=0.1, lr=0.02, held_out=0.1)
kwargs = {"T": 2, "width": 0.25, "img_size": 8}
kwargs |= {"head_width": 32} if "vgg" in model else {}
train(model, data.take(356), test.take(40), chosen, out=out, model_kwargs=kwargs,
      seed=int(seed))
"""


def run(out: Path, processes: int, *arguments: str) -> dict[str, torch.Tensor]:
    program = out.with_suffix(".py")
    program.write_text(PROGRAM)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*(launcher if processes > 1 else []), str(program), str(out), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], check=True, env=environment, timeout=300)
    return load_file(out / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "recipe", "seed"),
    [("snn_vgg5", "at", 0), ("snn_vgg5_dlif", "stable-at-reg", 1)],
)
def test_two_processes_train_the_network_of_one(
    tmp_path: Path, model: str, recipe: str, seed: int
) -> None:
    """20 steps of 32 images: 356 images, a tenth of them held out, in two epochs.

    Where a gradient is nearly zero, rounding decides the sign of an FGSM step. Under these seeds
    none is so close that halves of a batch and whole ones differ.
    """
    one = run(tmp_path / "one", 1, model, recipe, str(seed))
    two = run(tmp_path / "two", 2, model, recipe, str(seed))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=0, msg=name)
    files = [sorted(p.name for p in (tmp_path / run).iterdir()) for run in ("one", "two")]
    assert files[0] == files[1]
