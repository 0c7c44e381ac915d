"""Published numbers: every file fits its suite, and comes up for the paper's models only."""

from __future__ import annotations

import csv
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
import timm

from robust_snn.eval import load_suite
from robust_snn.eval.reporting.published import published_results
from robust_snn.eval.reporting.terminal import render_published
from verdicts import a_verdict

FOLDER = files("robust_snn.eval.protocol") / "suites" / "published"
NAMES = sorted(entry.name.removesuffix(".csv") for entry in FOLDER.iterdir())


def lines(name: str) -> tuple[str, list[dict[str, str]]]:
    source, *rows = (FOLDER / f"{name}.csv").read_text().splitlines()
    return source, list(csv.DictReader(rows))


@pytest.mark.parametrize("name", NAMES)
def test_files_fit_their_suites(name: str) -> None:
    suite, (source, rows) = load_suite(name), lines(name)
    assert source.startswith("# ") and suite.independent
    columns = ["table", "setting", "data", "model", "clean", *(row.name for row in suite.attacks)]
    assert rows and all(list(row) == columns for row in rows)
    for row in rows:
        assert timm.is_model(row["model"])
        assert all(0 <= float(row[c]) <= 100 for c in columns[4:] if row[c])


def stable(**model: Any) -> Any:
    verdict = a_verdict(suite="stable-table1", attacks=["fgsm", "pgd-7"])
    kwargs = {"num_classes": model.pop("classes", 10)}
    return replace(verdict, model={**verdict.model, "kwargs": kwargs, **model})


def test_the_paper_s_own_model() -> None:
    known = published_results(stable(name="snn_vgg11_dlif"))
    assert known is not None and "ICML 2024" in known.source
    best = next(row for row in known.rows if row.setting == "DLIF, VGG11, AT+Reg, rho=1")
    assert best.table == "Table 1"
    assert (best.values["clean"], best.values["pgd-7"]) == (0.8891, 0.4030)  # spec 12.1
    hundred = published_results(stable(name="snn_vgg11_dlif", classes=100))
    assert hundred is not None and hundred.rows[0].values["clean"] == 0.7079


@pytest.mark.parametrize(
    "change",
    [{"name": "snn_vgg11_nlif"}, {"name": "snn_vgg11_dlif", "classes": 7}],
)
def test_other_models_have_none(change: dict[str, Any]) -> None:
    assert published_results(stable(**change)) is None


def test_other_suites_and_data_have_none() -> None:
    verdict = stable(name="snn_vgg11_dlif")
    assert published_results(replace(verdict, suite="quick")) is None
    assert published_results(replace(verdict, data={**verdict.data, "name": "digits"})) is None


@pytest.mark.parametrize(
    ("change", "compared"),
    [
        ({}, True),
        ({"suite": "stable-table1(draws=5)"}, True),
        ({"suite": "stable-table1(steps=5)"}, False),
        ({"suite": "stable-table1(draws=5, steps=5)"}, False),
        ({"threat": {"norm": "Linf", "eps": 4 / 255}}, False),
        ({"threat": {"norm": "L2", "eps": 8 / 255}}, False),
    ],
)
def test_other_settings_are_not_the_papers(change: dict[str, Any], compared: bool) -> None:
    verdict = replace(stable(name="snn_vgg11_dlif"), **change)
    assert (published_results(verdict) is not None) is compared


def test_columns_beside_ours() -> None:
    verdict = stable(name="snn_wrn16")
    known = published_results(verdict)
    assert known is not None
    table = render_published(verdict, known)
    assert [column.header for column in table.columns][1:] == ["clean", "fgsm", "pgd-7"]
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows[0] == ("measured here", "90.0", "50.0", "40.0")
    assert rows[1] == ("LIF, WRN16, Natural (Table 1)", "94.28", "12.80", "0.00")
