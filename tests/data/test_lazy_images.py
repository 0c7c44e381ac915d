"""Images on disk: the same as in memory, read when asked for, and checked at every reading."""

from __future__ import annotations

import io
import pickle
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from one_epoch import check_training
from robust_snn import InputError
from robust_snn.data import lazy_images, load_dataset, open_dataset, pack_images
from robust_snn.data.image_digests import image_digests
from robust_snn.data.image_set import balanced
from robust_snn.data.lazy_images import LazyImages, UnreadableImage
from robust_snn.data.map_style import labels_of, opened, with_labels

COUNT, SIDE = 12, 6
BYTES = np.random.RandomState(0).randint(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)
LABELS = np.array([0, 1, 2] * 3 + [2] * 3)
PIXELS = torch.from_numpy(BYTES).permute(0, 3, 1, 2).float() / 255
ORDER = balanced(LABELS)


def png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    return content.getvalue()


def folder(place: Path) -> Path:
    for number, (image, label) in enumerate(zip(BYTES, LABELS, strict=True)):
        path = place / "set" / str(label) / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    return place / "set"


def tar(place: Path) -> Path:
    with tarfile.open(place / "set.tar", "w") as file:
        file.add(folder(place), ".")
    return place / "set.tar"


def web_tar(path: Path, numbers: range) -> Path:
    with tarfile.open(path, "w") as file:
        for number in numbers:
            parts = {"png": png(BYTES[number]), "cls": str(LABELS[number]).encode(), "json": b"{}"}
            for ending, content in parts.items():
                member = tarfile.TarInfo(f"train/sample.a{number:06d}.{ending}".replace(".a", "-"))
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return path


def web_tars(place: Path) -> Path:
    (place / "set").mkdir()
    web_tar(place / "set" / "a-000000.tar", range(7))
    web_tar(place / "set" / "a-000001.tar", range(7, COUNT))
    return place / "set"


def arrays(place: Path) -> Path:
    (place / "set").mkdir()
    np.save(place / "set" / "images.npy", BYTES)
    np.save(place / "set" / "labels.npy", LABELS)
    return place / "set"


def packed(place: Path) -> Path:
    pack_images({"test": (folder(place), None)}, place / "set.safetensors")
    return place / "set.safetensors"


SOURCES: dict[str, Callable[[Path], Path]] = {
    "folder": folder,
    "tar": tar,
    "tar of WebDataset": lambda place: web_tar(place / "set.tar", range(COUNT)),
    "tars of WebDataset": web_tars,
    "mapped arrays": arrays,
    "packed": packed,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_they_are_what_they_are_in_memory(kind: str, tmp_path: Path) -> None:
    path = SOURCES[kind](tmp_path)
    data = open_dataset(path)
    assert isinstance(data.images, LazyImages) and data.images.shape == (COUNT, 3, SIDE, SIDE)
    # in folders, names go by class
    order = np.argsort(LABELS, kind="stable") if kind in ("folder", "tar", "packed") else None
    known = np.arange(COUNT) if order is None else order
    order = known[balanced(LABELS[known])]
    assert data.labels.tolist() == LABELS[order].tolist()
    assert torch.equal(data.images[:], PIXELS[order])
    few = load_dataset(path, n=5)
    assert torch.equal(few.images, PIXELS[order[:5]])
    sent = pickle.loads(pickle.dumps(data.images))  # noqa: S301  our own
    rows = torch.tensor([3, 0, 7])
    assert torch.equal(sent[rows], PIXELS[order][rows])
    kept, held = data.divide(9)
    assert isinstance(kept.images, LazyImages) and len(held.loaded().images) == 3
    assert load_dataset(path, size=4).images.shape[-1] == 4
    check_training(data, data, tmp_path / "run", recipe="sew")


def test_a_subset_is_a_fair_choice_and_part_of_a_larger_one() -> None:
    labels = np.repeat(np.arange(4), 25)
    order = balanced(labels)
    assert sorted(order) == list(range(100))
    assert (np.bincount(labels[order[:40]]) == 10).all()
    assert sorted(order[:40]) != sorted(np.concatenate([np.arange(10) + 25 * k for k in range(4)]))


class Counted:
    """A map-style data set that counts what is read."""

    def __init__(self, images: Any = PIXELS, **shown: Any) -> None:
        self.images, self.read = images, list[int]()
        self.__dict__.update(shown)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return self.images[index], int(LABELS[index])


def test_only_what_is_asked_for_is_read_and_once_in_a_row() -> None:
    data = Counted(targets=LABELS.tolist())
    images, labels = with_labels(data, None)
    assert labels.tolist() == LABELS.tolist() and data.read[-1] == 0  # its shape
    data.read.clear()
    assert torch.equal(images[4:8], PIXELS[4:8]) and data.read == [4, 5, 6, 7]
    assert torch.equal(images[torch.tensor([6, 4])], PIXELS[[6, 4]])
    assert torch.equal(images[5], PIXELS[5]) and len(data.read) == 4
    mask = torch.arange(COUNT) > 9
    assert torch.equal(images[mask], PIXELS[10:]) and data.read[4:] == [10, 11]
    assert images[:0].shape == (0, 3, SIDE, SIDE)
    assert torch.equal(torch.stack(list(images)), PIXELS)


def test_labels_are_those_shown_or_those_of_the_items() -> None:
    shown = Counted(labels=LABELS)
    assert labels_of(shown).tolist() == LABELS.tolist()
    assert len(shown.read) == len({*LABELS.tolist()})
    for hidden in (
        Counted(),
        Counted(targets=[1]),
        Counted(targets=(LABELS.max() - LABELS).tolist()),
        Counted(targets=LABELS.max() - LABELS, target_transform=lambda label: LABELS.max() - label),
        Counted(targets=LABELS + 0.6),
        Counted(targets=np.eye(COUNT)),
        Counted(labels=["a"] * COUNT),
        Counted(y=abs),
        Counted(_samples=[("a.png", None)] * COUNT),
        torch.utils.data.Subset(shown, range(COUNT)),
    ):
        assert labels_of(hidden).tolist() == LABELS.tolist()
    for odd in (0.7, "0", None, -1, 10**9, np.eye(2)[0]):
        with pytest.raises(InputError, match="labels"):
            labels_of([(PIXELS[0], odd)])
    with pytest.raises(InputError, match="12 images need labels"):
        with_labels(shown, torch.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="shows no labels"):
        labels_of(PIXELS[:, None])
    with pytest.raises(InputError, match="labels are missing"):
        with_labels(PIXELS, None)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PIXELS[0] * 300, "cannot read image 3 of 'x': pixels must lie"),
        (PIXELS[0] * torch.nan, "cannot read image 3 of 'x': .* NaN"),
        (PIXELS[0][:, :3], "image 3 of 'x' is 3x3x6 .* the first one 3x6x6"),
        (None, "cannot read image 3 of 'x'"),
        (Image.new("F", (6, 6)), "cannot read image 3 of 'x': expected 8 bits"),
    ],
)
def test_what_is_no_image_is_named(image: Any, message: str) -> None:
    images = opened(Counted([*PIXELS[:3], image, *PIXELS[4:]]), "x")
    assert torch.equal(images[:3], PIXELS[:3])
    with pytest.raises(UnreadableImage, match=message) as caught:
        images[:]
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="holds no images"):
        opened([], "x")


def test_what_has_changed_is_named() -> None:
    pixels = PIXELS.clone()
    digests = tuple(image_digests(PIXELS))
    assert torch.equal(opened(Counted(pixels), "x").verified(digests)[:], PIXELS)
    images = opened(Counted(pixels), "x").verified(digests)
    pixels[7, 0, 0, 0] += 0.001
    for seen in (images, pickle.loads(pickle.dumps(images))):  # noqa: S301  our own
        assert torch.equal(seen[:7], PIXELS[:7])
        with pytest.raises(UnreadableImage, match="image 7 of 'x' has changed since the run began"):
            seen[torch.tensor([8, 7])]


def test_mapped_arrays_are_sent_by_their_file(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", BYTES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    images, _ = with_labels(mapped, torch.from_numpy(LABELS))
    sent = pickle.dumps(images)
    assert len(sent) < BYTES.nbytes
    assert torch.equal(pickle.loads(sent)[:], PIXELS)  # noqa: S301  our own
    with pytest.raises(InputError, match="part of a mapped array"):
        with_labels(mapped[2:], torch.from_numpy(LABELS[2:]))


def broken_tar(place: Path, content: dict[str, bytes]) -> Path:
    with tarfile.open(place / "a.tar", "w") as file:
        for name, part in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(part)
            file.addfile(member, io.BytesIO(part))
    return place / "a.tar"


IMAGE = png(BYTES[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a.png": IMAGE, "b.png": IMAGE, "b.cls": b"1"}, "'a.png' has no class 'a.cls'"),
        ({"a.png": IMAGE, "a.cls": b"cat"}, "invalid literal"),
        ({"a.png": IMAGE, "a.cls": b"-1"}, "got -1 to -1"),
        ({"a.png": IMAGE, "a.cls": b"99999999999"}, "got 99999999999 to"),
        ({"a.png": IMAGE, "a.jpg": IMAGE, "a.cls": b"1"}, "'a' has two pictures"),
        ({"a.txt": b"", "a.cls": b"1"}, "no pictures"),
        ({"a.png": b"no", "a.cls": b"1"}, "cannot read image 'a.tar/a.png'"),
    ],
)
def test_tars_that_are_refused(tmp_path: Path, content: dict[str, bytes], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(broken_tar(tmp_path, content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("labels", LABELS[:3], "12 images need labels"),
        ("labels", LABELS * 0.5, "must be whole numbers"),
        ("labels", LABELS + 2**40, "labels of .* must lie in 0..1048575"),
        ("labels", None, "cannot read the arrays"),
        ("images", BYTES.astype(np.int32), "must be bytes or floats"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, name: str, array: Any, message: str) -> None:
    path = arrays(tmp_path)
    (path / f"{name}.npy").unlink()
    if array is not None:
        np.save(path / f"{name}.npy", array)
    with pytest.raises(InputError, match=message):
        open_dataset(path)


@pytest.mark.parametrize("side, given_back", [(8, False), (512, True)])
def test_large_batches_are_given_back(
    side: int, given_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(lazy_images, "give_back_large_blocks", lambda: asked.append(True))
    images = lazy_images.LazyImages(
        lambda index: torch.zeros(1, side, side), np.arange(4), None, "image {}".format
    )
    assert images[:].shape == (4, 1, side, side)
    assert bool(asked) == given_back


@pytest.mark.parametrize("apart", [True, False])
def test_images_are_read_ahead_where_that_may_be(apart: bool) -> None:
    """In a thread, once; what cannot be read is said to whoever asks for it."""
    threads = dict[int, list[str]]()

    def read(index: int) -> torch.Tensor:
        threads.setdefault(index, []).append(threading.current_thread().name)
        if index == 9:
            raise OSError("no such file")
        return PIXELS[index]

    images = LazyImages(read, np.arange(COUNT), None, str, apart=apart)
    here = threading.current_thread().name
    first = images[:4]
    images.read_ahead(np.arange(4, 8))
    assert torch.equal(first, PIXELS[:4]) and torch.equal(images[4:7], PIXELS[4:7])
    first += 1
    assert torch.equal(images[torch.tensor([7, 4])], PIXELS[[7, 4]])
    assert (here in threads[4]) is not apart and len(threads[4]) == (1 if apart else 2)
    images.read_ahead(np.arange(8, 12))
    assert torch.equal(images[:2], PIXELS[:2])  # asked for other ones
    images.read_ahead(np.arange(8, 12))
    with pytest.raises(UnreadableImage, match="cannot read 9: no such file"):
        images[8:12]
