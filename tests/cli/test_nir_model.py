"""`--model net.nir`: a network from a NIR file is judged from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robust_snn import cli

nir = pytest.importorskip("nir", reason="needs the extra nir")

EVALUATE = "evaluate --model net.nir --data digits -n 4 --suite quick --eps 0.1 --out out"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NIR file for digits, in the working folder."""
    monkeypatch.chdir(tmp_path)
    weight = np.random.default_rng(0).normal(0, 0.5, (10, 64))
    neuron = nir.LIF(*(np.full(10, value) for value in (5e-4, 2.0, 0.0, 0.3)))
    layers = [nir.Linear(weight), neuron]
    nir.write("net.nir", nir.NIRGraph.from_list(layers))


def run(words: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(words.split())
    return int(left.value.code or 0)


@pytest.mark.usefixtures("file")
def test_a_nir_file_is_judged() -> None:
    arguments = [f"--model-kwargs {a}" for a in ("T=4", "scheme=euler", "dt=1e-4")]
    assert run(" ".join([EVALUATE, *arguments])) == 0
    verdict = json.loads(Path("out", "verdict.json").read_text())
    assert verdict["model"]["name"] == "net.nir"
    assert verdict["model"]["kwargs"] == {"T": 4, "scheme": "euler", "dt": 1e-4}


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model-kwargs T=4", "name the scheme"),
        ("--model-kwargs scheme=norse", "T=..."),
        ("--checkpoint weights.safetensors", "weights"),
        ("--model-kwargs width=4", "width"),
    ],
)
def test_what_a_nir_file_needs_is_asked_for(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{EVALUATE} {words}") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
