"""Every page there is: of a real training, a drifted batch, names that mean harm, and two hundred columns."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markupsafe import Markup

from batchloop.container import report
from plumbing.browser.opened import Browser, start
from plumbing.engine_miniature import Miniature
from plumbing.pages import join
from plumbing.pages import page as made_page
from plumbing.test_engine_components import copy as copy  # noqa: PLC0414 - a fixture: the repository, trained

NAMES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "שם עמודה עם </title> באמצע",
    "\u202eevil\u202c {{ 7 * 7 }} &amp;",
    "long" * 75,
    "列の名前がとても長い場合でも表示される" * 4,
)
Pages = dict[str, Path]
FOLDERS = {
    "baseline": "LearnBaseline/report",
    "explainer": "LearnExplainer/report",
    "drift": "DetectDrift/drift",
    "explanations": "ExplainPredictions/explanations",
}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; without it these tests are skipped, on a developer's machine only."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        assert os.environ.get("CI") != "true", "CI needs Debian's chromium and chromium-driver"
        pytest.skip("no chromium and chromedriver on the path (Debian: apt-get install chromium chromium-driver)")
    running = start(chromium, driver)
    yield Browser(running)
    running.quit()


@pytest.fixture(scope="module")
def learned(browser: Browser, copy: Miniature) -> Pages:
    """The components' own pages; `browser` comes first: without one nothing is trained."""
    command = [sys.executable, "-m", "data.sample", "--rows", "2000", "--drift", "1", "--output", "data/drifted"]
    subprocess.run(command, cwd=copy.root, check=True, capture_output=True)
    copy.run("score", "--data", "data/drifted/production/customers.csv")
    return {name: copy.stored(f"**/{folder}/report.html")[-1] for name, folder in FOLDERS.items()}


@pytest.fixture(scope="session")
def made(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """Pages that no sample gives."""
    folder = tmp_path_factory.mktemp("pages")
    pages = {"hostile": folder / "hostile.html", "wide": folder / "wide.html"}
    pages["hostile"].write_text(hostile(), encoding="utf-8")
    pages["wide"].write_text(wide(), encoding="utf-8")
    return pages


@pytest.fixture
def page(name: str, request: pytest.FixtureRequest) -> Path:
    """The page of a test's `name`."""
    pages: Pages = request.getfixturevalue("learned" if name in FOLDERS else "made")
    return pages[name]


def hostile() -> str:
    """Every part of a page, with the names that mean harm."""
    sections = [(name, name, charts(name)) for name in NAMES]
    return made_page(" ".join(NAMES[:4]), ("Drift", "bad", NAMES[4], NAMES[0]), sections)


def charts(name: str) -> Markup:
    """Every table and chart, named so."""
    labels = [f"{name} {place}" for place in range(20)]
    return join(
        report.table([name, "PSI", "note"], [[name, 0.5, [name, "b"]], ["a", None, "c"]], marked=[0]),
        report.bars([(name, -0.5), ("b", 1.0)], "log-odds", name),
        report.compare([name, "b"], [0.4, 0.6], [0.5, 0.5], name),
        report.compare(labels, [0.05] * 20, [0.04] * 20, name),
        report.interval([(name, 0.7, 0.8, 0.9)], "AUC", name, limit=0.75),
    )


def wide() -> str:
    """Two hundred columns: a line each, a column each, and a chart of every tenth."""
    names = [f"a_column_of_a_usual_length_{place}" for place in range(200)]
    lines = [
        [name, "yes", *([0.123456 * place] * 8), "up to 197.34, learned to 144.65"] for place, name in enumerate(names)
    ]
    headers = ["column", "drift", "PSI", "KS", "JS", "Wasserstein", "p corrected", "missing %", "a", "b", "note"]
    labels = [f"≤ {place}" for place in range(24)]
    drawn = [report.compare(labels, [1 / 24] * 24, [place / 276 for place in range(24)], name) for name in names[::10]]
    sections = [
        ("Columns", "A line each.", report.table(headers, lines)),
        ("Charts", "", join(*drawn)),
        ("Rows", "A column each.", report.table(names, [[0.5] * 200] * 5)),
        ("Importance", "", report.bars([(name, float(place)) for place, name in enumerate(names)], "u", "All")),
    ]
    return made_page("Two hundred columns", ("No drift", "good", "A reason.", "Nothing to do."), sections)
