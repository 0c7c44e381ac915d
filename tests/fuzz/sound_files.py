"""One sound file of every kind, from which cases are made."""

from __future__ import annotations

import json
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from fuzz.file_kinds import NAME, TINY
from robust_snn import Victim
from robust_snn.data import ImageSet, load_dataset, pack_images
from robust_snn.eval import AttackSpec, Draws, Suite, sweep
from robust_snn.training import load_recipe, save_checkpoint, train

ROW = AttackSpec("pgd", "robust_snn", "pgd", steps=1, options={"select": 1, "keep": 1})


def write_sound_files(place: Path) -> None:
    """Weights, a finished run, a training, images and recordings."""
    net = timm.create_model(NAME, **TINY).eval()
    save_checkpoint(net, place / "good.safetensors", {"model": {"name": NAME, "kwargs": TINY}})
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, place / "good.pth")
    digits = load_dataset("digits", n=4, size=8)
    sweep(
        Victim(net),
        digits.images,
        digits.labels,
        {"eps": [0, 0.1]},
        suite=Suite("tiny", (ROW,), draws=Draws(1, 2)),
        out=place / "run",
        eps=0.1,
        model_info={"name": NAME, "kwargs": TINY},
    )
    recipe = load_recipe("natural").replace(epochs=1, batch_size=4)
    train(NAME, digits, digits, recipe, out=place / "training", model_kwargs=TINY)
    _write_images(place, digits)
    _write_recordings(place)
    os.mkfifo(place / "pipe")


def _write_images(place: Path, digits: ImageSet) -> None:
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (place / "folder" / name).mkdir(parents=True)
        for number in range(2):
            pixels = noise.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(place / "folder" / name / f"{number}.png")
    Image.fromarray(pixels).save(place / "a.png")
    Image.fromarray(pixels).save(place / "a.jpg")
    Image.fromarray(pixels[..., 0]).save(place / "grey.png")
    with tarfile.open(place / "images.tar", "w") as tar:
        tar.add(place / "folder", ".")
    pack_images({"test": (place / "folder", None)}, place / "packed.safetensors")
    np.savez(place / "arrays.npz", images=digits.images.numpy(), labels=digits.labels.numpy())


def _write_recordings(place: Path) -> None:
    noise = np.random.default_rng(0)
    t, (x, y) = np.arange(50) * 1000, noise.integers(0, 128, (2, 50))
    words = np.stack([x << 8 | y << 1, t], 1).astype(">u4")
    (place / "two.aedat").write_bytes(b"#!AER-DAT2.0\r\n" + words.tobytes())
    body = np.stack([x << 17 | y << 2 | 1, t], 1).astype("<u4").tobytes()
    header = struct.pack("<HHIIIIII", 1, 0, 8, 4, 0, 50, 50, 50)
    (place / "three.aedat").write_bytes(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + header + body)
    np.save(place / "0.npy", np.stack([x, y, x % 2, t // 1000], 1))
    assert json.loads((place / "run" / "sweep.json").read_text())["axes"]
