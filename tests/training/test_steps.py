"""One training step of every recipe changes what it should, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from robust_snn.data import ImageSet
from robust_snn.neurons import DLIF, EvolvingLeakLIF, HomeostaticLIF, StochasticGate
from robust_snn.training import load_recipe, train
from robust_snn.training import trainer as module
from robust_snn.training.recipe import shipped

KWARGS = {"T": 2, "img_size": 8, "in_chans": 1, "width": 0.25}


@pytest.fixture(scope="module")
def data() -> ImageSet:
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return ImageSet("noise", "all", images, torch.arange(8), tuple("0123456789"))


def step(data: ImageSet, out: Path, recipe: str, model: str, **changes: Any) -> Any:
    """Weights before and after one step."""
    built: list[dict[str, torch.Tensor]] = []
    with pytest.MonkeyPatch.context() as patch:

        def create(*args: Any, **kwargs: Any) -> Any:
            net = timm.create_model(*args, **kwargs)
            built.append({name: value.clone() for name, value in net.state_dict().items()})
            return net

        patch.setattr(module, "create_network", create)
        chosen = load_recipe(recipe).replace(
            epochs=1, warmup_epochs=0, batch_size=8, gate_share=1.0, **changes
        )
        done = train(model, data, data, chosen, out=out, model_kwargs=KWARGS)
    return built[0], done.net


@pytest.mark.parametrize("recipe", shipped())
def test_a_step_of_every_recipe(data: ImageSet, tmp_path: Path, recipe: str) -> None:
    mechanism = load_recipe(recipe).mechanism
    model = f"snn_wrn16_{mechanism}" if mechanism else "snn_wrn16"
    before, net = step(data, tmp_path, recipe, model)
    after = net.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    for name, parameter in net.named_parameters():
        changed = not torch.equal(parameter.detach(), before[name])
        # the first factor multiplies an empty membrane, and a symmetric sum may stay where it is
        assert changed or name.endswith(("sum.weight", "factor")), name
    for part in net.modules():
        if isinstance(part, StochasticGate):
            assert 0.1 <= part.probability.detach().min() <= part.probability.detach().max() <= 1
        if isinstance(part, DLIF):
            assert part.factor[0] == 1
        if isinstance(part, EvolvingLeakLIF):
            assert part.leak[1].ne(1).any()
        if isinstance(part, HomeostaticLIF):
            assert part.rate.min() >= 0 and part.usual.any()
    for name, value in after.items():
        if name.endswith("sum.weight"):
            assert float(value.sum()) == pytest.approx(1) and (value >= 0).all()
        if name.endswith("num_batches_tracked"):  # attacks and checks move no statistics
            paired = load_recipe(recipe).clean_share or load_recipe(recipe).trades
            passes = 2 if paired else 1
            assert int(value) == passes + (2 if load_recipe(recipe).sr else 0)


def test_a_step_of_nothing_moves_nothing(data: ImageSet, tmp_path: Path) -> None:
    quiet = {"lr": 1e-12, "weight_decay": 0.0, "gate_penalty": 0.0}
    before, net = step(data, tmp_path / "plain", "natural", "snn_wrn16_stog", **quiet)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], atol=1e-8, rtol=0)


def test_retraction_and_penalty_are_what_they_are_alone(data: ImageSet, tmp_path: Path) -> None:
    quiet = {"lr": 1e-12, "weight_decay": 0.0, "gate_penalty": 0.0}
    before, net = step(
        data, tmp_path / "rat", "rat", "snn_wrn16_stog", **{**quiet, "retraction": 0.01}
    )
    for name, parameter in net.named_parameters():
        matrix = before[name].flatten(1) if parameter.ndim > 1 else before[name]
        if name.endswith("weight") and parameter.ndim > 1:
            matrix = 1.01 * matrix - 0.01 * matrix @ matrix.T @ matrix
        torch.testing.assert_close(
            parameter.detach().flatten(), matrix.flatten(), atol=1e-6, rtol=1e-5, msg=name
        )


def test_gates_stay_after_their_share_of_the_epochs(data: ImageSet, tmp_path: Path) -> None:
    chosen = load_recipe("stog-vanilla").replace(epochs=4, batch_size=8, gate_penalty=0.5)
    kwargs = {**KWARGS, "head_width": 8}
    done = train("snn_vgg5_stog", data, data, chosen, out=tmp_path, model_kwargs=kwargs)
    openings = [row.opening for row in done.history]
    assert openings[0] > openings[1] == openings[2] == openings[3]
