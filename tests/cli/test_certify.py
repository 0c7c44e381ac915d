"""`robust-snn certify`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robust_snn.cli import main

NET = ["--model", "snn_vgg5.digits"]
DATA = ["--data", "digits", "-n", "3", "--quiet"]


def certify(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["certify", *words])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    "how",
    [["--eps", "1/2550", "--nodes", "0"], ["--noise", "gaussian(sigma=0.1)", "--draws", "30"]],
)
def test_certificates_are_written_and_kept(
    tmp_path: Path, how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path)]
    assert certify(*NET, *DATA, *how, *out) == 0
    first = capsys.readouterr().out
    rows = (tmp_path / "certificates.csv").read_text()
    assert len(rows.splitlines()) == 4
    assert "result" in json.loads((tmp_path / "certificate.json").read_text())
    assert certify(*NET, *DATA, *how, *out) == 0
    assert capsys.readouterr().out == first
    assert (tmp_path / "certificates.csv").read_text() == rows
    assert certify(*NET, *DATA, *how, *out, "--seed", "1") == 2
    assert "seed: 0, now 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ([], "say what to certify"),
        (["--eps", "0.1", "--noise", "rate"], "say what to certify"),
        (["--eps", "0.1", "--draws", "10"], "--draws serves --noise"),
        (["--noise", "rate"], "codes no pixels as random spikes"),
        (["--eps", "much"], "much"),
        (["--eps", "-0.1"], "positive"),
        (["--eps", "0.1", "--nodes", "-1"], "nodes must be at least 0"),
        (["--eps", "0.1", "--nodes", "99999999999"], "nodes must be at most"),
        (["--noise", "gaussian", "--draws", "0"], "draws must be at least 1"),
        (["--noise", "gaussian", "--draws", "5"], "5 draws certify nothing"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path, how: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert certify(*NET, *DATA, *how, "--out", str(tmp_path / "run")) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
