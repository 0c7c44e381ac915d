"""What the suites beyond images in a ball leave of two networks, and what attacks cost in joules.

    python studies/threat_suites.py --out runs/threats

The packaged VGG-5 of the digits, plain and gated. Suites run whole, with the options in `SUITES`;
`per-step` gets every digit as a sequence of four frames. Suite `energy` also runs on the plain
network with an early exit. A killed run resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import timm
import torch

from robust_snn import evaluate
from robust_snn.data import load_dataset
from robust_snn.eval import Verdict

NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("snn_vgg5.digits", {}),
    "gated": ("snn_vgg5_stog.digits", {}),
    "early exit": ("snn_vgg5.digits", {"early_exit": "confidence(at=0.9)"}),
}
EPS, FRAMES = 0.1, 4
SUITES: dict[str, tuple[int, dict[str, Any]]] = {  # images, options
    "common-corruptions": (100, {}),
    "spatial": (50, {}),
    "patch": (50, {"eps": 16}),
    "universal": (200, {"eps": EPS}),
    "per-step": (30, {"eps": EPS}),
    "known-noise": (8, {"eps": EPS}),
    "persistent": (8, {"eps": EPS}),
    "energy": (32, {"eps": EPS}),
}


def run(net_name: str, suite: str, out: Path) -> Verdict:
    name, kwargs = NETS[net_name]
    count, options = SUITES[suite]
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=True, **kwargs).eval()
    data = load_dataset("digits", n=count)
    images = data.images
    if suite == "per-step":
        images = images[:, None].repeat(1, FRAMES, 1, 1, 1)
    folder = out / f"{suite}-{net_name.replace(' ', '-')}"
    return evaluate(net, images, data.labels, suite=suite, out=folder, report=False, **options)


def percent(value: float, ci: tuple[float, float]) -> str:
    return f"{value:.1%} ({ci[0] * 100:.0f}-{ci[1] * 100:.0f})"


def lines(verdict: Verdict) -> list[str]:
    """Clean accuracy, every attack alone and the worst case, with what each cost."""
    n = verdict.data["n"]
    clean, robust = verdict.clean, verdict.robust
    rows = [f"clean, {n} images | {percent(clean.accuracy, clean.ci)} | | |"]
    for a in verdict.attacks:
        spent = f"{a.backwards / n:,.0f} | {a.forwards / n:,.0f} | {a.seconds:,.0f}"
        rows.append(f"{a.name} | {percent(a.accuracy, a.ci)} | {spent}")
    rows.append(f"worst case | {percent(robust.accuracy, robust.ci)} | | |")
    rows += [
        f"right in {t.tries} tries | {percent(t.accuracy, t.ci)} | | |" for t in robust.in_every_try
    ]
    return rows


def joules(verdict: Verdict) -> list[str]:
    assert verdict.energy is not None
    rows = []
    for r in verdict.energy.rows:
        assert r.factor is not None and r.factor_ci is not None  # images cost something
        low, high = r.factor_ci
        factor = f"{r.factor:.2f} ({low:.2f}-{high:.2f})"
        rows.append(f"{r.name} | {r.joules * 1e6:.3f} uJ | {factor} | {r.steps:.2f} steps")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/threats"))
    parser.add_argument("--only", nargs="*", choices=SUITES, default=list(SUITES))
    asked = parser.parse_args()
    for suite in asked.only:
        for net in NETS:
            noiseless = net != "gated" and suite in ("known-noise", "persistent")
            if noiseless or (net == "early exit" and suite != "energy"):
                continue
            verdict = run(net, suite, asked.out)
            print(f"\n{suite}, {net}, {verdict.seconds:,.0f} s")
            for line in lines(verdict) + (joules(verdict) if verdict.energy else []):
                print(f"| {line} |", flush=True)


if __name__ == "__main__":
    main()
