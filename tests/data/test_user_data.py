"""Images that people bring: arrays, functions, sets of torchvision, folders of `datasets`."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from one_epoch import check_training
from robust_snn.data import ImageSet, load_dataset
from robust_snn.data.image_set import balanced
from robust_snn.utils.errors import InputError

BYTES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)  # [N, H, W, C]
IMAGES = torch.from_numpy(BYTES).permute(0, 3, 1, 2).float() / 255
LABELS = np.array([0, 0, 1, 1, 2, 2])


def check(data: ImageSet, images: torch.Tensor, labels: Any) -> None:
    assert torch.equal(data.images, images) and data.images.is_contiguous()
    assert data.labels.tolist() == list(labels) and data.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"images": BYTES, "labels": LABELS}, IMAGES),
        ({"x": IMAGES.numpy(), "y": LABELS[:, None]}, IMAGES),
        ({"images": BYTES[..., 0], "labels": LABELS.astype(np.uint8)}, IMAGES[:, :1]),
        ({"test_images": BYTES, "test_labels": LABELS, "train_images": 0}, IMAGES),
        ({"x_test": IMAGES.double().numpy(), "y_test": LABELS}, IMAGES),
        ({"x": IMAGES[:, None, :2].numpy(), "y": LABELS}, IMAGES[:, None, :2]),
    ],
)
def test_arrays(tmp_path: Path, arrays: dict[str, Any], expected: torch.Tensor) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    data = load_dataset(tmp_path / "mine.npz")
    check(data, expected, LABELS)
    assert (data.name, data.classes) == ("mine", ("0", "1", "2"))
    assert data.split == ("test" if any("test" in name for name in arrays) else "all")
    assert len(load_dataset(tmp_path / "mine.npz", n=2)) == 2
    with pytest.raises(InputError, match="asked for 7"):
        load_dataset(tmp_path / "mine.npz", n=7)


def test_arrays_name_classes_and_are_resized(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = {"images": BYTES, "labels": LABELS, "classes": ["a", "b", "c", "d"]}
    np.savez(tmp_path / "mine.npz", **known, x_test=BYTES)
    with caplog.at_level("INFO", logger="robust_snn"):
        data = load_dataset(tmp_path / "mine.npz", size=8)
    assert "mine.npz': x_test" in caplog.text and "images of 5x4 pixels are resized to 8x8" in (
        caplog.text
    )
    assert data.images.shape == (6, 3, 8, 8) and data.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": BYTES, "label": LABELS}, "holds image, label; expected images and labels, or x"),
        ({"images": BYTES, "labels": LABELS[:3]}, r"6 images need labels of shape \(6,\)"),
        ({"images": BYTES, "labels": np.eye(6)}, "take argmax"),
        ({"images": BYTES, "labels": LABELS * 0.5}, "must be whole numbers"),
        ({"images": BYTES, "labels": LABELS - 1}, "must lie in .*, got -1 to 1"),
        ({"images": BYTES, "labels": LABELS, "classes": ["a"]}, r"labels must lie in 0\.\.0"),
        ({"images": BYTES // 255 | 1, "labels": LABELS}, "bytes of 0 and 1"),
        ({"images": BYTES.astype(int), "labels": LABELS}, "must be bytes or floats, got torch.int"),
        ({"images": BYTES.astype(np.float32), "labels": LABELS}, "divide bytes by 255"),
        ({"images": IMAGES.numpy() * np.nan, "labels": LABELS}, "NaN pixels"),
        ({"images": BYTES[..., [0, 1, 2, 0]], "labels": LABELS}, r"shape \(6, 5, 4, 4\); expected"),
        ({"images": BYTES[:, :3], "labels": LABELS}, r"shape \(6, 3, 4, 3\); expected"),
        ({"images": BYTES[0, 0], "labels": LABELS}, r"expected \[N, C, H, W\]"),
        ({"images": np.array([{}, 1]), "labels": LABELS}, "cannot read .*mine.npz"),
        ({"images": np.array(["a"]), "labels": LABELS}, "must be an array of numbers"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load_dataset(tmp_path / "mine.npz")


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="save it by numpy.savez"):
        load_dataset(tmp_path / "mine.npz")


HEAD = """
import numpy as np, torch
from PIL import Image
from robust_snn.data import ImageSet
BYTES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
IMAGES = torch.from_numpy(BYTES).permute(0, 3, 1, 2).float() / 255
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
class Pairs:
    classes = ["a", "b", "c"]
    def __len__(self): return 6
    def __getitem__(self, i): return Image.fromarray(BYTES[i]), int(LABELS[i])
class Ragged(Pairs):
    def __getitem__(self, i): return IMAGES[i, :, : i + 1], 0
def make_data():
    return """


@pytest.fixture
def user_file(tmp_path: Path) -> Callable[[str], str]:
    def write(result: str) -> str:
        (tmp_path / "user_images.py").write_text(HEAD + result)
        return f"{tmp_path}/user_images.py:make_data"

    return write


@pytest.mark.parametrize(
    ("result", "classes"),
    [
        ("IMAGES, LABELS", "012"),
        ("[BYTES, LABELS.tolist()]", "012"),
        ("Pairs()", "abc"),
        ("torch.utils.data.TensorDataset(IMAGES, LABELS)", "012"),
        ("ImageSet('x', 'test', IMAGES, LABELS, ('a', 'b', 'c'))", "abc"),
    ],
)
def test_functions(user_file: Callable[[str], str], result: str, classes: str) -> None:
    data = load_dataset(user_file(result))
    check(data, IMAGES, LABELS)
    assert (data.name, data.split) == ("user_images.py:make_data", "all")
    assert data.classes == tuple(classes)
    assert len(load_dataset(user_file(result), n=3)) == 3


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("None", "returned NoneType, expected images and labels, or a data set"),
        ("torch.utils.data.DataLoader(Pairs())", "returned DataLoader"),
        ("IMAGES, LABELS, 3", "returned tuple"),
        ("IMAGES * 2 - 1, LABELS", "leave normalisation to the model"),
        ("Ragged()", "is 3x2x4 .* the first one 3x1x4"),
        ("1 / 0", "make_data failed: ZeroDivisionError"),
    ],
)
def test_functions_that_are_refused(
    user_file: Callable[[str], str], result: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(user_file(result))


@pytest.mark.parametrize(
    "result",
    [
        "IMAGES * 255, LABELS",
        "IMAGES * 2 - 1, LABELS",
        "torch.utils.data.TensorDataset(IMAGES * 2 - 1, LABELS)",
        "torch.utils.data.TensorDataset(IMAGES / 0, LABELS)",
    ],
)
def test_resizing_hides_no_pixels_outside_their_range(
    user_file: Callable[[str], str], result: str
) -> None:
    """They were cut to [0, 1] after it, and so most of a normalised image was black."""
    with pytest.raises(InputError, match="leave normalisation to the model|infinite|NaN"):
        load_dataset(user_file(result), size=8)


def write_mnist(root: Path) -> None:
    """Ten images of every split in the format of MNIST."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        pixels = np.arange(10, dtype=np.uint8).repeat(28 * 28)
        labels = np.array([0] * 5 + [*range(5)], np.uint8)
        head = struct.pack(">4i", 2051, 10, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = struct.pack(">2i", 2049, 10)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def write_svhn(root: Path) -> None:
    for split in ("train", "test"):
        pixels = np.zeros((32, 32, 3, 4), np.uint8)
        savemat(root / f"{split}_32x32.mat", {"X": pixels, "y": np.array([[1], [1], [2], [10]])})


def test_sets_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path)
    data = load_dataset("MNIST", root=tmp_path, n=6, size=8)
    assert data.images.shape == (6, 1, 8, 8) and data.classes[3] == "3 - three"
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 0]
    assert (data.images[:, 0, 0, 0] * 255).round().tolist() == [2, 6, 7, 8, 9, 4]
    monkeypatch.setattr("torchvision.datasets.SVHN._check_integrity", lambda self: True)
    write_svhn(tmp_path)
    data = load_dataset("SVHN", split="train", root=tmp_path)
    assert data.split == "train" and data.labels.tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize(
    ("name", "root", "message"),
    [
        ("MNIST", None, "needs a data root"),
        ("MNIST", "empty", r"no 'MNIST' in data root .*MNIST\(root, download=True\) fetches it"),
        ("MINST", "empty", "did you mean 'MNIST'"),
        ("CIFAR10", "empty", "did you mean 'cifar10'"),
    ],
)
def test_sets_of_torchvision_that_are_refused(
    tmp_path: Path, name: str, root: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(name, root=None if root is None else tmp_path)


def saved_datasets(folder: Path, dictionary: bool = True, **columns: Any) -> Path:
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    features = datasets.Features({n: kinds.get(n, datasets.Value("int64")) for n in columns})
    data = datasets.Dataset.from_dict(columns, features=features)
    whole = datasets.DatasetDict({"train": data, "validation": data}) if dictionary else data
    whole.save_to_disk(str(folder / "saved"))
    return folder / "saved"


PICTURES = [Image.fromarray(pixels) for pixels in BYTES]


@pytest.mark.parametrize("dictionary", [True, False])
def test_folders_of_datasets(tmp_path: Path, dictionary: bool) -> None:
    path = saved_datasets(tmp_path, dictionary, image=PICTURES, label=LABELS.tolist())
    data = load_dataset(path, n=4)
    order = balanced(LABELS)[:4]
    check(data, IMAGES[order], LABELS[order])
    assert data.classes == ("a", "b", "c")
    assert data.split == ("validation" if dictionary else "all")
    check_training(data, data, tmp_path / "run")


def test_folders_of_datasets_that_are_refused(tmp_path: Path) -> None:
    path = saved_datasets(tmp_path, False, image=PICTURES, number=LABELS.tolist())
    with pytest.raises(InputError, match=r"number \(Value\); expected one that is a label"):
        load_dataset(path)
    next(path.glob("*.arrow")).write_bytes(b"")
    with pytest.raises(InputError, match="cannot read"):
        load_dataset(path)


def test_without_the_library_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r'pip install "robust-snn\[datasets\]"'):
        load_dataset(tmp_path)
