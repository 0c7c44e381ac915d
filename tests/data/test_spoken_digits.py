"""SHD in its real format, HDF5 with a list of spikes per recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from one_epoch import check_training
from robust_snn.data import load_dataset
from robust_snn.models import fitted_kwargs
from robust_snn.utils.errors import InputError

h5py = pytest.importorskip("h5py")
KEYS = ("zero", "one", "null", "eins")


def write(root: Path, times: list[list[float]], units: list[list[int]], labels: list[int]) -> None:
    for split in ("train", "test"):
        with h5py.File(root / f"shd_{split}.h5", "w") as file:
            for name, rows, kind in (("times", times, "<f2"), ("units", units, "<u2")):
                place = file.create_dataset(
                    f"spikes/{name}", (len(rows),), h5py.vlen_dtype(np.dtype(kind))
                )
                for index, row in enumerate(rows):
                    place[index] = np.array(row, kind)
            file["labels"] = np.array(labels, "<u2")
            file["extra/keys"] = np.array([key.encode() for key in KEYS])


def test_spikes_are_counted_by_bin_and_channel(tmp_path: Path) -> None:
    write(tmp_path, [[0.0, 0.01, 0.71, 1.39], [0.5], []], [[0, 4, 699, 5], [350], []], [1, 0, 1])
    data = load_dataset("shd", root=tmp_path, steps=2)
    assert data.images.shape == (3, 2, 140, 1, 1) and data.classes == KEYS
    assert data.labels.tolist() == [0, 1, 1]  # classes take turns
    counts = (data.images * 255).round().long()[..., 0, 0]
    assert counts[0].nonzero().tolist() == [[0, 70]]
    assert counts[1, 0, 0] == 2 and counts[1, 1, 139] == 1 and counts[1, 1, 1] == 1
    assert counts.sum() == 5
    assert load_dataset("shd", root=tmp_path, n=1).images.shape == (1, 100, 140, 1, 1)
    binary = load_dataset("shd-binary", root=tmp_path, size=700, steps=1)
    assert binary.images[1, 0, :, 0, 0].nonzero().flatten().tolist() == [0, 4, 5, 699]


def test_a_network_reads_them(tmp_path: Path) -> None:
    write(tmp_path, [[0.1 * i for i in range(12)]] * 2, [[50 * i for i in range(12)]] * 2, [0, 3])
    data = load_dataset("shd", root=tmp_path, steps=4, size=20)
    kwargs = fitted_kwargs("snn_sew7b", {"width": 0.25}, data)
    assert (kwargs["in_chans"], kwargs["T"], kwargs["num_classes"]) == (20, 4, 4)
    net = timm.create_model("snn_sew7b", **kwargs).eval()
    assert torch.equal(net.encoder.mean.flatten(), torch.zeros(20))
    with torch.no_grad():
        assert net(data.images).shape == (2, 4)
    check_training(data, data, tmp_path / "run", "snn_sew7b")


@pytest.mark.parametrize(
    ("times", "units", "message"),
    [([1.5], [0], "outside of 0 to 1.4 s"), ([0.1], [700], "other units than 0 to 699")],
)
def test_foreign_spikes_are_refused(
    times: list[float], units: list[int], message: str, tmp_path: Path
) -> None:
    write(tmp_path, [times], [units], [0])
    with pytest.raises(InputError, match=message):
        load_dataset("shd", root=tmp_path)


def test_what_is_missing_or_broken_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'shd' needs a data root .* unpack"):
        load_dataset("shd")
    with pytest.raises(InputError, match="no test files of 'shd' in data root .* unpack"):
        load_dataset("shd", root=tmp_path)
    (tmp_path / "shd_test.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="cannot read spikes from"):
        load_dataset("shd", root=tmp_path)
    write(tmp_path, [[0.1]], [[0]], [0])
    with pytest.raises(InputError, match="at most 700 channels, not 701"):
        load_dataset("shd", root=tmp_path, size=701)
