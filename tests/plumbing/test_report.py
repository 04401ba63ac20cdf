"""Report pages: numbers as people read them, text from the data never as markup, charts of any size."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from batchloop.container import report
from plumbing.pages import join
from plumbing.pages import page as paged

HOSTILE = "<script>alert('x')</script> \" & {{ 7 * 7 }}"


NUMBERS = [
    (None, "–"),
    (1234567, "1,234,567"),
    (0.12345678, "0.1235"),
    (19712.4, "19,712"),
    (1e300, "1e+300"),
    (1e-9, "1e-09"),
    (2.0, "2"),
    ("a", "a"),
    (float("nan"), "–"),
    (float("-inf"), "-∞"),
]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_numbers_are_written_for_people(value: object, text: str) -> None:
    assert report.number(value) == text


def test_numbers_of_a_column_have_their_points_below_each_other() -> None:
    assert report.aligned([0.5, 0.125, None, 2]) == ["0.500", "0.125", "–", "2.000"]


def test_no_digit_is_lost_or_invented_by_alignment() -> None:
    for values in ([0.00012, 0.5], [1e-9, 1.0], [12345.25, 0.5], [3, 4]):
        assert report.aligned(list(values)) == [report.number(value) for value in values]


def test_long_labels_are_cut_to_the_room_they_take() -> None:
    assert report.short("abcdef", 6) == "abcdef"
    assert report.short("abcdefg", 6) == "abcde…"
    assert report.short("列の名前", 6) == "列の…"
    assert report.width("列a") == 3


def hostile_body() -> Markup:
    return join(
        report.table([HOSTILE], [[HOSTILE], [[HOSTILE, HOSTILE]]], marked=[0]),
        report.bars([(HOSTILE, -1.0), ("b", 2.0)], HOSTILE, HOSTILE),
        report.compare([HOSTILE, "b"], [0.5, 0.5], [0.1, 0.9], HOSTILE),
        report.compare([HOSTILE] * 20, [0.05] * 20, [0.05] * 20, HOSTILE),
        report.interval([(HOSTILE, 0.1, 0.2, 0.3)], HOSTILE, HOSTILE, limit=0.2),
    )


def test_whatever_the_data_says_stays_text() -> None:
    page = paged(HOSTILE, (HOSTILE, "bad", HOSTILE, HOSTILE), [(HOSTILE, HOSTILE, hostile_body())])
    assert "<script" not in page
    assert "{{ 7 * 7 }}" in page
    assert page.count("&lt;script&gt;") > 30
    assert set(re.findall(r'aria-label="([^"]*)"', page)) == {"Table"}


CHARTS: dict[str, Callable[[list[float]], Markup]] = {
    "bars": lambda values: report.bars([("a", value) for value in values], "u", "t"),
    "compare": lambda values: report.compare(["a"] * len(values), [0.0] * len(values), [0.0] * len(values), "t"),
    "interval": lambda values: report.interval([("a", v, v, v) for v in values], "u", "t", limit=0.5),
}
AWKWARD = [[], [0.0], [5e-324, 0.0], [1e308, -1e308], [float("nan"), 1.0], [float("inf"), 1.0], [1.0] * 300]


@pytest.mark.parametrize("values", AWKWARD, ids=str)
@pytest.mark.parametrize("chart", CHARTS)
def test_charts_take_nothing_all_zero_the_largest_and_what_is_no_number(chart: str, values: list[float]) -> None:
    drawn = CHARTS[chart](values)
    for place in re.findall(r' (?:x|y|x1|x2|y1|y2|cx|cy|width|height)="([^"]*)"', drawn):
        assert re.fullmatch(r"[0-9.]+%?", place)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_every_bar_lies_within_its_chart(values: list[float]) -> None:
    drawn = report.bars([("a", value) for value in values], "u", "t")
    bars = re.findall(r'<rect class="(?:plus|minus)" x="([0-9.]+)%" y="\d+" width="([0-9.]+)%"', drawn)
    assert len(bars) == len(values)
    assert all(float(x) + float(width) <= 100.011 for x, width in bars)


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12))
def test_ticks_are_few_round_different_and_within(low: float, span: float) -> None:
    found = report.ticks(low, low + span)
    assert 1 <= len(found) <= 5
    assert all(low - 1e-6 * span <= value <= low + span * (1 + 1e-6) for value, _ in found)


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 1, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (0, 40, ["0", "10", "20", "30", "40"]),
        (0.71, 0.93, ["0.8", "0.9"]),
        (-3000, 9000, ["0", "5,000"]),
    ],
)
def test_ticks_are_numbers_people_choose(low: float, high: float, texts: list[str]) -> None:
    assert [text for _, text in report.ticks(low, high)] == texts


def test_charts_say_in_words_what_they_show() -> None:
    for drawn in (
        report.bars([("age", -0.25)], "log-odds", "Importance"),
        report.compare(["card", "cash"], [0.5, 0.5], [0.25, 0.75], "Importance"),
        report.compare([str(place) for place in range(20)], [0.05] * 20, [0.05] * 20, "Importance"),
        report.interval([("May", 0.7, 0.8, 0.9)], "AUC", "Importance"),
    ):
        image = ElementTree.fromstring(drawn[drawn.index("<svg") : drawn.index("</svg>") + 6])
        assert image.get("role") == "img"
        assert [child.tag for child in image][:2] == ["title", "desc"]
        assert (image[0].text or "").startswith("Importance")
        assert any(character.isdigit() for character in image[1].text or "")


def test_few_bins_are_named_and_many_have_a_scale() -> None:
    few = report.compare(["card", "cash"], [0.5, 0.5], [0.25, 0.75], "t")
    assert "50 % → 25 %" in few
    many = report.compare([f"≤ {place}" for place in range(20)], [0.05] * 20, [0.01 * p for p in range(20)], "t")
    assert '<td class="number">19</td>' in many
    assert ">15</text>" in many


def test_a_limit_is_drawn_with_its_name() -> None:
    for limit, text in ((0.75, ">limit 0.75<"), (("reference", 0.75), ">reference 0.75<")):
        drawn = report.interval([("May", 0.7, 0.8, None)], "u", "t", limit=limit)
        assert text in drawn
        assert 'class="line"' not in drawn  # a bound is not known


def test_marked_rows_stand_out() -> None:
    assert report.table(["h"], [["a"], ["b"]], marked=[1]).count('<tr class="marked"><td>b</td>') == 1


def test_a_value_without_limits_says_none() -> None:
    assert "May: 0.8</title>" in report.interval([("May", None, 0.8, None)], "u", "t")


def test_headers_the_glossary_knows_are_explained_once_at_the_end() -> None:
    body = join(report.table(["column", "PSI"], [["PSI", 1.0]]), report.table(["importance, log-odds"], [[1.0]]))
    page = paged("t", ("w", "good", "r", "n"), [("s", "", body)])
    assert page.count('title="Population stability index') == 1
    assert re.findall(r'<dt id="(.*?)">(.*?)</dt>', page) == [
        ("term-1", "PSI"),
        ("term-10", "importance"),
    ]
    assert "What the words mean" not in paged("t", ("w", "good", "r", "n"), [])


def test_a_page_with_two_hundred_columns_stays_small() -> None:
    rows = [[f"column {place}", *[0.123] * 10] for place in range(200)]
    body = report.table(["name", *"abcdefghij"], rows)
    assert len(paged("t", ("w", "good", "r", "n"), [("s", "", body)])) < 250_000


def test_a_template_is_compiled_once_and_anew_when_its_text_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.html").write_text("{{ 1 + 1 }}")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(report, "BYTECODE", tmp_path)
    compiled, usual = list[str](), jinja2.Environment.compile

    def compile_now(self: jinja2.Environment, source: str, *rest: Any, **more: Any) -> Any:
        compiled.append(source)
        return usual(self, source, *rest, **more)

    monkeypatch.setattr(jinja2.Environment, "compile", compile_now)
    for text, said in (("{{ 1 + 1 }}", "2"), ("{{ 1 + 1 }}", "2"), ("{{ 1 + 2 }}", "3")):
        (tmp_path / "a.html").write_text(text)
        report._environment.cache_clear()  # as in the next process
        assert report.render("a.html", tmp_path) == said
    assert compiled == ["{{ 1 + 1 }}", "{{ 1 + 2 }}"]
    report._environment.cache_clear()


def test_pages_are_made_where_no_bytecode_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.html").write_text("{{ 1 + 1 }}")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(report, "BYTECODE", tmp_path / "absent")
    report._environment.cache_clear()
    assert report.render("a.html", tmp_path) == "2"
    report._environment.cache_clear()
