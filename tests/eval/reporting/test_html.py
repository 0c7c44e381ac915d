"""`report.html`: complete, offline, readable by machines that read aloud, and deaf to markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import after_script, needs_chromium
from robust_snn import InputError
from robust_snn.diagnostics import Diagnostic
from robust_snn.eval.execution.report_data import Masking, Pictures, Raster, ReportData
from robust_snn.eval.reporting.charts import short_label
from robust_snn.eval.reporting.html import render_page, write_report
from robust_snn.eval.reporting.page_templates import with_prefix
from robust_snn.eval.reporting.terminal import radius_text
from robust_snn.eval.scoring.curves import CurvePoint
from robust_snn.eval.scoring.gradient_checks import UNFOLLOWED
from robust_snn.eval.scoring.intervals import Estimate
from verdicts import a_verdict

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}$\\frac{$"


def report_data(classes: int = 3, images: int = 6, modes: bool = True) -> ReportData:
    rng = np.random.default_rng(0)
    clean = rng.random((2, 3, 8, 8)).astype(np.float32)
    return ReportData(
        labels=np.arange(images) % classes,
        clean=np.linspace(0.5, 1, images),
        robust=np.linspace(0, 0.9, images),
        pictures=Pictures(
            np.array([1, 4]),
            clean,
            np.clip(clean + 0.03, 0, 1),
            np.array([2, 0]),
            np.array([0, 1]),
        ),
        survivors=Pictures(np.array([5]), clean[:1], clean[:1], np.array([2]), np.array([-1])),
        raster=Raster(1, rng.random((2, 4, 3)) < 0.5, np.array([1, 1, 2, 2])),
        masking=Masking(
            "bptt",
            np.array([[-1.0, 0, 1], [-3, -2, 1], [-3, -2, -1], [-2, -2, -2]]),
            np.array([[1.0, 20], [0.9, 0.5]]),
            np.array([[1.0, 20], [0.2, 0.8]]),
            np.array(["bptr", "bptt"]),
            np.array([0.7, 0.25]),
            8,
        ),
        layers=np.array(["stages.0.act", "head.act"]),
        rates=np.array([[0.1, 0.2], [0.12, 0.19]]),
        costs=np.array([[2e4, 5.4e6, 1.7e6, 1.27e-5], [2e4, 5.5e6, 1.7e6, 1.3e-5]]),
        modes=np.array(["bptt", "bptr"] if modes else [], str),
        cosines=np.array([[1, 0.65], [0.65, 1]]) if modes else np.empty((0, 0)),
        sampled=6,
        missing=np.empty((0, 2), str),
    )


def points(values: list[Any]) -> tuple[CurvePoint, ...]:
    one = Estimate(0.5, (0.4, 0.6))
    return tuple(CurvePoint(value, one, one, {"apgd": one, "square": one}) for value in values)


def page(**changes: Any) -> str:
    return render_page(
        a_verdict(**changes),
        report_data(),
        {"eps": points([0.0, 4 / 255, 0.1]), "gradient": points(["bptt", "bptr"])},
        {"command": "robust-snn evaluate --out 'my run'", "classes": ["cat", "dog", "ship"]},
    )


class Outline(HTMLParser):
    """Headings, images, links and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(given)
        self.links += [given[key] or "" for key in ("src", "href") if key in given]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_says_everything() -> None:
    text = " ".join(Outline(page(status="warn")).text.split())
    for words in (
        "How robust is snn_vgg5_stog on images.tar?",
        "Robust accuracy 35.0%",
        "eps = 8/255",
        "1 of 1 diagnostics warn",
        "5 answers look noisy",
        "apgd",
        "180",  # passes per image
        "Over eps",
        "Over gradient",
        "0.65",
        "Convergence",
        "Over noise draws (EOT)",
        "of 8 images that are not scored",
        "Margin along the gradient",
        "Spikes of one image",
        "Image 5: ship, right in 90.0% of the draws; no attack changed it for the worse.",
        "12.7 µJ",
        "Image 1: dog, answered as ship under apgd.",
        "× 16.7",
        "robust-snn evaluate --out 'my run'",
        "backend numba",
        "ab" * 32,
    ):
        assert words in text, words


def test_headings_images_and_links() -> None:
    outline = Outline(page())
    assert outline.headings[0] == 1 and outline.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(outline.headings, outline.headings[1:], strict=False))
    assert len(outline.images) == 3 * 3 and outline.tags.count("svg") == 12
    assert all(image["alt"] and image["alt"].strip() for image in outline.images)
    assert outline.links and all(re.match("data:|#", link) for link in outline.links)
    assert "script" not in outline.tags


def test_every_string_is_escaped() -> None:
    verdict = a_verdict(attacks=[HOSTILE, "square"], suite=HOSTILE)
    verdict = replace(
        verdict,
        model={**verdict.model, "name": HOSTILE, "kwargs": {HOSTILE: HOSTILE}},
        data={**verdict.data, "name": HOSTILE, "split": HOSTILE},
        diagnostics=(Diagnostic(HOSTILE, 0.0, "fail", HOSTILE), Diagnostic("x", 0, HOSTILE, "")),
        environment={HOSTILE: HOSTILE},
    )
    known = replace(report_data(), layers=np.array([HOSTILE, "b"]))
    about = {"command": HOSTILE, "classes": [HOSTILE] * 3}
    html = render_page(verdict, known, {"eps": points([0.1])}, about)
    outline = Outline(html)
    assert "script" not in outline.tags
    assert all(set(image) == {"src", "alt"} for image in outline.images)
    assert "{{ 7*7 }}" in outline.text and "<script>alert(1)</script>" in outline.text


@pytest.mark.parametrize(
    ("found", "there", "missing"),
    [
        (None, "holds no record", "<h2>Spikes and energy"),
        (
            replace(report_data(), raster=Raster.none(), missing=np.array([["Rasters", "of <b>"]])),
            "<li>Rasters: of &lt;b&gt;</li>",
            "<h2>Spikes of one",
        ),
        (
            replace(report_data(), masking=Masking.none()),
            "<li>Robust accuracy by gradient mode: only adaptive suites",
            "<h2>Margin",
        ),
        (
            report_data(modes=False),
            "<li>Agreement of gradient modes: the network takes fewer",
            "<h2>Agreement",
        ),
        (
            replace(report_data(), layers=np.array([], str)),
            "<li>Spikes and energy: no spiking layer",
            "<h2>Spikes and energy",
        ),
        (report_data(), "<strong>Upper bound only.</strong>", "not fall</h2>\n<p>None"),
        (report_data(), "The table as LaTeX and CSV", "holds no record"),
        (report_data(classes=30, images=60), "of 30 classes", "holds no record"),
    ],
)
def test_sections_come_with_their_evidence(
    found: ReportData | None, there: str, missing: str
) -> None:
    html = render_page(a_verdict(), found)
    assert there in html and missing not in html and "<h2>Curves" not in html
    assert "robust_snn.evaluate(victim, images, labels, suite=&#39;quick&#39;" in html


def test_event_frames_are_shown_as_stills() -> None:
    frames = np.zeros((2, 4, 2, 8, 8), np.float32)
    frames[:, 1, 0, 2] = 3
    pictures = replace(report_data().pictures, clean=frames, adversarial=frames[:, ::-1].copy())
    html = render_page(a_verdict(), replace(report_data(), pictures=pictures))
    assert (
        "<h2>Adversarial examples</h2>" in html and "× 1<" in html
    )  # times moved, the mean did not


@pytest.mark.parametrize(
    ("status", "words"), [("pass", "All 1 diagnostics passed"), ("fail", "1 of 1 diagnostics fail")]
)
def test_trust(status: str, words: str) -> None:
    assert words in page(status=status)


def test_a_failure_of_a_gradient_that_no_attack_followed_says_so() -> None:
    note = Diagnostic("zero gradients under own", 1.0, "fail", f"all are zero{UNFOLLOWED}")
    html = page(diagnostics=(note,))
    assert "the network&#39;s own gradient alone" in html and "may have failed" not in html
    followed = replace(note, why="all are zero")
    assert "may have failed" in page(diagnostics=(note, followed))


def test_a_call_with_changes() -> None:
    html = render_page(a_verdict(suite="quick(norm=L2,steps=5)"))
    assert "suite=&#39;quick&#39;" in html and "norm=&#39;L2&#39;, steps=5, seed=0" in html


def test_writing_and_writing_again(tmp_path: Path) -> None:
    a_verdict().save(tmp_path / "verdict.json")
    report_data().save(tmp_path / "evidence.npz")
    first = write_report(tmp_path, command="robust-snn evaluate", classes=["a", "b", "c"])
    text = first.read_text()
    assert write_report(tmp_path) == first and first.read_text() == text
    assert "robust-snn evaluate" in text and len(text) < 500_000


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no verdict\.json"):
        write_report(tmp_path)
    a_verdict().save(tmp_path / "verdict.json")
    (tmp_path / "evidence.npz").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot read"):
        write_report(tmp_path)
    (tmp_path / "evidence.npz").unlink()
    (tmp_path / "about.json").write_text("[1")
    assert write_report(tmp_path).exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12.7e-6, "12.7 µ"), (5.4e6, "5.4 M"), (20_762, "20.8 k"), (3e-9, "3 n"), (7, "7")],
)
def test_amounts(value: float, text: str) -> None:
    assert with_prefix(value) == text


@pytest.mark.parametrize(
    ("eps", "text"), [(8 / 255, "8/255"), (0.1, "0.1"), (0, "0"), (0.5, "0.5"), (1, "1")]
)
def test_radii(eps: float, text: str) -> None:
    assert radius_text(eps) == text


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(scheme: int) -> None:
    css = (files("robust_snn.eval.reporting") / "templates" / "style.css").read_text()
    schemes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", schemes[scheme]))
    for name in ("ink", "soft", "pass", "warn", "fail", "link"):
        for ground in (colours["paper"], colours["tint"]):
            assert contrast(colours[name], ground) >= 4.5, name


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours (WCAG 2.1)."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 1280])
def test_in_a_browser_nothing_overflows_and_every_image_loads(tmp_path: Path, width: int) -> None:
    found = after_script(
        page(),
        tmp_path,
        width,
        """
        const images = [...page.images];
        return `${page.documentElement.scrollWidth} ${images.every((i) => i.naturalWidth > 0)}`;
        """,
    )
    assert found == f"{width} true"


def test_long_labels_are_told_apart() -> None:
    modes = [f"bptt rectangle(width={width})" for width in (0.5, 0.89, 1.6)]
    labels = [short_label(mode) for mode in modes]
    assert labels == ["bptt rectan…width=0.5)", "bptt rectan…idth=0.89)", "bptt rectan…width=1.6)"]
    assert short_label("x$") == "x\\$"
