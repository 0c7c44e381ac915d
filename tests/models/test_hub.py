"""timm's way to the Hugging Face hub and back, with a folder in place of the hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch

import robust_snn


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose subfolders are repositories."""

    class Api:
        def __init__(self, **settings: Any) -> None: ...

        def create_repo(self, repo_id: str, **settings: Any) -> SimpleNamespace:
            return SimpleNamespace(repo_id=repo_id)

        def file_exists(self, **settings: Any) -> bool:
            return False

        def upload_folder(self, *, repo_id: str, folder_path: str, **settings: Any) -> None:
            shutil.copytree(folder_path, tmp_path / repo_id)

    def download(repo_id: str, filename: str, **settings: Any) -> str:
        return str(tmp_path / repo_id / filename)

    monkeypatch.setattr("timm.models._hub.HfApi", Api)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    return tmp_path


def test_a_network_goes_to_the_hub_and_back(hub: Path) -> None:
    images, kwargs = torch.rand(2, 1, 16, 16), {"T": 2, "width": 0.125, "head_width": 8}
    kwargs |= {"img_size": 16, "in_chans": 1, "num_classes": 3}
    net = timm.create_model("snn_vgg5", **kwargs).eval()
    timm.models.push_to_hf_hub(
        net,
        "me/net",
        model_args=kwargs,
        model_card={"license": "mit"},
        safe_serialization=True,  # weights that can be loaded without running code
    )
    files = sorted(path.name for path in (hub / "me" / "net").iterdir())
    assert files == ["README.md", "config.json", "model.safetensors"]
    loaded = timm.create_model("hf-hub:me/net", pretrained=True).eval()
    assert torch.equal(loaded(images), net(images))
    victim = robust_snn.adapt("hf-hub:me/net", pretrained=True)
    torch.testing.assert_close(victim(images), net(images))
