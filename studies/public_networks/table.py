"""The table of docs/public-networks.md: networks of public codebases through the whole product.

PUBLIC_NETWORKS=FOLDER python studies/public_networks/table.py --out runs/public [NAME ...]

Every network is measured in a process of its own with a time limit (`measure.py`), and evaluated by
the command `robust-snn evaluate --model FILE:NAME`. What is there already is not run again. After
every network `table.csv` holds the table so far, and `table.md` its form for the page.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import library_neurons
import own_neurons
import states_in_tables
import transformers
from codebases import CODEBASES

HERE = Path(__file__).parent
PLACES = (transformers, own_neurons, library_neurons, states_in_tables)
SUITES = ("quick", "adaptive-small")
COLUMNS = ("network", "commit", "class", "T", "logits", "sites", "own", "same surrogate")
COLUMNS += ("modes", "torchattacks, ART, AutoAttack", *SUITES, "refused")
MODES = 8  # own included


def run(command: list[str], log: Path, limit: int) -> bool:
    """Runs a command with a time limit; what it prints goes to a file. Whether it succeeded."""
    with log.open("w") as stream:
        try:
            subprocess.run(command, stdout=stream, stderr=stream, timeout=limit, check=True)
        except subprocess.TimeoutExpired:
            stream.write(f"\nstopped after {limit} s\n")
            return False
        except subprocess.CalledProcessError:
            return False
    return True


def measured(name: str, data: str, out: Path, limit: int) -> dict[str, Any]:
    """What `measure.py` says of a network, or how it ended."""
    target = out / f"{name}.json"
    command = [sys.executable, str(HERE / "measure.py"), name, "--data", data, "--out", str(out)]
    if not target.exists() and not run(command, target.with_suffix(".log"), limit):
        return {"name": name, "adapt: crashed": last_line(target.with_suffix(".log"))}
    return json.loads(target.read_text())


def evaluated(name: str, suite: str, out: Path, limit: int) -> str:
    """The verdict of a suite in a few words, or how it ended."""
    folder = out / name / suite
    folder.mkdir(parents=True, exist_ok=True)
    place = next(p for p in PLACES if hasattr(p, name))
    adapt = ",".join(f"{key}={str(value).lower()}" for key, value in CODEBASES[name].adapt.items())
    command = [str(Path(sys.executable).parent / "robust-snn"), "evaluate", "--quiet"]
    command += ["--model", f"{place.__file__}:{name}", "--data", str(out / f"{name}.npz")]
    command += ["--suite", suite, "--out", str(folder), "--threads", "1"]
    command += ["--adapt", adapt] if adapt else []
    log = out / f"{name}-{suite}.log"
    if not (folder / "verdict.json").exists() and not run(command, log, limit):
        return f"failed: {last_line(log)}"
    verdict = json.loads((folder / "verdict.json").read_text())
    failed = [d["name"] for d in verdict["diagnostics"] if d["status"] == "fail"]
    robust = f"{verdict['robust']['accuracy']:.2f}"
    return robust + (f" ({'; '.join(failed)} failed)" if failed else "")


def cell(row: dict[str, Any], column: str) -> str:
    """What the page shows: of a suite on random weights, that it finished."""
    value = str(row[column])
    if column in SUITES and row["modes"] != "refused":
        return "yes" if value[:1].isdigit() else value or "not run"
    return value


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def row_of(found: dict[str, Any], suites: dict[str, str]) -> dict[str, Any]:
    """The row of a network in the table."""
    codebase = CODEBASES[found["name"]]
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {"network": f"{found['name']} ({codebase.repository})", "commit": codebase.commit}
    row |= {"class": found.get("class", ""), "T": codebase.T}
    why = found.get("adapt: refused") or found.get("adapt: crashed")
    if why:
        return row | {"modes": "refused", "refused": why}
    row["refused"] = refusals(found)
    row["logits"] = shown(found, "logits")
    row["sites"] = found["sites"]
    row["own"] = shown(found, "own gradient")
    row["same surrogate"] = shown(found, "same surrogate")
    row["modes"] = "all" if len(found["modes"]) == MODES else ", ".join(found["modes"]) or "none"
    attacks = [shown(found, library) for library in ("torchattacks", "art", "autoattack")]
    row["torchattacks, ART, AutoAttack"] = ", ".join(
        "yes" if a[0].isdigit() else a for a in attacks
    )
    return row | suites


def refusals(found: dict[str, Any]) -> str:
    """Why modes are not taken, each reason once."""
    reasons: dict[str, list[str]] = {}
    for mode, reason in found["refused"].items():
        reasons.setdefault(reason.removeprefix(f"{mode} "), []).append(mode)
    for mode, neurons in found["missed"].items():
        name, reason = next(iter(neurons.items()))
        reasons.setdefault(f"does not reach {name} ({reason})", []).append(mode)
    return "; ".join(f"{', '.join(modes)} {reason}" for reason, modes in reasons.items())


def shown(found: dict[str, Any], name: str) -> str:
    """A number in two digits, or why there is none."""
    if found.get(name) is not None:
        return f"{found[name]:.1e}" if found[name] else "0"
    return found.get(f"{name}: refused") or found.get(f"{name}: crashed") or "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(CODEBASES))
    parser.add_argument("--data", default="cifar10", help="CIFAR-10, for networks of colour images")
    parser.add_argument("--out", type=Path, default=Path("runs/public"))
    parser.add_argument("--limit", type=int, default=900, help="seconds of one process")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows = []
    for name in arguments.names:
        found = measured(name, arguments.data, arguments.out, arguments.limit)
        usable = (arguments.out / f"{name}.npz").exists()
        suites = [(suite, arguments.out, arguments.limit) for suite in SUITES if usable]
        rows.append(row_of(found, {suite[0]: evaluated(name, *suite) for suite in suites}))
        print(rows[-1], flush=True)
        write(rows, arguments.out)


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """Writes the table."""
    with (out / "table.csv").open("w") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (out / "table.md").write_text(page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    """The table, and below it what is refused and why, as Markdown."""
    lines = [COLUMNS[:-1], ["---"] * (len(COLUMNS) - 1)]
    lines += [[cell(row, column) for column in COLUMNS[:-1]] for row in rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    refused = [f"* {row['network'].split()[0]}: {row['refused']}" for row in rows if row["refused"]]
    return "\n".join([table, "", *refused, ""])


if __name__ == "__main__":
    main()
