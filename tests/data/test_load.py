"""Every data source, on files in its real format, and every way to get it wrong."""

from __future__ import annotations

import io
import pickle
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets.cifar as cifar
from PIL import Image
from torchvision.datasets import ImageFolder

from one_epoch import check_training
from robust_snn.data import DATASETS, ImageSet, load_dataset
from robust_snn.data.image_set import balanced
from robust_snn.utils.errors import InputError

CLASSES = ("ant", "bee", "cat")


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_folder(root: Path, shape: tuple[int, ...] = (6, 6, 3), per_class: int = 2) -> Path:
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            Image.fromarray(pixels(*shape, seed=10 * label + i)).save(root / name / f"{i}.png")
    return root


def write_tar(path: Path, folder: Path, inside: str = ".") -> Path:
    with tarfile.open(path, "w") as tar:
        tar.add(folder, inside)
    return path


def write_cifar(root: Path, name: str) -> Path:
    """Writes the pickles of an unpacked CIFAR archive, four images to a file."""
    source = {"cifar10": cifar.CIFAR10, "cifar100": cifar.CIFAR100}[name]
    key, meta = {"cifar10": ("labels", 10), "cifar100": ("fine_labels", 100)}[name]
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    for seed, (file, _) in enumerate(source.train_list + source.test_list):
        batch = {"data": pixels(4, 3072, seed=seed), key: [3, 1, 4, 1]}
        (folder / file).write_bytes(pickle.dumps(batch))
    names = {source.meta["key"]: [f"class{i}" for i in range(meta)]}
    (folder / source.meta["filename"]).write_bytes(pickle.dumps(names))
    return root


def check_set(data: ImageSet, n: int, shape: tuple[int, ...]) -> None:
    assert len(data) == n
    assert data.images.shape == (n, *shape)
    assert data.images.dtype == torch.float32 and data.images.is_contiguous()
    assert data.images.min() >= 0 and data.images.max() <= 1
    assert data.labels.dtype == torch.int64 and data.labels.shape == (n,)
    assert data.labels.min() >= 0 and data.labels.max() < len(data.classes)


# Writes the files of a named set below a root, in their published form; None for an embedded set.
WRITERS: dict[str, Callable[[Path], object] | None] = {
    "digits": None,
    "cifar10": lambda root: write_cifar(root, "cifar10"),
    "cifar100": lambda root: write_cifar(root, "cifar100"),
}


def test_every_data_set_has_a_writer() -> None:
    assert set(WRITERS) == set(DATASETS)


@pytest.mark.parametrize("name", WRITERS)
def test_a_named_set_has_two_splits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: Path(path).exists())
    if (write := WRITERS[name]) is not None:
        write(tmp_path)
    for split in ("train", "test"):
        data = load_dataset(name, split=split, root=tmp_path, size=8, n=4)
        check_set(data, 4, (data.images.shape[1], 8, 8))
        assert (data.name, data.split) == (name, split)
    check_training(data, data, tmp_path / "run")


def test_digits_split_is_fixed_and_balanced() -> None:
    train, test = load_dataset("digits", split="train"), load_dataset("digits")
    check_set(train, 1297, (1, 16, 16))
    check_set(test, 500, (1, 16, 16))
    assert Counter(test.labels.tolist()) == dict.fromkeys(range(10), 50)
    assert load_dataset("digits", n=20).labels.tolist() == [*range(10), *range(10)]
    # a changed split or transform would make old verdicts incomparable
    assert test.sha256.startswith("9e541b716b183d14")


@pytest.mark.parametrize("size", [8, 16, 32])
def test_digits_keep_their_grey_levels(size: int) -> None:
    images = load_dataset("digits", size=size).images
    check_set(load_dataset("digits", size=size), 500, (1, size, size))
    assert images.max() == 1
    original = load_dataset("digits", size=8).images
    assert torch.equal(original, (original * 16).round() / 16)
    assert images.mean() == pytest.approx(float(original.mean()), rel=1e-5)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize(("split", "n"), [("train", None), ("test", 4)])
def test_cifar_reads_the_published_format(
    name: str, split: str, n: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_cifar(tmp_path, name)
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: Path(path).exists())
    data = load_dataset(name, split=split, root=root)
    source = {"cifar10": cifar.CIFAR10, "cifar100": cifar.CIFAR100}[name]
    files = source.train_list if split == "train" else source.test_list
    check_set(data, 4 * len(files), (3, 32, 32))
    assert data.labels[:4].tolist() == [3, 1, 4, 1]
    seed = 0 if split == "train" else len(source.train_list)
    expected = torch.from_numpy(pixels(4, 3072, seed=seed).reshape(4, 3, 32, 32)).float() / 255
    assert torch.equal(data.images[:4], expected)
    assert load_dataset(name, split=split, root=root, size=8).images.shape[-2:] == (8, 8)


def test_cifar_never_unpickles_unknown_files(tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar10")
    trap = tmp_path / "sprung"
    evil = type("Evil", (), {"__reduce__": lambda self: (Path.touch, (trap,))})
    (tmp_path / cifar.CIFAR10.base_folder / "test_batch").write_bytes(pickle.dumps(evil()))
    with pytest.raises(InputError, match="no intact 'cifar10'"):
        load_dataset("cifar10", root=tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize("inside", [".", "wrapped"])
def test_tar_and_folder_agree_with_torchvision(inside: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images")
    data = load_dataset(folder)
    check_set(data, 6, (3, 6, 6))
    assert (data.name, data.split, data.classes) == ("images", "all", CLASSES)
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    reference = ImageFolder(str(folder))
    assert reference.classes == list(data.classes)
    order = balanced(np.array(reference.targets))
    for image, label, place in zip(data.images, data.labels, order, strict=True):
        picture, target = reference[place]
        assert target == label
        assert np.array_equal((image * 255).permute(1, 2, 0).numpy(), np.array(picture))

    packed = load_dataset(write_tar(tmp_path / "images.tar", folder, inside))
    assert packed.name == "images.tar"
    assert packed.sha256 == data.sha256


def test_folder_with_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "set" / "train", per_class=3)
    write_folder(tmp_path / "set" / "test", per_class=1)
    for split, n in (("train", 9), ("test", 3)):
        data = load_dataset(tmp_path / "set", split=split)
        assert (len(data), data.name, data.split) == (n, "set", split)


def test_class_named_like_a_split(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "cat").rename(tmp_path / "train")
    assert load_dataset(tmp_path, split="train").classes == ("ant", "bee", "train")


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((6, 6), None, (1, 6, 6)),
        ((6, 9, 3), None, (3, 6, 9)),
        ((6, 9, 4), None, (3, 6, 9)),
        ((6, 6, 3), 16, (3, 16, 16)),
        ((33, 20, 3), 8, (3, 8, 8)),
    ],
    ids=["grey", "oblong", "alpha", "enlarge", "shrink"],
)
def test_folder_shapes(
    shape: tuple[int, ...], size: int | None, expected: tuple[int, ...], tmp_path: Path
) -> None:
    check_set(load_dataset(write_folder(tmp_path, shape), size=size), 6, expected)


FORMATS = ("png", "jpg", "bmp", "webp", "gif", "tif", "tiff", "ppm", "PNG", "JPEG")


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
def test_images_of_every_format_are_read_and_other_files_named(
    packed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tmp_path / "set")
    for number, ending in enumerate(FORMATS):
        image = Image.fromarray(np.full((6, 6, 3), 20 * number, np.uint8))
        image.save(folder / "ant" / f"of-{number}.{ending}")
    (folder / "bee" / "notes.txt").write_text("no image")
    data = load_dataset(write_tar(tmp_path / "set.tar", folder) if packed else folder)
    ants = data.images[data.labels == 0]
    plain = ants[(ants - ants[:, :1, :1, :1]).abs().amax((1, 2, 3)) < 0.02]  # JPEG is near
    shades = (plain.mean((1, 2, 3)) * 255).sort().values
    assert torch.allclose(shades, 20.0 * torch.arange(len(FORMATS)), atol=1.5)
    assert "left out" in caplog.text and "1 .txt" in caplog.text


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
@pytest.mark.parametrize(
    "hidden",
    [".ipynb_checkpoints/0.png", "__MACOSX/0.png", "__MACOSX/ant/0.png", "ant/._0.png", ".x.png"],
)
def test_what_is_hidden_is_no_class(
    packed: bool, hidden: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tmp_path / "set")
    plain = load_dataset(folder)
    (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "ant" / "0.png", folder / hidden)
    data = load_dataset(write_tar(tmp_path / "set.tar", folder) if packed else folder)
    assert data.classes == plain.classes and data.sha256 == plain.sha256
    assert "1 hidden" in caplog.text


def test_a_tar_says_what_is_no_file_in_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    packed = write_tar(tmp_path / "set.tar", write_folder(tmp_path / "set"))
    with tarfile.open(packed, "a") as tar:
        for name, kind in (("s", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("d", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(f"ant/{name}.png")
            member.type, member.linkname = kind, "ant/0.png"
            tar.addfile(member)
    assert len(load_dataset(packed)) == 6
    assert "1 devices or pipes, 2 links" in caplog.text


def test_an_image_that_a_tar_holds_twice_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set")
    packed = write_tar(tmp_path / "set.tar", folder)
    with tarfile.open(packed, "a") as tar:
        tar.add(folder / "ant" / "0.png", "./ant/0.png")
    with pytest.raises(InputError, match="holds 'ant/0.png' 2 times"):
        load_dataset(packed)


@pytest.mark.parametrize("place", ["/proc", "/proc/self", "/sys", "/dev"])
def test_the_systems_state_is_no_data(place: str) -> None:
    if not Path(place).is_dir():
        pytest.skip(f"no {place} on this system")
    with pytest.raises(InputError, match="shows the system's state"):
        load_dataset(place)


def test_sizes_may_differ_when_resized(tmp_path: Path) -> None:
    write_folder(tmp_path)
    Image.fromarray(pixels(9, 7, 3)).save(tmp_path / "cat" / "0.png")
    check_set(load_dataset(tmp_path, size=8), 6, (3, 8, 8))


def test_prefix_equals_take_and_hash_sees_every_change(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    data = load_dataset(folder)
    assert load_dataset(folder, n=4).sha256 == data.take(4).sha256 != data.sha256
    labels = data.labels.clone()
    labels[0] = 1
    changed = ImageSet(data.name, data.split, data.images, labels, data.classes)
    assert changed.sha256 != data.sha256


def empty(path: Path) -> Path:
    path.mkdir()
    return path


def with_file(path: Path, name: str, content: bytes) -> Path:
    write_folder(path)
    target = path / name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content)
    return path


def png(*shape: int, dtype: type = np.uint8) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(*shape).astype(dtype)).save(out, "PNG")
    return out.getvalue()


def cut_tar(path: Path, share: float) -> Path:
    packed = write_tar(path.with_suffix(".tar"), write_folder(path))
    content = packed.read_bytes()
    packed.write_bytes(content[: int(len(content) * share)])
    return packed


def tar_of(path: Path, content: bytes) -> Path:
    path.with_suffix(".tar").write_bytes(content)
    return path.with_suffix(".tar")


def split_pair(path: Path) -> Path:
    write_folder(path / "train")
    write_folder(path / "val")
    return path


def with_empty_class(path: Path) -> Path:
    (write_folder(path) / "bat").mkdir()
    return path


BAD_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty folder": (empty, "no images in"),
    "empty tar": (lambda p: write_tar(p.with_suffix(".tar"), empty(p)), "no images in"),
    "empty class": (with_empty_class, "no images in class folder 'bat'"),
    "missing folder": (lambda p: p / "nowhere", "no file or folder at"),
    "not a tar": (lambda p: tar_of(p, b"PK not a tar" * 200), "cannot read"),
    "zero bytes": (lambda p: tar_of(p, b""), "cannot read"),
    "tar cut early": (lambda p: cut_tar(p, 0.1), "is the file complete"),
    "tar cut late": (lambda p: cut_tar(p, 0.5), "is the file complete"),
    "other archive": (lambda p: with_file(p, "x.zip", b"PK") / "x.zip", "neither a folder nor"),
    "corrupt image": (lambda p: with_file(p, "ant/9.png", b"no picture"), "ant/9.png"),
    "cut image": (lambda p: with_file(p, "ant/9.png", png(60, 60, 3)[:999]), "cannot read image"),
    "sixteen bits": (lambda p: with_file(p, "ant/9.png", png(6, 6, dtype=np.uint16)), "8 bits"),
    "other size": (
        lambda p: with_file(p, "ant/9.png", png(5, 6, 3)),
        "3x[56]x6 .* 3x[56]x6",
    ),
    "image outside a class": (lambda p: with_file(p, "9.png", png(6, 6, 3)), "different depths"),
    "two sets": (split_pair, "different depths or places"),
}


@pytest.mark.parametrize(("make", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(make(tmp_path / "set"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("digitz", {}, "unknown data set 'digitz': did you mean 'digits'"),
        ("digits", {"split": "tets"}, "unknown split 'tets': did you mean 'test'"),
        ("digits", {"n": 0}, "number of images must be at least 1, got 0"),
        ("digits", {"n": 501}, "has 500 images, asked for 501"),
        ("digits", {"size": 0}, "image size must be at least 1, got 0"),
        ("cifar10", {}, "needs a data root .* 'cifar-10-batches-py'"),
        ("cifar100", {"root": "nowhere"}, "no intact 'cifar100' .* 'cifar-100-python'"),
    ],
)
def test_bad_arguments(name: str, kwargs: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(name, **kwargs)


def test_real_images(shared: Callable[[str], Path]) -> None:
    data = load_dataset(shared("data/cifar10/test.tar"), n=64)
    check_set(data, 64, (3, 32, 32))
    assert data.classes[0] == "airplane" and len(data.classes) == 10
    assert Counter(data.labels.tolist()).most_common()[-1][1] == 6
    assert 0.4 < data.images.mean() < 0.6
