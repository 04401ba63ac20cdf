"""Reading raw files: each line counts its cells, a value is one value whichever file it came from, growth is linear."""

import gzip
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from batchloop.container import batches, files, lines, profile, raw, usecase, values
from batchloop.container.job import InputError
from batchloop.container.usecase import Data, UseCase
from batchloop.container.values import Spelling
from components.processing import features
from plumbing.rendered import ROOT

HEADER = "id,income,town,own,since,label\n"
GOOD = "a,1.5,Oslo,yes,2024-01-31,no\n"


def contract(columns: dict[str, Any] | None = None, **data: Any) -> UseCase:
    """A use case with a column of each type."""
    kinds = {
        "income": {"type": "number"},
        "town": {"type": "category"},
        "own": {"type": "boolean"},
        "since": {"type": "date", "format": "%Y-%m-%d"},
    }
    return usecase.parse(
        {
            "usecase": {"name": "loans"},
            "data": {"task": "binary", "id": "id", "label": "label", "classes": ["no", "yes"], "missing": ["", "NA"]}
            | data,
            "columns": kinds if columns is None else columns,
            "gate": {"metric": "rmse" if data.get("task") == "regression" else "log_loss", "minimum": 0.5},
        }
    )


def read(place: Path, case: UseCase | None = None, labelled: bool = True) -> pl.DataFrame:
    return raw.read(place, case or contract(), labelled).frame.collect()


def put(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_what_is_monitored_needs_no_id_and_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "income,town,own,since\n1.5,Oslo,yes,2024-01-31\n2.5,Bergen\nx,Bergen,no,2024-02-01\n")
    with pytest.raises(InputError, match="no column 'id'"):
        read(tmp_path, labelled=False)
    [once] = profile.intact(tmp_path, contract())()
    assert once["income"].to_list() == [1.5, None]  # the short line is left out
    assert once["__invalid:income"].to_list() == [False, True]
    assert once[raw.ROW].to_list() == [1, 3]
    assert not {"id", raw.NO_ID} & set(once.columns)
    rows = profile.intact(tmp_path, contract(), again=True)
    assert_frame_equal(pl.concat(rows()), once)
    monkeypatch.setattr(raw, "stream", None)
    assert_frame_equal(pl.concat(rows()), once)


# --- lines


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoted", ['b,2,"Os,lo",no,2024-02-01,yes', 'b,2,"a ""b""",no,2024-02-01,yes', "b,2,,,,"])
def test_a_short_or_long_line_says_so_and_shifts_no_value(tmp_path: Path, end: str, quoted: str) -> None:
    rows = [GOOD.strip(), "b,7", quoted, "c,3,Oslo, Norway,yes,2024-01-31,no", GOOD.strip()]
    put(tmp_path, end.join([HEADER.strip(), *rows, ""]))
    found = read(tmp_path)
    assert found["id"].to_list() == ["a", "b", "b", "c", "a"]
    assert found[raw.ERROR].to_list() == [
        None,
        "line 3 has 2 of 6 cells",
        None,
        "line 5 has 7 cells instead of 6; put a cell that holds a separator in quotes",
        None,
    ]
    assert found[raw.BROKEN].to_list() == [False, True, False, True, False]
    assert found["income"].to_list() == [1.5, None, 2.0, None, 1.5]
    assert found["town"][3] is None
    assert found["label"][3] is None


def test_a_cell_of_several_lines_counts_them(tmp_path: Path) -> None:
    put(tmp_path, HEADER + 'a,1,"Os\n\nlo",yes,2024-01-31,no\nb,2\n' + GOOD)
    found = read(tmp_path)
    assert found["town"].to_list() == ["Os\n\nlo", None, "Oslo"]
    assert found[raw.ERROR].to_list() == [None, "line 5 has 2 of 6 cells", None]


def test_a_stray_quote_swallows_no_line(tmp_path: Path) -> None:
    put(tmp_path, HEADER + 'a,1,5" pipe,yes,2024-01-31,no\nb,2,"Oslo,no,2024-01-31,no\n' + GOOD * 2)
    found = read(tmp_path)
    assert found["town"].to_list() == ['5" pipe', None, "Oslo", "Oslo"]
    assert found[raw.ERROR].to_list() == [None, "line 3 opens a quote and does not close it", None, None]


@pytest.mark.parametrize("text", [f"{HEADER}{GOOD}b,2", f'{HEADER}{GOOD}b,"2', f"{HEADER}{GOOD}b,2\n,,\n\n"])
def test_a_last_line_that_was_cut_refuses_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"t.csv is truncated: its last line has 2 of 6 cells"):
        read(put(tmp_path, text))


def test_lines_without_any_value_are_no_rows_and_are_counted(tmp_path: Path) -> None:
    put(tmp_path, f'\n{HEADER}\n{GOOD},,,,,\n   \n{GOOD}"","",,,,\n,,,\n\n\n')
    table = raw.read(tmp_path, contract(), labelled=True)
    assert table.frame.collect()["id"].to_list() == ["a", "a"]
    assert table.frame.collect()[raw.ROW].to_list() == [1, 2]
    assert table.empty == 8 - 1 - 1 + 1  # the line before the header is none that is counted
    assert not table.frame.collect()[raw.BROKEN].any()


def test_rows_of_parquet_without_any_value_are_no_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"id": ["a", None, "b", None], "income": [1.0, None, None, 4.0], "town": ["x", "", None, None]}
    )
    frame.with_columns(own=None, since=None, label=pl.lit(None)).write_parquet(tmp_path / "t.parquet")
    table = raw.read(tmp_path, contract(), labelled=False)
    assert table.frame.collect()["income"].to_list() == [1.0, None, 4.0]
    assert table.empty == 1


def test_an_empty_line_of_a_table_with_one_column_is_a_missing_value_but_for_the_last(tmp_path: Path) -> None:
    put(tmp_path, 'income\n1\n\n2\n""\n\n\n')
    table = raw.read(tmp_path, contract({"income": {"type": "number"}}, id=""), labelled=False)
    assert table.frame.collect()["income"].to_list() == [1.0, None, 2.0, None]
    assert table.empty == 2


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.text(st.sampled_from('a1,;"\n é'), max_size=5), min_size=3, max_size=3), max_size=6))
def test_what_the_csv_module_writes_is_read_as_it_was(rows: list[list[str]]) -> None:
    frame = pl.DataFrame(rows, schema=dict.fromkeys("abc", pl.String), orient="row")
    found = lines.rows(lines.named(lines.Text(frame.write_csv().encode(), "text", ","))).frame.collect()
    kept = frame.filter(pl.any_horizontal(pl.all().str.strip_chars(" \t\n") != ""))
    assert_frame_equal(found.select(pl.col("a", "b", "c").fill_null("")), kept)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(st.sampled_from('a1,"\n\r é'), max_size=60))
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    try:
        found = lines.rows(lines.named(lines.Text(f"x,y\n{text}".encode(), "text", ","))).frame.collect()
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both ends are right
    else:
        assert {"x", "y"} <= set(found.columns)


# --- headers and files


def test_doubled_quotes_in_a_header_are_one_quote(tmp_path: Path) -> None:
    put(tmp_path, 'id,"say ""hi"""\na,3\n')
    found = read(tmp_path, contract({'say "hi"': {"type": "number"}}), labelled=False)
    assert found['say "hi"'].to_list() == [3.0]


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t.csv has the column 'income' more than once"):
        read(put(tmp_path, "id,income,income\na,1,2\n"), contract({"income": {"type": "number"}}), labelled=False)


def test_columns_without_a_name_and_pandas_index_are_no_columns(tmp_path: Path) -> None:
    put(tmp_path, ",id,income,,\n0,a,1,,\n1,b,2,,\n")
    frame = pl.DataFrame({"id": ["c"], "income": [3.0], "__index_level_0__": [0]})
    frame.write_parquet(tmp_path / "u.parquet")
    assert "__index_level_0__" not in files.scan(tmp_path / "u.parquet", Data("binary", "")).collect_schema()
    found = read(tmp_path, contract({"income": {"type": "number"}}), labelled=False)
    assert found["income"].to_list() == [1.0, 2.0, 3.0]


EXCEL = "id;income\nZoë;1.234,5\nÅse;-3\n"
PACKED = {
    "bom.csv": EXCEL.encode("utf-8-sig"),
    "plain.TXT": EXCEL.encode(),
    "t.tsv": EXCEL.encode(),
    "t.csv.gz": gzip.compress(EXCEL.encode()),
    "marked.csv": EXCEL.encode("utf-16"),
    "cr.csv": EXCEL.replace("\n", "\r").encode(),
    "excel.csv": f"sep=;\n{EXCEL}".encode(),
    "data[1].csv": EXCEL.encode(),
}


@pytest.mark.parametrize("name", PACKED)
def test_files_are_read_as_spreadsheets_write_them(tmp_path: Path, name: str) -> None:
    put(tmp_path, PACKED[name], name)
    case = contract({"income": {"type": "number"}}, separator=";", decimal=",", thousands=".")
    found = read(tmp_path, case, labelled=False)
    assert found.select("id", "income").rows() == [("Zoë", 1234.5), ("Åse", -3.0)]


@pytest.mark.parametrize(
    ("encoding", "written"), [("windows-1252", "cp1252"), ("latin-1", "latin-1"), ("utf-16", "utf-16-le")]
)
def test_the_encoding_of_the_contract_is_read(tmp_path: Path, encoding: str, written: str) -> None:
    put(tmp_path, EXCEL.encode(written))
    case = contract({"income": {"type": "number"}}, separator=";", decimal=",", thousands=".", encoding=encoding)
    assert read(tmp_path, case, labelled=False)["id"].to_list() == ["Zoë", "Åse"]


def test_files_of_two_encodings_are_refused_with_what_to_do(tmp_path: Path) -> None:
    put(tmp_path, EXCEL.encode("cp1252"), "a.csv")
    put(tmp_path, EXCEL.encode(), "b.csv")
    columns = {"income": {"type": "category"}}
    with pytest.raises(InputError, match=r"a.csv: line 2 is not UTF-8 text.*encoding"):
        read(tmp_path, contract(columns, separator=";"), labelled=False)
    with pytest.raises(InputError, match=r"b.csv is UTF-8 text, and \[data\] encoding says cp1252"):
        read(tmp_path, contract(columns, separator=";", encoding="windows-1252"), labelled=False)


def test_a_file_without_a_header_has_numbered_columns(tmp_path: Path) -> None:
    put(tmp_path, "a,1\nb,2\n")
    found = read(tmp_path, contract({"column_2": {"type": "number"}}, id="column_1", header=False), labelled=False)
    assert found["column_2"].to_list() == [1.0, 2.0]


def test_a_zip_holds_one_table_or_is_refused(tmp_path: Path) -> None:
    for name, held in {"one.zip": ["t.csv"], "two.zip": ["t.csv", "u.csv"]}.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for inner in held:
                archive.writestr(inner, HEADER + GOOD)
    assert read(tmp_path / "one.zip")["id"].to_list() == ["a"]
    with pytest.raises(InputError, match=r"two.zip holds 2 files \(t.csv, u.csv\)"):
        read(tmp_path / "two.zip")
    (tmp_path / "one.zip").write_bytes((tmp_path / "one.zip").read_bytes()[:40])
    with pytest.raises(InputError, match=r"one.zip is truncated or damaged"):
        read(tmp_path / "one.zip")


def test_links_are_followed_once_and_a_dangling_one_is_said(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "x.csv").mkdir()
    put(tmp_path / "there", HEADER + GOOD)
    put(tmp_path / "x.csv", HEADER + GOOD, "part.csv")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "linked").symlink_to(tmp_path / "there")
    (tmp_path / "raw" / "again").symlink_to(tmp_path / "there")
    (tmp_path / "raw" / "loop").symlink_to(tmp_path / "raw")
    (tmp_path / "raw" / "x.csv").symlink_to(tmp_path / "x.csv")
    assert len(read(tmp_path / "raw")) == 2
    (tmp_path / "raw" / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match=r"gone.csv is a link to .*nowhere.csv, which does not exist"):
        files.find(tmp_path / "raw")


@pytest.mark.parametrize("place", ["pipe.csv", ""])
def test_a_pipe_is_refused_before_anybody_waits_for_it(tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe.csv is a pipe or a device, and a table is read more than once"):
        files.find(tmp_path / place)


def test_an_empty_folder_is_called_as_its_owner_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(InputError, match=r"x.csv holds nothing"):
        files.find(tmp_path / "x.csv")
    monkeypatch.setenv("ML_ROOT", str(tmp_path))
    (tmp_path / "config").mkdir()
    (tmp_path / "raw").mkdir()
    sources = [{"InputName": "raw", "S3Input": {"S3Uri": "s3://mine/july/production"}}]
    (tmp_path / "config" / "processingjobconfig.json").write_text(json.dumps({"ProcessingInputs": sources}))
    with pytest.raises(InputError, match=r"^s3://mine/july/production holds nothing"):
        files.find(tmp_path / "raw")


# --- values


def both(folder: Path, table: pl.DataFrame, text: str, case: UseCase) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A table from Parquet, and what another program wrote of it as CSV."""
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    table.write_parquet(folder / "a" / "t.parquet")
    put(folder / "b", text)
    return tuple(read(folder / part, case).drop(raw.FILE) for part in "ab")  # type: ignore[return-value]


MOMENT = datetime(2024, 1, 31, 13, 30)
LATER = MOMENT.replace(microsecond=500_000)
WAYS: dict[str, tuple[Sequence[Any], Sequence[str], Sequence[str]]] = {  # in Parquet, in CSV, canonical
    "whole numbers": ([10001, 10002], ["10001.0", "10002"], ["10001", "10002"]),
    "floats": ([10001.0, 0.5], ["10001", "0.5"], ["10001", "0.5"]),
    "negative zero": ([-0.0, 1.0], ["0.0", "1.00"], ["0", "1"]),
    "booleans": ([True, False], ["True", "FALSE"], ["true", "false"]),
    "decimals": ([Decimal("2.00"), Decimal("1.50")], ["2.00", "1.50"], ["2", "1.50"]),
    "days": (
        [date(2024, 1, 31), date(2024, 2, 1)],
        ["2024-01-31", "2024-02-01 00:00:00"],
        ["2024-01-31", "2024-02-01"],
    ),
    "moments": (
        [MOMENT, LATER],
        ["2024-01-31T13:30:00.000000", "2024-01-31 13:30:00.500"],
        ["2024-01-31 13:30:00", "2024-01-31 13:30:00.5"],
    ),
    "bytes": ([b"ab", b"c"], ["ab", "c"], ["ab", "c"]),
    "codes": (["007", "1e5"], ["007", "1e5"], ["007", "1e5"]),
    "versions": (["1.50", "1.5"], ["1.50", "1.5"], ["1.50", "1.5"]),
}


@pytest.mark.parametrize("kind", WAYS)
def test_a_value_has_one_text_as_category_id_and_label_alike(tmp_path: Path, kind: str) -> None:
    typed, written, canonical = WAYS[kind]
    case = contract({"x": {"type": "category"}}, label="y", classes=list(written))
    table = pl.DataFrame({"id": typed, "x": typed, "y": typed})
    text = "id,x,y\n" + "".join(f"{cell},{cell},{cell}\n" for cell in written)
    parquet, csv = both(tmp_path, table, text, case)
    assert_frame_equal(parquet, csv)
    assert csv["x"].to_list() == csv["id"].to_list() == list(canonical)
    assert csv["y"].to_list() == list(written)  # the contract's own words


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["1", "2"])])
def test_dictionaries_of_texts_are_texts(tmp_path: Path, kind: Any) -> None:
    case = contract({"x": {"type": "category"}}, label="x2", classes=["1", "2"])
    texts = pl.Series(["1", "2"]).cast(kind)
    parquet, csv = both(
        tmp_path, pl.DataFrame({"id": [1, 2], "x": texts, "x2": texts}), "id,x,x2\n1,1,1\n2,2,2\n", case
    )
    assert_frame_equal(parquet, csv)


@pytest.mark.parametrize("kind", [pl.Time, pl.Duration("us"), pl.Duration("ms")])
def test_clocks_and_durations_are_texts_that_are_read_as_the_same_hours(kind: Any) -> None:
    lasting = pl.Series([timedelta(seconds=1.5), timedelta(days=2, hours=3), -timedelta(minutes=8), None])
    cells = pl.Series([time(0, 0, 1, 500_000), time(13, 8), None]) if kind == pl.Time else lasting.cast(kind)
    texts = values.texts(cells, ())
    assert (
        values.number(texts, Spelling(format="hh:mm:ss"))[0].to_list() == values.number(cells, Spelling())[0].to_list()
    )


@pytest.mark.parametrize("classes", [["0", "1"], ["0.0", "1.0"], ["False", "True"], ["false", "true"]])
@pytest.mark.parametrize("label", [[0, 1], [0.0, 1.0], [False, True], ["0", "1"], ["False", "True"], ["0.0", "1.0"]])
def test_a_label_of_two_values_is_told_in_every_spelling(tmp_path: Path, classes: list[str], label: list[Any]) -> None:
    pl.DataFrame({"id": ["a", "b"], "x": [1, 2], "label": label}).write_parquet(tmp_path / "t.parquet")
    found = read(tmp_path, contract({"x": {"type": "number"}}, classes=classes))
    assert found["label"].to_list() == classes
    assert not found[raw.BROKEN].any()


def test_two_spellings_of_one_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names one value in two ways"):
        read(put(tmp_path, HEADER + GOOD), contract(classes=["1", "1.0"]))


def test_markers_and_infinities_are_no_values_in_both_kinds_of_file(tmp_path: Path) -> None:
    case = contract({"x": {"type": "number"}}, label="y", task="regression", classes=[], missing=["", "-999"])
    table = pl.DataFrame({"id": [1, 2, 3], "x": [-999.0, float("inf"), 2.0], "y": [-999, 1, 2]})
    parquet, csv = both(tmp_path, table, "id,x,y\n1.0,-999,-999.0\n2.0,inf,1\n3.0,2,2\n", case)
    assert_frame_equal(parquet, csv)
    assert csv["x"].to_list() == [None, None, 2.0]
    assert not csv[raw.BROKEN].any()


@pytest.mark.parametrize(
    ("decimal", "thousands", "cells", "numbers"),
    [
        (",", ".", ["1.234,5", "1,5", "12.345", "-3", "1.5", "3,1,4"], [1234.5, 1.5, 12345.0, -3.0, None, None]),
        (",", "", ["3,14", "1,5e3", "3.14"], [3.14, 1500.0, None]),
        (".", ",", ["1,234.5", "1,23"], [1234.5, None]),
        (",", " ", ["1 234,5", "1\u00a0234", "1\u202f234,0"], [1234.5, 1234.0, 1234.0]),
        (".", "'", ["1'234.5", "1’234"], [1234.5, 1234.0]),
    ],
)
def test_marks_in_numbers_are_read_where_they_can_stand(
    decimal: str, thousands: str, cells: list[str], numbers: list[float | None]
) -> None:
    found, wrong = values.number(pl.Series(cells), values.Spelling(("",), decimal, thousands))
    assert found.to_list() == numbers
    assert (wrong.to_list() if wrong is not None else [False] * len(cells)) == [number is None for number in numbers]


def test_moments_are_read_on_the_clocks_of_the_zone_that_is_named_or_refused(tmp_path: Path) -> None:
    moments = pl.Series([datetime(2024, 7, 1, 22)]).dt.replace_time_zone("UTC")
    pl.DataFrame({"id": ["a"], "t": moments}).write_parquet(tmp_path / "t.parquet")
    for zone, hour in (("UTC", 22), ("Europe/Berlin", 0)):
        found = read(tmp_path, contract({"t": {"type": "date", "time_zone": zone}}), labelled=False)
        assert found["t"][0].hour == hour
    with pytest.raises(
        InputError, match=r"t.parquet: column 't' holds moments of a time zone \(UTC\).*time_zone = \"UTC\""
    ):
        read(tmp_path, contract({"t": {"type": "date"}}), labelled=False)
    (tmp_path / "t.parquet").unlink()
    put(tmp_path, "id,t\na,2024-07-01T22:00:00+02:00\nb,2024-07-01T22:00:00\n")
    case = contract({"t": {"type": "date", "format": "%Y-%m-%dT%H:%M:%S%z", "time_zone": "Europe/Berlin"}})
    found = read(tmp_path, case, labelled=False)
    assert found["t"].to_list() == [datetime(2024, 7, 1, 22), None]
    assert found[raw.BROKEN].to_list() == [False, True]


@pytest.mark.parametrize(
    ("form", "unit"), [("epoch s", 1), ("epoch ms", 1000), ("epoch us", 10**6), ("epoch ns", 10**9)]
)
@pytest.mark.parametrize(("zone", "hours"), [("", [0, 14, 1]), ("UTC", [0, 14, 1]), ("Europe/Berlin", [1, 16, 2])])
def test_numbers_since_1970_are_the_same_moments_in_csv_and_parquet(
    tmp_path: Path, form: str, unit: int, zone: str, hours: list[int]
) -> None:
    seconds = (1704067200, 1719842400, 1704070800)  # 2024-01-01 00:00, 2024-07-01 14:00, 2024-01-01 01:00
    cells = [*(second * unit for second in seconds), None]
    ids = list("abcd")
    pl.DataFrame({"id": ids, "t": cells}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"id": ids, "t": [float(cell) if cell else None for cell in cells]}).write_parquet(
        tmp_path / "b.parquet"
    )
    put(tmp_path, f"id,t\na,{cells[0]}\nb,{cells[1]}.0\nc,{cells[2]}\nd,NA\n", "c.csv")
    as_column = contract({"t": {"type": "date", "format": form, "time_zone": zone}})
    as_time = contract({"x": {"type": "number"}}, time="t", time_format=form, time_zone=zone)
    for name in ("a.parquet", "b.parquet", "c.csv"):
        found = read(tmp_path / name, as_column, labelled=False)
        assert not found[raw.BROKEN].any()
        feature = {"name": "t__hour", "source": "t", "kind": "date"}
        assert found.select(features.transform([feature]))["t__hour"].to_list() == [*hours, None]
        table = tmp_path / name
        frame = pl.read_parquet(table) if name.endswith("parquet") else pl.read_csv(table, infer_schema=False)
        other = tmp_path / f"time-{name}"
        other.mkdir()
        frame = frame.with_columns(x=pl.lit(1))
        frame.write_csv(other / name) if name.endswith("csv") else frame.write_parquet(other / name)
        assert read(other, as_time, labelled=False)["t"].equals(found["t"])


@pytest.mark.parametrize("cell", ["soon", "2024-01-01", "1704067200000"])
def test_what_is_no_number_of_seconds_since_1970_is_wrong_in_its_own_words(tmp_path: Path, cell: str) -> None:
    put(tmp_path, f"id,t\na,1704067200.5\nb,{cell}\nc,\n")
    case = contract({"t": {"type": "date", "format": "epoch s"}})
    found = raw.read(tmp_path, case, labelled=False)
    assert found.frame.collect()["t"].to_list() == [datetime(2024, 1, 1, microsecond=500_000), None, None]
    said = found.frame.filter(raw.BROKEN).select(raw.FILE, raw.ROW, raw.ERROR).collect()
    assert said.height == 1
    assert said.row(0)[2] == f"column 't': '{cell}' is not a number of seconds since 1970"


@pytest.mark.parametrize(
    ("column", "cells", "said"),
    [
        ({"type": "category"}, [[1], [2]], "cannot cast List"),
        ({"type": "date"}, ["soon", "later"], "could not find an appropriate format"),
    ],
)
def test_a_column_that_can_t_be_read_is_named(
    tmp_path: Path, column: dict[str, Any], cells: list[Any], said: str
) -> None:
    pl.DataFrame({"id": ["a", "b"], "x": cells}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=rf"^t.parquet: column 'x' can't be read: .*{said}"):
        read(tmp_path, contract({"x": column}), labelled=False)


# --- blocks


def test_csv_without_anything_odd_is_read_once_and_its_numbers_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "rows", pytest.fail)
    put(tmp_path, HEADER + "a,1.5,Oslo,yes,2024-01-31,no\nb,,,,,yes\n")
    reading = batches.Reading(tuple(files.find(tmp_path)), contract(), labelled=True, numbers={"income"})
    (batch,) = reading
    assert batch["income"].to_list() == [1.5, None]


def test_what_was_parsed_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pl.DataFrame({"id": ["a", "b"], "x": [1.5, None], "label": ["no", "yes"]}).write_parquet(tmp_path / "t.parquet")
    table = raw.read(tmp_path, contract({"x": {"type": "number"}}), labelled=True)
    monkeypatch.setattr(raw, "_parsed", None)
    assert table.frame.select("x").collect()["x"].to_list() == [1.5, None]
    assert table.frame.filter(pl.col("label") == "yes").select("label", "id").collect().row(0) == ("yes", "b")


def test_wide_parquet_is_cut_by_its_columns_into_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {f"x{number}": pl.int_range(number, number + 100, eager=True).cast(pl.Float64) for number in range(7)}
    labels = {"id": pl.int_range(100, eager=True).cast(pl.String), "label": pl.Series(["no", "yes"] * 50)}
    table = pl.DataFrame(labels | cells).with_columns(pl.when(pl.int_range(100) != 41).then(pl.all()))
    table.write_parquet(tmp_path / "t.parquet")
    case = contract({name: {"type": "number"} for name in cells})
    whole = raw.read(tmp_path, case, labelled=True)
    monkeypatch.setattr(batches, "CELLS", 150)
    monkeypatch.setattr(batches, "CUT", 3)
    cut = raw.read(tmp_path, case, labelled=True)
    assert_frame_equal(cut.frame.collect(), whole.frame.collect())
    assert (cut.rows, cut.empty) == (99, 1)


@pytest.mark.parametrize("block", [1, 40, 100, 1 << 24])
def test_what_is_odd_is_found_in_blocks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Each odd row has ordinary ones before and behind it, and says the same as in a file that is read as text."""
    cells = [
        "7",
        "12.50",
        "NA",
        " 3",
        "4 ",
        "x",
        "-1",
        "1e400",
        "1_000",
        "0x1",
        "",
        "nan",
        "'1'",
        "\u22125",
        "5,6",
        "1e2",
    ]
    odd = [f"o,{cell},Oslo,yes,2024-01-31,no" for cell in cells]
    odd += [
        "s,1",
        "",
        ",,,,,",
        "  , ,,,,",
        'q,1,"Os,lo",yes,2024-01-31,no',
        "l,1,Oslo,yes,2024-01-31,no,",
        "n,150,NA,,,",
    ]
    case = contract({"income": {"type": "number", "minimum": 0, "maximum": 100}, "town": {"type": "category"}})
    monkeypatch.setattr(batches, "BLOCK", block)
    monkeypatch.setattr(batches, "WIDE", 0)
    for at, line in enumerate([*odd, "\n".join(odd)]):
        place = tmp_path / str(at)
        place.mkdir()
        put(place, HEADER + GOOD * 3 + line + "\n" + GOOD * 3)
        table = raw.read(place, case, labelled=True)
        with monkeypatch.context() as textual:
            textual.setattr(batches, "is_clear", lambda *_: False)
            textual.setattr(batches.Reading, "_block", lambda *_: None)
            expected = raw.read(place, case, labelled=True)
        assert_frame_equal(table.frame.collect(), expected.frame.collect())
        assert (table.empty, table.broken, table.first) == (expected.empty, expected.broken, expected.first), line


# --- growth

WIDE = """
[usecase]
name = "wide"
[data]
task = "binary"
id = "id"
label = "label"
classes = ["no", "yes"]
bad_rows = 0.5
[columns]
{columns}
[gate]
metric = "auc"
minimum = 0.5
"""
CHILD = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
import sys, time
from components.processing import serve, train
start = time.process_time()
{"train": train.train, "serve": serve.serve}[sys.argv[1]]({})
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def wide(root: Path, columns: int, parts: int) -> Path:
    """A job whose input has that many columns and files, and a row that breaks the contract."""
    place, rows = root / "processing" / "input" / "raw", 60 * parts
    place.mkdir(parents=True)
    kinds = {f"x{at}": "category" if at % 4 == 3 else "number" for at in range(columns)}
    (root / "usecase.toml").write_text(
        WIDE.format(columns="\n".join(f'{name} = {{ type = "{kind}" }}' for name, kind in kinds.items()))
    )
    cells = {name: [str((row * 7 + at) % 5) for row in range(rows)] for at, name in enumerate(kinds)}
    cells["x0"][1] = "much"
    table = pl.DataFrame({"id": [f"c{row}" for row in range(rows)], **cells, "label": ["yes", "no"] * (rows // 2)})
    for part, some in enumerate(table.iter_slices(60)):
        some.write_csv(place / f"{part:04d}.csv")
    return root


def costs(root: Path) -> list[tuple[float, float]]:
    """Processor seconds and MiB that training and serving take."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ML_ROOT": str(root)}
    environment["USECASE_FILE"] = str(root / "usecase.toml")
    found = []
    for mode in ("train", "serve"):
        command = [sys.executable, "-c", CHILD, mode]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, ran.stderr[-500:]
        seconds, memory = map(float, ran.stdout.split()[-2:])
        found.append((seconds, memory))
        if mode == "train":
            learned = root / "processing" / "output" / "preprocessor"
            learned.rename(root / "processing" / "input" / "preprocessor")
    return found


def test_twice_the_columns_take_twice_the_time_and_memory_at_most(tmp_path: Path) -> None:
    once, twice = costs(wide(tmp_path / "a", 250, 1)), costs(wide(tmp_path / "b", 500, 1))
    for (seconds, memory), (later, more) in zip(once, twice, strict=True):
        assert more < 1.5 * memory
        assert later < 2.5 * seconds + 0.5


def test_three_times_the_files_take_no_more_memory(tmp_path: Path) -> None:
    once, thrice = costs(wide(tmp_path / "a", 8, 40)), costs(wide(tmp_path / "b", 8, 120))
    for (seconds, memory), (later, more) in zip(once, thrice, strict=True):
        assert more < 1.25 * memory
        assert later < 3.5 * seconds + 0.5


def test_a_place_is_named_as_it_was_given_and_a_folder_in_it_is_seen(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}/sub/nosuch.csv: no such file or folder"):
        files.find(tmp_path / "sub" / "nosuch.csv")
    (tmp_path / "sub" / "x.csv").mkdir(parents=True)
    with pytest.raises(InputError, match=r"/sub holds only x.csv/; a table is a file"):
        files.find(tmp_path / "sub")
