"""What a table leaves open is asked, with the option that answers it; nothing is guessed without a word."""

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.container import raw, usecase
from plumbing.test_adopt import asked, rows
from plumbing.test_adopt_edges import adopted, labels, types

COUNT = 600


def random() -> np.random.Generator:
    return np.random.default_rng(6)


def mixed(word: str, every: int = 10, count: int = COUNT) -> list[str]:
    """Numbers, and a word in some cells."""
    numbers = random().integers(20, 90, count)
    return [word if n % every == 3 else str(number) for n, number in enumerate(numbers)]


@pytest.mark.parametrize("word", ["tbd", "k.A.", "not yet", "nope"])
def test_a_few_words_among_numbers_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str) -> None:
    table = rows(COUNT, age=mixed(word))
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert f"60 of 600 cells of 'age' are no numbers ('{word}')" in said
    assert "MISSING=" in said
    assert "MISSING=no" in said
    found = adopted(tmp_path, table, "--missing", word)
    assert types(found) == {"age": "number"}
    assert word in found["data"]["missing"]
    assert types(adopted(tmp_path, table, "--missing", "no")) == {"age": "category"}


def test_words_in_two_columns_are_one_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(COUNT, age=mixed("tbd"), size=mixed("later, maybe", 9), far=[-200, *range(30)] * 19 + [5] * 11)
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert """MISSING='tbd,"later, maybe",-200'""" in said
    found = adopted(tmp_path, table, "--missing", 'tbd,"later, maybe",-200')
    assert types(found) == {"age": "number", "size": "number", "far": "number"}


@pytest.mark.parametrize("values", [["1", "2", "A", "B"], ["0", "1", "2", "3+"], ["10 kg", "20 kg", "7"]])
def test_codes_and_units_are_no_gaps(tmp_path: Path, values: list[str]) -> None:
    drawn = random().choice(values, COUNT, p=[0.4, *[0.6 / (len(values) - 1)] * (len(values) - 1)])
    assert types(adopted(tmp_path, rows(COUNT, grade=drawn))) == {"grade": "category"}


def test_a_label_of_numbers_and_a_few_words_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = labels(mixed("tbd"), COUNT)
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert "cells of 'target' are no numbers ('tbd')" in said
    assert adopted(tmp_path, table, "--missing", "tbd")["data"]["task"] == "regression"
    assert "60 rows have the label 'tbd', which counts as missing" in capsys.readouterr().out
    assert "tbd" in adopted(tmp_path, table, "--missing", "no")["data"]["classes"]


def test_a_single_word_in_a_label_of_numbers_is_not_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = labels([*mixed("x", COUNT)[:-1], "soon"], COUNT)
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert "Say MISSING=soon,x " in said


Case = tuple[str, list[Any], str]
FAR: list[Case] = [
    ("co", [-200.0 if n % 12 == 0 else round(0.1 + n * 7 % 113 / 10, 1) for n in range(COUNT)], "-200"),
    ("days_since", [999 if n % 10 else n // 10 % 28 for n in range(COUNT)], "999"),
    ("gain", [99999 if n % 100 == 0 else n * 7919 % 41310 for n in range(COUNT)], "99999"),
    ("rating", [99 if n % 20 == 0 else 1 + n * 7 % 5 for n in range(COUNT)], "99"),
    ("level", [-9 if n % 20 == 0 else n * 7 % 4 for n in range(COUNT)], "-9"),
    ("near", [999 if n % 10 == 0 else n * 7919 % 900 for n in range(COUNT)], "999"),
    (
        "born",
        ["1900-01-01" if n % 20 == 0 else f"{1950 + n * 7 % 60}-0{1 + n % 9}-11" for n in range(COUNT)],
        "1900-01-01",
    ),
    (
        "until",
        ["9999-12-31" if n % 4 == 0 else f"202{n % 4}-0{1 + n % 9}-1{n % 7}" for n in range(COUNT)],
        "9999-12-31",
    ),
]


@pytest.mark.parametrize("case", FAR, ids=[case[0] for case in FAR])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_value_that_stands_for_none_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: Case, kind: str
) -> None:
    name, values, marker = case
    table = rows(COUNT, **{name: values})
    if kind == "parquet" and isinstance(values[0], str):
        table = table.with_columns(pl.col(name).str.to_date())
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert f"{marker} stands in" in said
    assert name != "rating" or "the others are 1 to 5." in said
    assert f"MISSING={marker} " in said
    found = adopted(tmp_path, table, "--missing", marker, name=f"table.{kind}")
    assert marker in found["data"]["missing"]
    assert name in found["columns"]
    case_read = raw.read(tmp_path / f"table.{kind}", usecase.load(tmp_path / "usecase.toml"))
    empty = case_read.frame.collect()[name].null_count()
    assert empty == sum(str(value).removesuffix(".0") == marker for value in values)
    assert f" {name} " in capsys.readouterr().out
    assert marker not in adopted(tmp_path, table, "--missing", "no", name=f"table.{kind}")["data"]["missing"]


ORDINARY: list[tuple[str, Any]] = [
    ("skewed", np.exp(random().normal(3, 2, COUNT)).round(2)),
    ("zeros", [0 if n % 2 else 1000 + n * 7 % 500 for n in range(COUNT)]),
    ("flag", [n * 7 % 2 for n in range(COUNT)]),
    ("capped", np.minimum(random().normal(300, 150, COUNT).round(0), 500)),
    ("once", [-200 if n == 5 else n * 7 % 50 for n in range(COUNT)]),
    ("visits", random().poisson(2, COUNT)),
    ("percent", random().choice([0, 50, 100], COUNT)),
    ("temperature", random().normal(0, 9, COUNT).round(1)),
    ("born", [date(1950, 1, 1) + timedelta(int(n)) for n in random().integers(0, 20000, COUNT)]),
]


@pytest.mark.parametrize(("name", "values"), ORDINARY, ids=[case[0] for case in ORDINARY])
def test_ordinary_columns_are_not_asked_about(tmp_path: Path, name: str, values: Any) -> None:
    assert name in adopted(tmp_path, rows(COUNT, **{name: values}))["columns"]


@pytest.mark.parametrize(
    ("first", "second"), [("%d.%m.%Y", "%Y-%m-%d"), ("%d/%m/%Y", "%m/%d/%Y"), ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S")]
)
@pytest.mark.parametrize("every", [2, 5])
def test_dates_in_two_formats_are_no_category(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: str, second: str, every: int
) -> None:
    days = [date(2020, 1, 1) + timedelta(int(n)) for n in random().integers(0, 1235, COUNT)]
    texts = [day.strftime(first if n % every else second) for n, day in enumerate(days)]
    code, said = asked(tmp_path, rows(COUNT, day=texts), capsys, "--time", "day")
    assert code == 2
    assert "dates in several formats" in said
    order = re.search(r"TYPES='day=(date\((.*)\))'", said)
    assert order
    assert set(order[2].split("|")) == {first, second}
    found = adopted(tmp_path, rows(COUNT, day=texts), "--types", f"day={order[1]}")
    assert found["columns"]["day"]["format"] == order[2]
    assert types(adopted(tmp_path, rows(COUNT, day=texts), "--types", "day=out")) == {}


def test_an_id_that_repeats_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(COUNT, patient=[n // 10 for n in range(COUNT)])
    code, said = asked(tmp_path, table, capsys, "--id", "patient")
    assert code == 1
    assert "600 rows share it with another one (such as '0', '1', '10')" in said
    assert "GROUP=patient" in said


def test_a_name_that_is_not_there_has_a_nearest_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(60).hstack(pl.DataFrame({f"x{n}": [1.5 * k for k in range(60)] for n in range(30)}))
    said = asked(tmp_path, table.rename({"target": "Target"}), capsys)[1]
    assert "has no column 'target' (LABEL); the nearest is 'Target'." in said
    assert "say HEADER=no" in asked(tmp_path, table, capsys, "--id", "column_3")[1]


@pytest.mark.parametrize(
    ("name", "values", "event"),
    [
        ("created_at", [f"2024-01-{1 + n // 24:02}T{n % 24:02}:00:00" for n in range(COUNT)], True),
        ("x", [(date(2024, 1, 1) + timedelta(n // 3)).isoformat() for n in range(COUNT)], True),
        ("x", [(date(2024, 1, 1) + timedelta((COUNT - n) // 3 + n % 5)).isoformat() for n in range(COUNT)], True),
        (
            "x",
            [
                f"2024-0{1 + n * 7 % 9}-{1 + n * 11 % 28:02} {n % 24:02}:{n * 7 % 60:02}:{n * 13 % 60:02}"
                for n in range(COUNT)
            ],
            True,
        ),
        ("order_date", [(date(2024, 1, 1) + timedelta(n * 7919 % 300)).isoformat() for n in range(COUNT)], True),
        ("birth_date", [(date(1950, 1, 1) + timedelta(n * 7919 % 20000)).isoformat() for n in range(COUNT)], False),
        ("x", [(date(2024, 1, 1) + timedelta(n * 7919 % 300)).isoformat() for n in range(COUNT)], False),
    ],
)
def test_the_time_of_an_event_is_told_and_left_out_of_the_drift_decision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, values: list[str], event: bool
) -> None:
    found = adopted(tmp_path, rows(COUNT, **{name: values}))
    said = capsys.readouterr().out
    assert (f"say TIME={name}" in said) is event
    assert found["columns"][name].get("drift", True) is not event
    assert ("drift = false" in said) is event


def test_a_time_that_is_given_is_not_suggested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = [(date(2024, 1, 1) + timedelta(n // 3)).isoformat() for n in range(COUNT)]
    found = adopted(tmp_path, rows(COUNT, day=days, other_time=days[::-1]), "--time", "day")
    assert found["columns"]["other_time"]["drift"] is False
    said = capsys.readouterr().out
    assert "say TIME=" not in said
    assert "the last rows are validation and test" in said


def test_numbers_beyond_what_a_float_holds_are_no_repeated_value(tmp_path: Path) -> None:
    order = random().permutation(600)
    found = adopted(tmp_path, rows(600, account_id=[f"9{n:018d}" for n in order]))
    assert found["data"]["id"] == "account_id"


def test_yes_and_no_are_understood_in_other_languages(tmp_path: Path) -> None:
    table = rows(600, paperless=["ja", "nein"] * 300).with_columns(pl.Series("target", ["oui", "non", "oui"] * 200))
    found = adopted(tmp_path, table)
    assert types(found)["paperless"] == "boolean"
    assert found["data"]["classes"] == ["non", "oui"]


@pytest.mark.parametrize(
    ("word", "every", "classes"), [("-", 3, "yes no"), ("unknown", 10, "low mid high"), ("-", 3, "0 1")]
)
def test_a_marker_among_the_classes_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, every: int, classes: str
) -> None:
    drawn = random().choice(classes.split(), COUNT)
    table = labels([word if n % every == 0 else str(value) for n, value in enumerate(drawn)], COUNT)
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert f"{word!r} in 'target': a class too (TASK=multiclass), or no label. Say MISSING={word} " in said
    assert set(adopted(tmp_path, table, "--missing", word)["data"]["classes"]) == set(classes.split())
    assert word in adopted(tmp_path, table, "--task", "multiclass")["data"]["classes"]


def test_the_months_of_a_year_are_no_gap(tmp_path: Path) -> None:
    months = [202212 if n % 12 == 0 else 202300 + n % 12 for n in range(COUNT)]
    weeks = [202252 if n % 50 == 0 else 202300 + n % 50 for n in range(COUNT)]
    table = rows(COUNT, month=random().permutation(months), week=random().permutation(weeks))
    assert types(adopted(tmp_path, table)) == {"month": "number", "week": "number"}


def test_zeros_of_one_kind_are_one_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def drawn(low: int, high: int, zeros: int) -> list[int]:
        return [0 if n < zeros else int(value) for n, value in enumerate(random().integers(low, high, COUNT))]

    table = rows(
        COUNT, bmi=drawn(18, 55, 90), glucose=drawn(60, 190, 2), skin=drawn(14, 60, 250), births=drawn(0, 15, 9)
    )
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert "Say MISSING=bmi=0,glucose=0,skin=0 (" in said


def test_a_name_with_a_comma_is_answered_in_the_quotes_that_the_question_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [f"{n % 89 + 0.5} {('cm', 'mm')[n % 7 == 0]}" for n in range(COUNT)]
    table = rows(COUNT, **{"size, cm": sizes, 'say "a"': sizes})
    said = asked(tmp_path, table, capsys)[1]
    assert """TYPES='"size, cm"=category' or TYPES='"size, cm"=out'""" in said
    answer = '"size, cm"=category,say "a"=out, amount=number'
    assert types(adopted(tmp_path, table, "--types", answer)) == {"size, cm": "category"}


@pytest.mark.parametrize(("word", "often"), [("90+", 1), ("<0.5", 12), ("about 5", 1)])
def test_a_few_texts_with_digits_among_numbers_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, often: int
) -> None:
    table = rows(COUNT, age=[word if n % 31 < often else str(n * 7 % 60) for n in range(COUNT)])
    code, said = asked(tmp_path, table, capsys)
    assert code == 2
    assert f"are no numbers ({word!r}; TYPES=age=category keeps them). Say MISSING=" in said
    assert types(adopted(tmp_path, table, "--types", "age=category")) == {"age": "category"}
    assert types(adopted(tmp_path, table, "--missing", f"age={word}")) == {"age": "number"}
