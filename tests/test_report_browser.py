"""Reports in headless Chromium: nothing is asked of a network, nothing goes wrong, a phone and a desk can read them.

Chromium is driven by its command line alone: it loads the page, runs a probe that the test appends to a copy of the
page, and prints the document.
"""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mddes.pages import write_report

BROWSER = next(filter(None, (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
)
# What the page is like once it is laid out, and after a table was sorted twice; written into the document's title.
PROBE = """<script>
const root = document.documentElement, images = [...document.images];
const table = [...document.querySelectorAll("table")].find((t) => t.tBodies[0].rows.length > 2);
const first = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const before = first(), head = table.querySelector("th");
head.click(); const up = first(); head.click(); const down = first();
parent.document.title = JSON.stringify({
  width: root.scrollWidth, window: innerWidth, loaded: images.every((i) => i.complete && i.naturalWidth > 0),
  small: Math.min(...[...document.querySelectorAll("p,td")].map((e) => parseFloat(getComputedStyle(e).fontSize))),
  asked: performance.getEntriesByType("resource").map((e) => e.name).filter((name) => !name.startsWith("data:")),
  before, up, down, paper: getComputedStyle(document.body).backgroundColor, scripts: document.scripts.length,
});
</script>"""

WIDTHS = (360, 1440)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def page(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report's folder, whose name is an attack; in it the page with a probe, in frames of each width."""
    folder = tmp_path_factory.mktemp("browser") / "run <script>document.title=1<" / "x"
    folder.parent.mkdir()
    shutil.copytree(finished.run_dir, folder)
    config = (folder / "config.toml").read_text()
    assert 'model = "graynet"' in config
    path = write_report(folder)
    text = path.read_text()
    probed = html.escape(text.replace("</body>", f"{PROBE}</body>"))
    for width in WIDTHS:  # in a frame, since a headless window is at least 500 wide
        frame = f'<iframe width="{width}" height="900" style="border:0" srcdoc="{probed}"></iframe>'
        (folder / f"probed{width}.html").write_text(f'<!doctype html><meta charset="utf-8"><title>0</title>{frame}')
    return folder


def visit(page: Path, profile: Path, *flags: str) -> tuple[dict[str, Any], list[str]]:
    """Return what the probe found, and what the console said."""
    assert BROWSER
    command = [BROWSER, *FLAGS, *flags, f"--user-data-dir={profile}", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert found
    probe = json.loads(found.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return probe, console


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_is_read_at_any_width_without_a_network(page: Path, tmp_path: Path, width: int) -> None:
    probe, console = visit(page / f"probed{width}.html", tmp_path, "--window-size=1500,1000")
    assert console == []
    assert probe["asked"] == []
    assert probe["loaded"]
    assert probe["width"] <= probe["window"], "the page does not scroll sideways; wide tables do, within themselves"
    assert probe["window"] == width
    assert probe["small"] >= 12
    assert probe["scripts"] == 2, "the page's own and the probe: nothing of the folder's name ran"
    assert probe["up"] == sorted(probe["before"]) != probe["before"]
    assert probe["down"] == probe["up"][::-1]


def test_a_report_has_a_night_side(page: Path, tmp_path: Path) -> None:
    day, _ = visit(page / "probed1440.html", tmp_path / "day")
    night, _ = visit(page / "probed1440.html", tmp_path / "night", "--blink-settings=preferredColorScheme=0")
    assert sum(map(int, re.findall(r"\d+", day["paper"])[:3])) > 700
    assert sum(map(int, re.findall(r"\d+", night["paper"])[:3])) < 120
