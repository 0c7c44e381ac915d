"""Input that once gave a wrong number, or cost the work, by the kinds of `docs/wrong-numbers.md`.

Every case ends in one line and exit code 2 before anything is written. At least ten of each kind.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from refusals import refused
from robust_snn.training import save_checkpoint
from runs import finished_run
from verdicts import a_verdict

KWARGS = {"T": 1, "width": 0.1, "head_width": 8, "img_size": 8, "in_chans": 1, "num_classes": 10}
ARGUMENTS = " ".join(f"{name}={value}" for name, value in KWARGS.items())
DATA = "--data digits -n 4 --threads 1 --device cpu"
MODEL = f"--model snn_vgg5 --model-kwargs {ARGUMENTS}"
EVALUATE = f"evaluate {MODEL} {DATA} --out out"
RGB = "evaluate --model snn_vgg5 --threads 1 --out out --data"
ROW = "{name: a, implementation: autoattack, attack: square, steps: 2}"
SPOILT: dict[str, Any] = {
    "nan": lambda weight: weight * torch.nan,
    "infinite": lambda weight: weight + torch.inf,
    "int8": lambda weight: weight.to(torch.int8),
    "complex": lambda weight: weight.to(torch.complex64),
    "float8": lambda weight: weight.to(torch.float8_e4m3fn),
    "shape": lambda weight: weight[..., :1].contiguous(),
}
CARDS: dict[str, Any] = {
    "T-half": {"T": 1.5},
    "T-none": {"T": 0},
    "T-endless": {"T": 10**9},
    "classes": {"num_classes": 0},
    "narrow": {"width": 0},
    "stranger": {"colour": 2},
    "idle": {"membrane_noise": "gaussian(sigma=0.3)"},
    "nowhere": {"device": "meta"},
}
ROWS: dict[str, dict[str, Any]] = {
    "met-more": {"images": 101},
    "met-half": {"images": 1.5},
    "claims-more": {"claimed": 1.5},
    "outside": {"accuracy": 0.9},
    "outside-after": {"after": 0.9, "after_ci": [0.1, 0.2]},
    "after-alone": {"after": 0.5, "after_ci": None},
    "upside-down": {"ci": [0.6, 0.4]},
    "no-draws": {"eot": 0},
    "no-mode": {"gradient": "bptx"},
    "negative": {"backwards": -1},
    "nameless": {"name": 3},
}
VERDICTS: dict[str, tuple[str, Any]] = {
    "chance": ("robust.accuracy", "0.5"),
    "below-0": ("robust.asr", -0.1),
    "above-1": ("clean.vote", 1.2),
    "no-images": ("data.n", 0),
    "no-draw": ("draws.report", 0),
    "infinite-radius": ("threat.eps", 1e999),
    "text-radius": ("threat.eps", "8/255"),
    "norm-7": ("threat.norm", "L7"),
    "perhaps": ("stochastic", "yes"),
    "schema-2": ("schema", 2),
}
SUITES = {
    "l2": f"{{name: a, norm: L2, attacks: [{ROW}]}}",
    "l2-tiny": f"{{name: a, norm: L2, eps: 0.0314, attacks: [{ROW}]}}",
    "bytes": f"{{name: a, eps: 8, attacks: [{ROW}]}}",
    "part": f"{{name: a, norm: L0, eps: 0.5, attacks: [{ROW}]}}",
    "swept": f"{{name: a, eps: 0.1, attacks: [{ROW}], sweep: {{eps: [0, 8]}}}}",
    "bomb": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
    ),
    "deep": "[" * 200 + "]" * 200,
    "date": "{name: 2026-01-02, attacks: []}",
    "two-names": f"{{name: a, name: b, attacks: [{ROW}]}}",
    "events": "{name: a, attacks: [{name: a, implementation: events, attack: event-pgd}]}",
    "l0-pgd": "{name: a, norm: L0, eps: 9, attacks: "
    "[{name: a, implementation: robust_snn, attack: pgd}]}",
    "source": "{name: a, attacks: [{name: a, implementation: robust_snn, attack: transfer, "
    "options: {source: checkpoint}}]}",
    "half-step": f"{{name: a, attacks: [{ROW.replace('steps: 2', 'steps: 1.5')}]}}",
    "no-images": "{name: a, attacks: [{name: a, implementation: images, attack: gone.npz}]}",
    "no-function": "{name: a, attacks: [{name: a, implementation: robust_snn, attack: gone.py:f}]}",
    "no-loss": "{name: a, attacks: [{name: a, implementation: robust_snn, attack: pgd, "
    "options: {loss: crossentropy}}]}",
    "second": f"{{name: a, attacks: [{ROW}, {{name: b, implementation: autoattack, attack: "
    "apgd-ce, gradient: bptt(surrogate=atn)}]}",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad files, which all cases share: none may change it."""
    here = tmp_path_factory.mktemp("place")
    for name, text in SUITES.items():
        (here / f"{name}.yaml").write_text(text)
    (here / "latin.yaml").write_bytes("{name: é}".encode("latin-1"))
    os.mkfifo(here / "pipe.yaml")
    _weights(here)
    _verdicts(here)
    _images(here)
    return here


def _weights(here: Path) -> None:
    net = timm.create_model("snn_vgg5", **KWARGS)
    save_checkpoint(
        net, here / "good.safetensors", {"model": {"name": "snn_vgg5", "kwargs": KWARGS}}
    )
    weights: dict[str, Tensor] = net.state_dict()
    first = next(iter(weights))
    variance = next(name for name in weights if name.endswith("running_var"))
    changed = {name: {**weights, first: spoil(weights[first])} for name, spoil in SPOILT.items()}
    changed["variance"] = {**weights, variance: -1 - weights[variance]}
    changed["escape"] = {**weights, "\x1b[2J": weights[first]}
    for name, state_dict in changed.items():
        torch.save(state_dict, here / f"{name}.pth")
        (here / f"{name}.json").write_text((here / "good.json").read_text())
    for name, card in CARDS.items():
        (here / f"{name}.safetensors").write_bytes((here / "good.safetensors").read_bytes())
        tree = json.loads((here / "good.json").read_text())
        tree["model"]["kwargs"] |= card
        (here / f"{name}.json").write_text(json.dumps(tree))


def _verdicts(here: Path) -> None:
    right = np.ones((3, 1), bool)
    for name in ("run", "flipped", "other-curve", "other-answers"):
        finished_run(here / name, right)
    text = (here / "flipped" / "verdict.json").read_text()
    (here / "flipped" / "verdict.json").write_text(text.replace('"seconds": 1.0', '"seconds": 9.0'))
    finished_run(here / "wrong", ~right)
    (here / "other-answers" / "results.npz").write_bytes((here / "wrong/results.npz").read_bytes())
    for name, change in ROWS.items():
        tree = a_verdict().to_dict()
        tree["attacks"][1] |= change
        (here / f"{name}.json").write_text(json.dumps(tree))
    for name, (where, value) in VERDICTS.items():
        tree = a_verdict().to_dict()
        part, _, key = where.rpartition(".")
        (tree[part] if part else tree)[key] = value
        (here / f"{name}.json").write_text(json.dumps(tree))
    (here / "nested.json").write_text('{"a":' * 2000 + "1" + "}" * 2000)


def _images(here: Path) -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 99, 200)]

    def good(folder: str) -> Path:
        for name in ("cat", "dog"):
            (here / folder / name).mkdir(parents=True)
            Image.new("RGB", (8, 8), "red").save(here / folder / name / "0.png")
        return here / folder

    for ending in ("gif", "tif", "png"):
        pages = {"save_all": True, "append_images": frames[1:]}
        frames[0].save(good(f"{ending}-pages") / "cat" / f"x.{ending}", **pages)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(good("deep-grey") / "cat" / "x.png")
    frames[0].save(good("loose") / "x.png")
    (good("more") / "cat" / "more").mkdir()
    frames[0].save(here / "more" / "cat" / "more" / "x.png")
    (good("unfilled") / "bird").mkdir()
    (good("nothing") / "cat" / "x.png").touch()
    for split in ("train", "val"):
        good(f"no-test/{split}")
    whole = (good("cut") / "cat" / "0.png").read_bytes()
    (here / "cut" / "cat" / "0.png").write_bytes(whole[: len(whole) // 2])
    pixels = np.zeros((4, 3, 8, 8), np.uint8)
    pixels[0] = 1
    np.savez(here / "binary.npz", images=pixels, labels=np.arange(4))
    with tarfile.open(here / "escape.tar", "w") as tar:
        for name in ("cat/\x1b[2J.png", "dog/a.png"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"none"))


CASES = [
    # 5: norms have radii
    *(
        (5, f"{EVALUATE} {words}", message)
        for words, message in {
            "--norm L2": "norm L2 needs an eps of its own",
            "--norm L1": "norm L1 needs an eps of its own",
            "--norm L0": "norm L0 needs an eps of its own",
            "--norm L2 --eps 8/255": "8/255, a radius in Linf",
            "--norm L1 --eps 8/255": "usual is 12 in L1",
            "--norm L0 --eps 0.5": "a number of entries",
            "--norm L2 --eps 100": "allows any image",
            "--norm L0 --eps 10000": "allows any image",
            "--eps 255": "leaves nothing",
            "--sweep eps=0.1,8": "did you mean 8/255",
            "--norm L2 --eps 0.5 --sweep eps=8/255": "8/255, a radius in Linf",
            "--norm L2 --suite autoattack-standard": "needs an eps of its own",
            "--norm Linf --suite part.yaml": "needs an eps of its own",
            "--suite l2.yaml": "hardly a change",
            "--suite l2-tiny.yaml": "hardly a change",
            "--suite bytes.yaml": "did you mean 8/255",
            "--suite swept.yaml": "did you mean 8/255",
        }.items()
    ),
    (5, f"diagnose {MODEL} {DATA} --norm L2", "norm L2 needs an eps of its own"),
    (5, f"diagnose {MODEL} {DATA} --eps 8", "did you mean 8/255"),
    (5, f"certify {MODEL} {DATA} --out c --eps 8", "did you mean 8/255"),
    (5, f"train {MODEL} {DATA} --out t --recipe at --eps 8", r"must be in \[0, 1\], got 8"),
    # 6: what a table says of its rows
    *((6, f"leaderboard {name}.json", "not a verdict of schema 1") for name in ROWS),
    # 7: checkpoints
    *(
        (7, f"evaluate --checkpoint {name} {DATA} --out out", message)
        for name, message in {
            **{f"{name}.pth": name for name in SPOILT},
            "variance.pth": "variances below 0",
            "T-half.safetensors": "T must be a whole number",
            "T-none.safetensors": "T must be at least 1",
            "T-endless.safetensors": "T=1000000000 is beyond",
            "classes.safetensors": "unexpected 'fc.bias'",
            "narrow.safetensors": "width must be above 0",
            "stranger.safetensors": "unknown argument of the model 'colour'",
            "idle.safetensors": "membrane_noise is an argument of 'nlif'",
            "nowhere.safetensors": "must be cpu, cuda or auto, got 'meta'",
            "good.safetensors --model-kwargs T=3": "was trained with T=1",
            "good.safetensors --model snn_vgg11": "is a snn_vgg5",
        }.items()
    ),
    (7, f"{EVALUATE} --model-kwargs membrane_noise=gaussian", "argument of 'nlif'"),
    (7, f"{EVALUATE} --model-kwargs dlif_form=input", "argument of 'dlif'"),
    (7, f"{EVALUATE} --model-kwargs gate_rule=released", "argument of 'stog'"),
    (7, f"{EVALUATE} --model-kwargs std=0", "std needs one number per channel"),
    # 8: verdicts and results that are read
    *((8, f"leaderboard {name}.json", "not a verdict of|no.* a JSON number") for name in VERDICTS),
    *(
        (8, words, "has changed since it was written")
        for words in ("leaderboard flipped", "compare flipped run", "report flipped")
    ),
    (8, "submit flipped", "has changed since it was written"),
    (8, "compare run other-answers", "says clean.accuracy|says robust.accuracy"),
    (8, "leaderboard other-answers", "says clean.accuracy|says robust.accuracy"),
    # 10: what is left out
    *(
        (10, f"{RGB} {name}", message)
        for name, message in {
            "gif-pages": "it holds 3 pictures",
            "tif-pages": "it holds 3 pictures",
            "png-pages": "it holds 3 pictures",
            "deep-grey": "8 bits per channel",
            "loose": "at different depths",
            "more": "at different depths",
            "no-test": "at different depths",
            "unfilled": "no images in class folder 'bird'",
            "nothing": "cannot read image 'cat/x.png'",
            "cut": "cannot read image 'cat/0.png'",
            "binary.npz": "bytes of 0 and 1",
        }.items()
    ),
    # 11: wrong before the first attack
    *(
        (11, f"{EVALUATE} --suite {name}.yaml", message)
        for name, message in {
            "date": "name",
            "two-names": "name",
            "events": "event",
            "l0-pgd": "knows no norm L0",
            "source": "--source-checkpoint",
            "half-step": "whole number",
            "no-images": "gone.npz",
            "no-function": "gone.py",
            "no-loss": "loss",
            "second": "did you mean 'atan'",
            "latin": "cannot read the suite",
        }.items()
    ),
    (11, f"{EVALUATE} --workers 100000", "workers must be at most"),
    # 14: other people's names and texts
    *(
        (14, f"{EVALUATE} --suite {name}.yaml", message)
        for name, message in {
            "bomb": "aliases|values",
            "deep": "nests too deeply|deep",
            "pipe": "pipe",
        }.items()
    ),
    (14, f"evaluate --checkpoint escape.pth {DATA} --out out", r"unexpected '\\x1b\[2J'"),
    (14, f"{RGB} escape.tar", "cannot read image"),
    (14, "leaderboard nested.json", "nests too deeply"),
    (14, f"{EVALUATE} --device \x1b[2J", "--device must be"),
    (14, f"{EVALUATE} --model \x1b[2J", "unknown model"),
    (14, f"{EVALUATE} --data /dev/zero", "/dev/zero"),
    (14, f"{EVALUATE} --data pipe.yaml", "pipe.yaml"),
    (14, "report pipe.yaml", "pipe.yaml"),
]


def test_at_least_ten_of_each_kind() -> None:
    counts = Counter(kind for kind, _ in {case[:2] for case in CASES})
    assert set(counts) == {5, 6, 7, 8, 10, 11, 14} and min(counts.values()) >= 10


@pytest.mark.parametrize(
    ("words", "message"),
    [case[1:] for case in CASES],
    ids=[f"{case[0]}-{number:03d}" for number, case in enumerate(CASES)],
)
def test_it_is_refused_before_the_work(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    monkeypatch.chdir(place)
    before = {path.name for path in place.iterdir()}
    assert re.search(message, refused(words, capsys))
    assert {path.name for path in place.iterdir()} == before
