"""Tars and folders of images with names, members and files that nobody expects."""

from __future__ import annotations

import io
import os
import random
import tarfile
from pathlib import Path
from typing import Any

from fuzz.kinds import Kind, Place
from fuzz.mutation import TEXTS
from fuzz.outcome import check_call
from robust_snn.data import load_dataset

NAMES = ("cat", "dog", "a.png", "b.jpg", "c.PNG", "d.txt", ".hidden", "x.png", "train", "test")
TYPES = (tarfile.REGTYPE,) * 8 + (
    *(tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE),
)


def _members(rng: random.Random, place: Place) -> list[Any]:
    """Members of a tar or files of a folder: name, type and content."""
    sound = [["cat/a.png", "0", "png"], ["cat/b.png", "0", "png"], ["dog/c.png", "0", "png"]]
    members = sound[: rng.randrange(4)]
    for _ in range(rng.randrange(1, 4)):
        parts = [rng.choice((*NAMES, *NAMES, *TEXTS)) for _ in range(rng.choice((1, 2, 2, 2, 3)))]
        if rng.random() < 0.5:
            parts[-1] += rng.choice((".png", ".jpg"))
        kind = rng.choice(TYPES).decode()
        members.append(["/".join(parts), kind, rng.choice(("png", "png", "grey", "empty", "text"))])
    rng.shuffle(members)
    return [rng.choice(("tar", "folder")), members]


def _content(name: str, place: Place) -> bytes:
    sound = {"png": "a.png", "grey": "grey.png"}
    return (place.good / sound[name]).read_bytes() if name in sound else name[:4].encode() * 3


def _tar(path: Path, members: list[Any], place: Place) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind.encode(), "cat/a.png"
            data = _content(content, place) if kind == "0" else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _folder(root: Path, members: list[Any], place: Place) -> None:
    root.mkdir()
    for name, kind, content in members:
        path = root / name
        if os.path.commonpath([os.path.abspath(path), os.path.abspath(root)]) != str(root):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == tarfile.FIFOTYPE.decode():
                os.mkfifo(path)
            elif kind == tarfile.SYMTYPE.decode():
                path.symlink_to(root if content == "text" else "/dev/zero")
            elif kind == tarfile.DIRTYPE.decode():
                path.mkdir()
            else:
                path.write_bytes(_content(content, place))
        except (OSError, ValueError):
            continue  # no such file on this system


def _load(case: list[Any], place: Place) -> None:
    form, members = case
    path = place.work / ("set.tar" if form == "tar" else "set")
    try:
        (_tar if form == "tar" else _folder)(path, members, place)
    except (ValueError, OSError, UnicodeError):
        return  # no such tar either

    def use() -> None:
        data = load_dataset(path)
        assert data.images.isfinite().all() and len(data.images) == len(data.labels)

    check_call(use)


ARCHIVE_KINDS = {"archives": Kind(_members, _load)}
