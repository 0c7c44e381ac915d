"""Compiles the Triton kernels ahead of time and writes what came out.

python benchmarks/static_kernels.py --out benchmarks/static.csv
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from provenance import write_rows

from robust_snn.kernels.static import CASES, TARGETS, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--out", default="static.csv")
    options = parser.parse_args()
    rows = [
        asdict(report(kernel, case, target, steps))
        for case in CASES
        for kernel in ("forward", "backward")
        for target in TARGETS
        for steps in options.steps
    ]
    write_rows(options.out, rows)


if __name__ == "__main__":
    main()
