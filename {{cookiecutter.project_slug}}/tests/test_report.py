"""Report pages: numbers as people read them, text from the data never as markup, charts of any size."""

import pytest

from runtime import report
from runtime.report import Section, Verdict

HOSTILE = "<script>alert('x')</script> \" & {{ 7 * 7 }}"


NUMBERS = [(None, "–"), (1234567, "1,234,567"), (0.12345678, "0.1235"), (1e-9, "1e-09"), (2.0, "2"), ("a", "a")]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_numbers_are_written_for_people(value: object, text: str) -> None:
    assert report.number(value) == text


def test_whatever_the_data_says_stays_text() -> None:
    body = report.join(
        report.table([HOSTILE], [[HOSTILE]]),
        report.bars([(HOSTILE, -1.0), ("b", 2.0)], HOSTILE, HOSTILE),
        report.compare([HOSTILE, "b"], [0.5, 0.5], [0.1, 0.9], HOSTILE),
    )
    page = report.page(HOSTILE, Verdict(HOSTILE, "bad", HOSTILE, HOSTILE), [Section(HOSTILE, HOSTILE, body)])
    assert "<script" not in page
    assert "{{ 7 * 7 }}" in page
    assert page.count("&lt;script&gt;") > 8


def test_charts_take_nothing_and_all_zero() -> None:
    assert "svg" in report.bars([], "u", "t")
    assert "svg" in report.bars([("a", 0.0)], "u", "t")
    assert "svg" in report.compare([], [], [], "t")
    assert "svg" in report.compare(["a"], [0.0], [0.0], "t")
    assert "<td>a</td>" in report.table(["h"], [["a"]])


def test_a_page_with_two_hundred_columns_stays_small() -> None:
    rows = [[f"column {place}", *[0.123] * 10] for place in range(200)]
    body = report.table(["name", *"abcdefghij"], rows)
    assert len(report.page("t", Verdict("w", "good", "r", "n"), [Section("s", "", body)])) < 250_000
