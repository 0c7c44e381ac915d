"""What timm's training script does, through timm's public functions in its order.

The script is not part of timm's package. `train.py --device-modules robust_snn` imports the named
modules, and then takes the steps below.
"""

from __future__ import annotations

from argparse import Namespace
from importlib import import_module
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.models import resume_checkpoint
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import (
    AverageMeter,
    CheckpointSaver,
    ModelEmaV3,
    NativeScaler,
    accuracy,
    update_summary,
)
from torch import nn

from zoo import NARROW

KWARGS = {"T": 2, "num_classes": 2, "img_size": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and green images, 8 to train on and 4 to validate on, of each class."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 8), ("validation", 4)):
        for name, colour in (("green", (20, 200, 20)), ("red", (200, 20, 20))):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                shade = tuple(c + 5 * index for c in colour)
                Image.new("RGB", (16, 16), shade).save(root / split / name / f"{index}.png")
    return root


def build(name: str) -> nn.Module:
    return timm.create_model(name, **{**KWARGS, **NARROW[name.split("_")[1]]})


@pytest.mark.parametrize("name", ["snn_resnet20_stog", "snn_wrn16_nlif"])
def test_an_epoch_as_timms_script_runs_it(name: str, folder: Path, tmp_path: Path) -> None:
    import_module("robust_snn")
    torch.manual_seed(0)
    model = build(name)
    data = resolve_data_config({"input_size": (3, 16, 16)}, model=model)
    assert data["mean"] == (0.0, 0.0, 0.0)
    loaders = {
        split: create_loader(
            create_dataset("", root=str(folder), split=split, is_training=split == "train"),
            input_size=data["input_size"],
            batch_size=8,
            is_training=split == "train",
            mean=data["mean"],
            std=data["std"],
            interpolation=data["interpolation"],
            num_workers=0,
            use_prefetcher=False,
            persistent_workers=False,
        )
        for split in ("train", "validation")
    }
    optimizer = create_optimizer_v2(model, opt="adamw", lr=0.01, weight_decay=0.05, layer_decay=0.9)
    scheduler, epochs = create_scheduler_v2(
        optimizer, num_epochs=1, step_on_epochs=False, updates_per_epoch=len(loaders["train"])
    )
    assert epochs == 1
    ema = ModelEmaV3(model, decay=0.5)
    scaler = NativeScaler()
    saver = CheckpointSaver(
        model,
        optimizer,
        args=Namespace(model=name),
        model_ema=ema,
        amp_scaler=scaler,
        checkpoint_dir=str(tmp_path),
        max_history=2,
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}

    device = torch.get_default_device()
    model.train()
    for step, batch in enumerate(loaders["train"]):
        images, labels = (part.to(device) for part in batch)
        loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=0.1)
        scaler(loss, optimizer, clip_grad=1.0, clip_mode="agc", parameters=list(model.parameters()))
        ema.update(model, step=step)
        scheduler.step_update(step + 1)
        optimizer.zero_grad()

    model.eval()
    top1 = AverageMeter()
    with torch.no_grad():
        for batch in loaders["validation"]:
            images, labels = (part.to(device) for part in batch)
            top1.update(accuracy(model(images), labels)[0].item(), len(labels))
            assert ema(images).shape == (len(labels), 2)
    metrics = {"top1": top1.avg}
    update_summary(0, metrics, metrics, tmp_path / "summary.csv", write_header=True)
    saver.save_checkpoint(0, metric=top1.avg)

    assert any(not torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert (tmp_path / "summary.csv").exists()
    loaded = build(name)
    assert resume_checkpoint(loaded, str(tmp_path / "last.pth.tar")) == 1
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])
    best = timm.create_model(
        name,
        checkpoint_path=str(tmp_path / "model_best.pth.tar"),
        **{**KWARGS, **NARROW[name.split("_")[1]]},
    )
    averaged = ema.module.state_dict()  # timm's loader takes the averaged weights
    assert all(torch.equal(value, averaged[key]) for key, value in best.state_dict().items())
