"""Pages in a headless Chromium, where there is one."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def after_script(page: str, folder: Path, width: int, script: str) -> str:
    """What a script returns of a page in a frame of the given width; `page` is its document."""
    framed = html.escape(page.replace("http-equiv", "data-equiv", 1))  # a frame inherits no policy
    (folder / "frame.html").write_text(
        f"""<!doctype html><title></title>
        <iframe width="{width}" height="900" style="border:0" srcdoc="{framed}"></iframe>
        <script>
        const run = (page) => {{ {script} }};
        addEventListener("load", () => {{
          document.title = "found " + run(document.querySelector("iframe").contentDocument);
        }});
        </script>"""
    )
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=5000",
            "--window-size=1400,1000",
            "--dump-dom",
            (folder / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search("<title>found (.*?)</title>", done.stdout)
    assert title is not None, done.stderr[-500:]
    return html.unescape(title[1])
