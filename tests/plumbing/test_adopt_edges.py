"""Adopting what exports really hold: odd headers, mixed cells, dates of all kinds, columns that give the label away."""

import gzip
import tomllib
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from batchloop.adopt.adopting import main
from batchloop.container import raw, usecase
from plumbing.test_adopt import BEFORE, asked, prove, rows, run

COUNT = 120  # of the rows in rows()
Types = dict[str, str]


def adopted(folder: Path, table: pl.DataFrame | bytes, *options: str, name: str = "table.csv") -> dict[str, Any]:
    """The new usecase.toml of a table that must be adopted, proven to read it."""
    (folder / "usecase.toml").write_text(BEFORE)
    file = folder / name
    if isinstance(table, bytes):
        file.write_bytes(table)
    else:
        table.write_parquet(file) if name.endswith(".parquet") else table.write_csv(file)
    assert run(folder, file, "--label", "target", *options) == 0
    prove(folder)
    return tomllib.loads((folder / "usecase.toml").read_text(encoding="utf-8"))


def types(found: dict[str, Any]) -> Types:
    return {name: column["type"] for name, column in found["columns"].items() if name != "amount"}


def named(columns: dict[str, list[float]]) -> pl.DataFrame:
    """The ordinary table with columns whose names are no Python names."""
    return rows().hstack(pl.DataFrame(columns))


def labels(values: list[Any], count: int = COUNT) -> pl.DataFrame:
    """A table whose label repeats these values."""
    return rows(count).with_columns(pl.Series("target", (values * count)[:count]))


def test_a_file_is_read_by_what_it_holds_and_not_by_its_name(tmp_path: Path) -> None:
    plain = rows().write_csv(separator=";").encode()
    for content, name in ((gzip.compress(plain), "packed.csv"), (plain, "plain.csv.gz")):
        assert adopted(tmp_path, content, name=name)["data"]["separator"] == ";"


@pytest.mark.parametrize("name", ["", " ", "row"], ids=repr)
def test_a_column_whose_name_can_t_be_used_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert types(adopted(tmp_path, named({name: [n * 1.5 for n in range(COUNT)]}))) == {}
    assert "1 column is left out" in capsys.readouterr().out


def test_names_with_quotes_breaks_and_dots_become_columns(tmp_path: Path) -> None:
    names = ("it's", "a\\b", "a.b.c", "two\nlines", "naïve €", "[x]", "a = b # c")
    found = adopted(tmp_path, named({name: [(n * 7 % 31) * 1.5 for n in range(COUNT)] for name in names}))
    assert set(types(found)) == set(names)


def test_a_command_without_a_table_or_label_says_what_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "DATA=file LABEL=column" in capsys.readouterr().err


def test_what_can_t_be_written_is_said_and_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "usecase.toml").write_text(BEFORE)
    (tmp_path / "data" / "window").mkdir(parents=True)  # where a file must go
    rows().write_csv(tmp_path / "table.csv")
    assert run(tmp_path, tmp_path / "table.csv", "--label", "target") == 1
    assert "can't be written" in capsys.readouterr().err
    assert (tmp_path / "usecase.toml").read_text() == BEFORE
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "table.csv", "usecase.toml"]
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["window"]


def test_adopting_twice_changes_nothing_more(tmp_path: Path) -> None:
    table = rows(day=[f"2024-01-{1 + n % 28:02}" for n in range(COUNT)], gap=[None, 1.5, 2.5] * 40)
    adopted(tmp_path, table)
    first = (tmp_path / "usecase.toml").read_text()
    assert run(tmp_path, tmp_path / "table.csv", "--label", "target") == 0
    assert (tmp_path / "usecase.toml").read_text() == first


@pytest.mark.parametrize(
    ("name", "values", "identity"),
    [
        ("customerid", [n * 7919 % 100_003 for n in range(COUNT)], True),
        ("PassengerId", range(1, COUNT + 1), True),
        ("USER_ID", [f"u{n}" for n in range(COUNT)], True),
        ("amount_paid", [n * 7919 % 100_003 for n in range(COUNT)], False),
        ("bid", [n * 7919 % 100_003 for n in range(COUNT)], False),
        ("grid", [n * 7919 % 100_003 for n in range(COUNT)], False),
    ],
)
def test_an_id_is_told_from_a_word_that_ends_like_one(tmp_path: Path, name: str, values: Any, identity: bool) -> None:
    found = adopted(tmp_path, rows(**{name: values}))
    assert found["data"]["id"] == (name if identity else "")
    assert types(found) == ({} if identity else {name: "number"})


def test_the_id_of_an_entity_with_several_rows_is_no_number_to_learn(tmp_path: Path) -> None:
    assert types(adopted(tmp_path, rows(1000, customer_id=[n % 400 for n in range(1000)]))) == {}


def test_one_column_can_t_be_two_things(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (("--id", "target"), ("--time", "target"), ("--id", "amount", "--time", "amount")):
        code, said = asked(tmp_path, rows(), capsys, *options)
        assert code == 1
        assert "can't be both" in said


DATES = [
    ("2024-01-{:02}T10:00:00Z", "%Y-%m-%dT%H:%M:%SZ"),
    ("2024-01-{:02}T10:00:00+00:00", "%Y-%m-%dT%H:%M:%S%#z"),
    ("2024-01-{:02} 10:00:00.125", "%Y-%m-%d %H:%M:%S%.f"),
    ("{:02}/01/24", "%d/%m/%y"),
    ("01/{:02}/2024", "%m/%d/%Y"),
    ("{}.1.2024", "%d.%m.%Y"),
    ("202401{:02}", "%Y%m%d"),
    ("January {}, 2024", "%B %d, %Y"),
    ("1/{}/2024 9:05 PM", "%m/%d/%Y %I:%M %p"),
]


@pytest.mark.parametrize(("pattern", "form"), DATES)
def test_dates_are_read_in_many_formats(tmp_path: Path, pattern: str, form: str) -> None:
    found = adopted(tmp_path, rows(day=[pattern.format(1 + n % 28) for n in range(COUNT)]))
    assert (found["columns"]["day"]["type"], found["columns"]["day"]["format"]) == ("date", form)
    case = usecase.load(tmp_path / "usecase.toml")
    days = raw.read(tmp_path / "data" / "adopted" / "train", case).frame.collect()["day"]
    assert days.dtype == pl.Datetime("us")
    assert days.dt.year().unique().to_list() == [2024]


def test_one_wrong_date_costs_its_row_and_many_cost_the_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = [f"2024-01-{1 + n % 28:02}" for n in range(1000)]
    table = rows(1000, day=["soon"] * 50 + days[50:])
    code, said = asked(tmp_path, table, capsys)
    assert (code, "50 cells are not (such as 'soon'). Say MISSING=soon " in said) == (2, True)
    (tmp_path / "usecase.toml").write_text(BEFORE)
    rows(1000, day=["soon", *days[1:]]).write_csv(tmp_path / "table.csv")
    assert run(tmp_path, tmp_path / "table.csv", "--label", "target") == 0
    assert "1 cells are no such dates (such as 'soon')" in capsys.readouterr().out
    assert types(adopted(tmp_path, table, "--missing", "no")) == {}
    assert "50 cells are not (such as 'soon')" in capsys.readouterr().out
    assert types(adopted(tmp_path, table, "--missing", "soon")) == {"day": "date"}


def test_dates_with_and_without_a_time_need_one_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = [f"0{1 + n % 9}/0{1 + n % 7}/2024" for n in range(COUNT)]
    table = rows(day=days, at=[f"{day} 10:30" for day in days])
    assert asked(tmp_path, table, capsys)[0] == 2
    found = adopted(tmp_path, table, "--dates", "%m/%d/%Y")
    assert [column["format"] for column in list(found["columns"].values())[1:]] == ["%m/%d/%Y", "%m/%d/%Y %H:%M"]


def test_the_question_about_dates_that_name_the_rows_takes_its_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = rows(id=[f"0{1 + n % 9}/0{1 + n % 7}/2024 {n // 60:02}:{n % 60:02}" for n in range(COUNT)])
    assert "DATES=%d/%m/%Y %H:%M or DATES=" in asked(tmp_path, table, capsys)[1]
    assert adopted(tmp_path, table, "--dates", "%d/%m/%Y %H:%M")["data"]["id"] == "id"


def test_a_date_format_that_fits_no_column_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = asked(tmp_path, rows(), capsys, "--dates", "nonsense")
    assert code == 1
    assert "DATES=nonsense reads no column" in said


def test_a_few_odd_cells_cost_their_rows_unless_they_are_too_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def mixed(odd: int) -> list[str]:
        return ["twelve kg"] * odd + [f"{n}.5" for n in range(1000 - odd)]

    (tmp_path / "usecase.toml").write_text(BEFORE)
    rows(1000, x=mixed(3)).write_csv(tmp_path / "table.csv")
    assert run(tmp_path, tmp_path / "table.csv", "--label", "target") == 0
    assert usecase.load(tmp_path / "usecase.toml").columns[1].type == "number"
    assert types(adopted(tmp_path, rows(1000, x=mixed(20)), "--missing", "no")) == {}
    three = {f"x{k}": [*mixed(0)[: k * 4], *["bad"] * 4, *mixed(0)[k * 4 + 4 :]] for k in range(3)}
    # together they would cost more than bad_rows allows
    assert types(adopted(tmp_path, rows(1000, **three), "--missing", "no")) == {}


def test_a_marker_among_numbers_does_not_take_a_class_away(tmp_path: Path) -> None:
    multi = ("--task", "multiclass")
    income = [["unknown", "12", "7.5", "8"][n * 7 % 11 % 4] for n in range(COUNT)]
    found = adopted(tmp_path, labels(["unknown", "good", "bad"]).with_columns(pl.Series("income", income)), *multi)
    assert "unknown" in found["data"]["classes"]
    assert "unknown" not in found["data"]["missing"]
    assert "unknown" in adopted(tmp_path, rows(income=income))["data"]["missing"]


LABELS: list[tuple[list[Any], tuple[str, ...], str]] = [
    (["Yes", "yes", "No"], (), "holds 'Yes' and 'yes'"),
    (["None", "Mild"], (), "'None' counts as missing"),
    (["yes", "no"], ("--task", "regression"), "needs numbers"),
    ([n + 0.5 for n in range(1000)], ("--task", "multiclass"), "can't be classes"),
    ([*[f"{n}.5" for n in range(999)], "12 kg"], (), "say MISSING='12 kg', or TASK=regression"),
]


@pytest.mark.parametrize(("values", "options", "sentence"), LABELS)
def test_a_label_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: list[Any], options: tuple[str, ...], sentence: str
) -> None:
    code, said = asked(tmp_path, labels(values, 1000), capsys, *options)
    assert code == 1
    assert sentence in said


@pytest.mark.parametrize(
    ("values", "classes"),
    [([1, 1, 2], ["1", "2"]), ([-1, 1, 1], ["-1", "1"]), ([0, 1, 1], ["0", "1"]), (["f", "t", "t"], ["f", "t"])],
)
def test_the_positive_class_of_codes_is_the_one_or_the_rarer(
    tmp_path: Path, values: list[Any], classes: list[str]
) -> None:
    assert adopted(tmp_path, labels(values))["data"]["classes"] == classes


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_that_give_the_label_away_are_left_out(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(3)
    count = 1000
    yes = [n % 3 > 0 for n in range(count)]
    reasons = {True: ("price", "service", "moved"), False: ("stays", "new contract")}
    leaks = {
        "copy": ["YES" if value else "NO" for value in yes],
        "reason": [reasons[value][n % len(reasons[value])] for n, value in enumerate(yes)],
        "ended_on": [f"2024-01-{1 + n % 28:02}" if value else None for n, value in enumerate(yes)],
    }
    honest = {
        "hint": [("price" if value else "stays") if n % 10 else "price" for n, value in enumerate(yes)],
        "gap": [None if n % 4 else 1.5 * (n % 7) for n in range(count)],
        "draw": random.normal(0, 1, count).round(3),
    }
    found = adopted(tmp_path, rows(count, **leaks, **honest), name=f"table.{kind}")
    assert set(types(found)) == set(honest)


def test_a_rescaled_label_is_left_out_of_a_regression(tmp_path: Path) -> None:
    table = rows(500).with_columns(target=pl.col("amount") * 2 + 1, other=pl.col("amount").shuffle(seed=1))
    found = adopted(tmp_path, table)
    assert found["data"]["task"] == "regression"
    assert list(found["columns"]) == ["other"]


def test_parquet_columns_of_every_kind_are_typed_or_left_out(tmp_path: Path) -> None:
    pieces = [["a", "b"][n // 2 % 2] for n in range(COUNT)]
    moments = pl.Series([date(2024, 1, 1) + timedelta(n) for n in range(COUNT)])
    found = adopted(
        tmp_path,
        rows(
            categorical=pl.Series(pieces).cast(pl.Categorical),
            enumerated=pl.Series(pieces).cast(pl.Enum(["a", "b"])),
            decimal=pl.Series([n * 7 % 50 for n in range(COUNT)]).cast(pl.Decimal(10, 2)),
            endless=pl.Series([float("inf") if n % 4 == 0 else n * 7 % 31 for n in range(COUNT)], dtype=pl.Float64),
            day=moments,
            zoned=moments.cast(pl.Datetime("us")).dt.replace_time_zone("Europe/Berlin"),
            truth=[n % 4 > 1 for n in range(COUNT)],
            lists=[[n] for n in range(COUNT)],
            records=[{"a": n} for n in range(COUNT)],
            blob=[b"\xff\x00" + bytes([n]) for n in range(COUNT)],
            lasting=[timedelta(n) for n in range(COUNT)],
            clock=[time(n % 24) for n in range(COUNT)],
            nothing=[None] * COUNT,
        ),
        name="table.parquet",
    )
    case = usecase.load(tmp_path / "usecase.toml")
    endless = raw.read(tmp_path / "data" / "adopted" / "train", case).frame.collect()["endless"]
    assert endless.null_count() == COUNT / 4  # a missing value, as NaN is
    assert "inf" not in found["data"]["missing"]
    assert types(found) == {
        "categorical": "category",
        "enumerated": "category",
        "decimal": "number",
        "endless": "number",
        "day": "date",
        "zoned": "date",
        "truth": "boolean",
        "lasting": "number",
        "clock": "number",
    }


def test_a_folder_of_files_is_one_table(tmp_path: Path) -> None:
    (tmp_path / "usecase.toml").write_text(BEFORE)
    for part in ("a", "b"):
        (tmp_path / "tables" / part).mkdir(parents=True)
        rows().write_csv(tmp_path / "tables" / part / "part.csv")
    rows().write_parquet(tmp_path / "tables" / "more.parquet")
    assert run(tmp_path, tmp_path / "tables", "--label", "target") == 0
    prove(tmp_path)
    case = usecase.load(tmp_path / "usecase.toml")
    table = raw.read(tmp_path / "data" / "adopted" / "train", case, labelled=True).frame
    assert table.collect().height == 3 * COUNT


def test_hundreds_of_columns_are_no_trouble(tmp_path: Path) -> None:
    values = np.random.default_rng(5).normal(0, 1, (60, 450)).round(3)
    table = rows(60).hstack(pl.DataFrame(values, schema=[f"c.{n}" for n in range(450)]))
    assert len(types(adopted(tmp_path, table))) == 450
