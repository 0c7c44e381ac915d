"""Packed images are those of the folder that they come from, and damaged files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from robust_snn import InputError
from robust_snn.data import load_dataset, pack_images


def write_folder(root: Path, kind: str, grey: bool = False, each: int = 3) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 256, (8, 8) if grey else (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.{kind}")
    return root


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("n", [None, 3])
def test_they_are_the_images_of_the_folder(
    tmp_path: Path, kind: str, grey: bool, n: int | None
) -> None:
    folder = write_folder(tmp_path / "folder", kind, grey)
    pack_images({"train": (folder, None), "test": (folder, n)}, tmp_path / "packed.safetensors")
    for split, kept in (("train", None), ("test", n)):
        packed = load_dataset(tmp_path / "packed.safetensors", split=split)
        files = load_dataset(folder, n=kept)
        assert (packed.name, packed.split, packed.classes) == ("packed", split, files.classes)
        assert packed.sha256 == files.sha256
    few = load_dataset(tmp_path / "packed.safetensors", split="train", n=2, size=4)
    assert torch.equal(few.images, load_dataset(folder, n=2, size=4).images)


def test_real_jpegs_decode_alike(tmp_path: Path, shared: object) -> None:
    tar = shared("data/cifar10/test.tar")  # type: ignore[operator]
    pack_images({"test": (tar, 40)}, tmp_path / "cifar.safetensors")
    packed = load_dataset(tmp_path / "cifar.safetensors")
    assert packed.sha256 == load_dataset(tar, n=40).sha256


def test_bad_sources(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", "png")
    other = write_folder(tmp_path / "other", "png")
    (other / "dog").rename(other / "emu")
    out = tmp_path / "packed.safetensors"
    with pytest.raises(InputError, match="has 6 images, asked for 7"):
        pack_images({"test": (folder, 7)}, out)
    with pytest.raises(InputError, match="other classes"):
        pack_images({"train": (folder, None), "test": (other, None)}, out)
    assert not out.exists()


def test_bad_files(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    pack_images({"test": (write_folder(tmp_path / "folder", "jpg"), None)}, good)
    with pytest.raises(InputError, match="has the splits test, none for 'train'"):
        load_dataset(good, split="train")
    with pytest.raises(InputError, match="has 6 images"):
        load_dataset(good, n=7)
    tensors = load_file(good)
    tensors["test.bytes"] = torch.zeros_like(tensors["test.bytes"])
    contents = {
        "broken": good.read_bytes()[:-50],
        "text": b"pixels",
        "weights": None,
        "pictures": None,
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.safetensors"
        if content is not None:
            path.write_bytes(content)
        elif name == "weights":
            save_file({"weight": torch.zeros(2)}, path)
        else:
            save_file(tensors, path, {"classes": '["cat", "dog"]'})
        with pytest.raises(InputError, match=f"{name}.safetensors"):
            load_dataset(path)
