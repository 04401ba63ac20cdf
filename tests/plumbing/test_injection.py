"""Names and values that mean harm, from a table to every page, line and CSV answer: text they stay."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from batchloop.container import models, server
from plumbing.adopted import Adopted

TAGS = '<script>alert(1)</script>"><img src=x onerror=alert(1)>{{ 7 * 7 }}'
TERMINAL = "\x1b[2J\x1b]0;owned\x07 \u202ereversed"
NAMES = {"id": "=HYPERLINK(1)", "number": f"@SUM {TAGS}", "category": f"+cmd|' /C calc'!A0 {TERMINAL}", "label": "-2+3"}
VALUES = ["=1+1", "@SUM(1)", "\t=1", "-2+cmd|x", TAGS, TERMINAL, "</title><svg/onload=alert(1)>", "javascript:alert(1)"]
CLASSES = [f"=1+1 {TAGS}", f"@x {TERMINAL}", "+y"]
ROWS = 900


class Page(HTMLParser):
    """The elements and attributes that a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if (tag, dict(attrs).get("href")) == ("link", "data:,"):  # the page's own: no icon is asked for
            return
        if tag in ("script", "img", "iframe", "object", "embed", "link", "base", "form"):
            self.wrong.append(tag)
        for name, value in attrs:
            away = name in ("href", "src", "xlink:href", "action") and not str(value).startswith("#")
            if name.startswith("on") or away:
                self.wrong.append(f"{tag} {name}={value}")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Adopted, str]:
    """A model of such a table, and a batch of it; what adopt said."""
    folder = tmp_path_factory.mktemp("injection")
    draw = np.random.default_rng(3)
    signal = draw.normal(0, 1, ROWS)
    table = pl.DataFrame(
        {
            NAMES["id"]: [f"{'=+-@'[n % 4]}{n}+1" for n in range(ROWS)],
            NAMES["number"]: signal.round(3),
            NAMES["category"]: draw.choice(VALUES, ROWS).tolist(),
            NAMES["label"]: [CLASSES[int(np.clip(value + 1.5, 0, 2))] for value in signal + draw.normal(0, 0.3, ROWS)],
        }
    )
    source = folder / f"<img src=x onerror=alert(1)>{TERMINAL}=1.parquet".replace("/", "")
    table.write_parquet(source)
    flow = Adopted(folder / "flow [1] {a}*").empty()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out := io.StringIO())
        code = flow.adopt(source, f"--label={NAMES['label']}", f"--id={NAMES['id']}")
    assert code == 0
    flow.learn()
    batch = table.drop(NAMES["label"]).with_columns(
        pl.when(pl.int_range(ROWS) % 3 == 0)
        .then(pl.lit("=new " + TAGS))
        .otherwise(NAMES["category"])
        .alias(NAMES["category"])
    )
    (folder / "batch").mkdir()
    batch.write_parquet(folder / "batch" / source.name)
    assert flow.score(folder / "batch").predictions.height == ROWS
    return flow, out.getvalue()


def test_no_page_runs_or_loads_what_the_data_says(scored: tuple[Adopted, str]) -> None:
    pages = sorted(scored[0].root.rglob("*.html"))
    assert {page.parent.name for page in pages} >= {"report", "drift", "explanations"}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert Page(text).wrong == [], page
        assert "{{ 7 * 7 }}" in text or "7 * 7" not in text, page
    assert any("&lt;script&gt;" in page.read_text(encoding="utf-8") for page in pages)


def test_a_csv_answer_runs_nothing_in_a_spreadsheet(scored: tuple[Adopted, str]) -> None:
    flow = scored[0]
    application = server.Application(models.load(flow.root / "release" / "model"), flow.case().data.missing, 1)
    [features] = (flow.root / "jobs" / "processing-serve").rglob("features/*.parquet")
    with features.open("rb") as body:
        asked = {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": server.PARQUET,
            "HTTP_ACCEPT": server.CSV,
            "wsgi.input": body,
        }
        answer, _ = application.answer("/invocations", asked)
    names, *lines = csv.reader(io.StringIO(answer.decode()))
    assert len(lines) == ROWS
    cells = [*names, *(cell for line in lines for cell in line)]
    formulas = [cell for cell in cells if re.match(server.FORMULA, cell) and not re.match(server.NUMBER, cell)]
    assert formulas == []
    assert f"'{NAMES['id']}" in names
    assert {line[names.index("prediction")] for line in lines} == {f"'{name}" for name in CLASSES}


def test_what_is_printed_does_not_steer_the_terminal(
    scored: tuple[Adopted, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow, said = scored
    file = tmp_path / f"a{TERMINAL}.csv"
    file.write_text("x\n1\n", encoding="utf-8")
    assert flow.adopt(file, "--label", f"y{TERMINAL}") == 1
    said += "".join(capsys.readouterr())
    assert "has no column" in said
    assert [sign for sign in said if not sign.isprintable() and sign != "\n"] == []


def test_what_machines_read_is_json_and_nothing_else(scored: tuple[Adopted, str]) -> None:
    for file in scored[0].root.rglob("*.json"):
        json.loads(file.read_text(encoding="utf-8"), parse_constant=pytest.fail)
