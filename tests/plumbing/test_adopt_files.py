"""Files as people have them: other encodings, decimal commas, packed ones, and one table as CSV and as Parquet."""

import csv
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from batchloop.container import raw, usecase
from plumbing.test_adopt import BEFORE, prove, run

COUNT = 300
READING = ("separator", "encoding", "decimal", "thousands", "header")


def frame(count: int = COUNT) -> pd.DataFrame:
    """A table with decimals, whole numbers, words with accents and a label."""
    random = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "price": random.normal(2000, 700, count).round(2),
            "visits": random.integers(1, 30, count),
            "Größe": random.choice(["groß", "klein", "übergroß"], count),
            "target": random.choice(["yes", "no"], count),
        }
    )


def adopted(folder: Path, content: bytes, *options: str, name: str = "table.csv") -> dict[str, Any]:
    """The new usecase.toml of a file that must be adopted, proven to read it."""
    (folder / "usecase.toml").write_text(BEFORE)
    (folder / name).write_bytes(content)
    label = () if "--label" in options else ("--label", "target")
    assert run(folder, folder / name, *label, *options) == 0
    prove(folder)
    return tomllib.loads((folder / "usecase.toml").read_text(encoding="utf-8"))


def refused(folder: Path, content: bytes, *options: str, name: str = "table.csv") -> int:
    """The exit code for a file that must not be adopted; nothing is written."""
    (folder / "usecase.toml").write_text(BEFORE)
    (folder / name).write_bytes(content)
    label = () if "--label" in options else ("--label", "target")
    code = run(folder, folder / name, *label, *options)
    assert code in (1, 2)
    assert (folder / "usecase.toml").read_text() == BEFORE
    return code


def types(found: dict[str, Any]) -> dict[str, str]:
    return {name: column["type"] for name, column in found["columns"].items()}


def values(folder: Path, column: str) -> list[Any]:
    """What the contract reads from a column of the adopted table."""
    case = usecase.load(folder / "usecase.toml")
    return raw.read(folder / "data" / "adopted" / "train", case, labelled=True).frame.collect()[column].to_list()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "windows-1252", "latin-1", "utf-16", "utf-16-le"])
def test_an_encoding_is_found_and_written_down(tmp_path: Path, encoding: str) -> None:
    found = adopted(tmp_path, frame().to_csv(index=False).encode(encoding))
    wanted = {"utf-8-sig": "utf-8", "latin-1": "windows-1252"}
    assert found["data"].get("encoding", "utf-8") == wanted.get(encoding, encoding)
    assert types(found) == {"price": "number", "visits": "number", "Größe": "category"}
    assert set(values(tmp_path, "Größe")) == {"groß", "klein", "übergroß"}


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        (["Москва", "Казань", "Самара"], "windows-1251"),
        (["Wałęsa", "Łódź", "Gdańsk"], "windows-1250"),
        (["Größe", "Münster", "Köln"], "cp850"),
        (["東京", "大阪", "京都"], "shift_jis"),
    ],
)
def test_text_that_is_not_western_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], encoding: str
) -> None:
    content = frame().assign(town=[words[n % 7 % 3] for n in range(COUNT)]).drop(columns="Größe")
    assert refused(tmp_path, content.to_csv(index=False).encode(encoding)) == 2
    assert "ENCODING=" in capsys.readouterr().err
    found = adopted(tmp_path, content.to_csv(index=False).encode(encoding), "--encoding", encoding)
    assert found["data"]["encoding"] == encoding
    assert set(values(tmp_path, "town")) == set(words)


def test_files_of_two_encodings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "usecase.toml").write_text(BEFORE)
    (tmp_path / "table").mkdir()
    for name, encoding in (("a.csv", "utf-8"), ("b.csv", "windows-1252")):
        (tmp_path / "table" / name).write_bytes(frame().to_csv(index=False).encode(encoding))
    assert run(tmp_path, tmp_path / "table", "--label", "target") == 1
    assert "a.csv is utf-8 text and b.csv is windows-1252" in capsys.readouterr().err


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_decimal_commas_and_thousands_are_found(tmp_path: Path, separator: str) -> None:
    table = frame()
    written = table.assign(
        price=[f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in table["price"]],
        share=[f"{n % 97 / 7:.4f}".replace(".", ",") for n in range(COUNT)],
    )
    found = adopted(tmp_path, written.to_csv(index=False, sep=separator).encode())
    assert {key: found["data"].get(key) for key in ("separator", "decimal", "thousands")} == {
        "separator": separator,
        "decimal": ",",
        "thousands": ".",
    }
    assert types(found)["price"] == types(found)["share"] == "number"
    assert values(tmp_path, "price") == pytest.approx(table["price"].to_list())


@pytest.mark.parametrize(("mark", "thousands"), [(",", ","), (" ", " "), ("\u00a0", "\u00a0"), ("'", "'")])
def test_thousands_are_found_beside_a_decimal_point(tmp_path: Path, mark: str, thousands: str) -> None:
    table = frame()
    written = table.assign(price=[f"{value:,.2f}".replace(",", mark) for value in table["price"]])
    found = adopted(tmp_path, written.to_csv(index=False).encode())
    assert (found["data"].get("decimal", "."), found["data"]["thousands"]) == (".", thousands)
    assert values(tmp_path, "price") == pytest.approx(table["price"].to_list())


@pytest.mark.parametrize(("gap", "said"), [("-", ()), ("tbd", ("--missing=tbd",))])
def test_thousands_are_found_where_gaps_are_words(tmp_path: Path, gap: str, said: tuple[str, ...]) -> None:
    written = [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in frame()["price"]]
    table = frame().assign(price=[text if n % 8 else gap for n, text in enumerate(written)])
    found = adopted(tmp_path, table.to_csv(index=False, sep=";").encode(), *said)
    assert (found["data"]["decimal"], found["data"]["thousands"]) == (",", ".")
    assert types(found)["price"] == "number"


def test_a_regression_label_with_a_decimal_comma_is_a_number(tmp_path: Path) -> None:
    table = frame().assign(target=np.random.default_rng(1).normal(50, 9, COUNT).round(1))
    found = adopted(tmp_path, table.to_csv(index=False, sep=";", decimal=",").encode())
    assert found["data"]["task"] == "regression"
    assert values(tmp_path, "target") == pytest.approx(table["target"].to_list())


def test_days_with_points_are_no_thousands(tmp_path: Path) -> None:
    table = frame().assign(day=[f"{1 + n % 28:02}.{1 + n % 12:02}.2024" for n in range(COUNT)])
    found = adopted(tmp_path, table.to_csv(index=False, sep=";", decimal=",").encode())
    assert found["columns"]["day"]["format"] == "%d.%m.%Y"
    assert found["data"].get("thousands", "") == ""


@pytest.mark.parametrize(
    ("cell", "options"),
    [("{}.{:03}", ("DECIMAL=, for thousands", ".")), ("{},{:03}", ("DECIMAL=. for thousands", ","))],
)
def test_one_group_of_three_after_a_sign_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cell: str, options: tuple[str, str]
) -> None:
    table = frame().assign(price=[cell.format(1 + n % 300, n * 37 % 1000) for n in range(COUNT)])
    content = table.to_csv(index=False, sep=";").encode()
    assert refused(tmp_path, content) == 2
    assert options[0] in capsys.readouterr().err
    decimal = options[1]
    adopted(tmp_path, content, "--decimal", decimal)
    assert max(values(tmp_path, "price")) < 400
    other = {",": ".", ".": ","}[decimal]
    found = adopted(tmp_path, content, "--decimal", other)
    assert found["data"]["thousands"] == decimal
    assert max(values(tmp_path, "price")) > 10_000


def test_a_packed_file_or_one_of_text_is_a_table(tmp_path: Path) -> None:
    plain = frame().to_csv(index=False, sep="\t").encode()
    assert adopted(tmp_path, plain, name="table.txt")["data"]["separator"] == "\t"
    assert adopted(tmp_path, plain, name="table.tsv")["data"]["separator"] == "\t"
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside/table.csv", frame().to_csv(index=False, sep=";").encode("windows-1252"))
    found = adopted(tmp_path, (tmp_path / "packed.zip").read_bytes(), name="table.zip")
    assert (found["data"]["separator"], found["data"]["encoding"]) == (";", "windows-1252")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_line_by_which_excel_names_the_separator_is_no_header(tmp_path: Path, separator: str) -> None:
    text = frame().to_csv(index=False, sep=separator, lineterminator="\r\n")
    found = adopted(tmp_path, f"sep={separator}\r\n{text}".encode())
    assert found["data"]["separator"] == separator
    assert len(values(tmp_path, "price")) == COUNT


@pytest.mark.parametrize("name", ["table.xlsx", "table.csv"])
def test_a_workbook_is_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    with zipfile.ZipFile(tmp_path / "book", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    assert refused(tmp_path, (tmp_path / "book").read_bytes(), name=name) == 1
    assert "save its sheet as CSV" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "options"),
    [
        (frame(), {}),
        (frame(), {"sep": ";", "decimal": ","}),
        (frame().drop(columns="price"), {}),
        (frame().assign(note=[f"note {n}, of its own" for n in range(COUNT)])[["target", "note", "visits"]], {}),
        (frame().assign(person=[f"person {n}, with a name" for n in range(COUNT)]), {}),
    ],
)
def test_a_file_without_names_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: pd.DataFrame, options: dict[str, str]
) -> None:
    content = table.to_csv(index=False, header=False, **options).encode()
    assert refused(tmp_path, content) == 2
    assert "HEADER=no" in capsys.readouterr().err
    label = f"column_{1 + list(table).index('target')}"
    found = adopted(tmp_path, content, "--header", "no", "--label", label)
    assert (found["data"]["header"], found["data"]["label"]) == (False, label)
    assert len(values(tmp_path, label)) == COUNT


@pytest.mark.parametrize(
    "names",
    [
        ["0", "1", "2", "target"],
        ["2019", "2020", "2021", "target"],
        ["a", "a1", "b", "target"],
        ["2024-01-01", "0.5", "x", "target"],
    ],
)
def test_names_that_are_numbers_are_names(tmp_path: Path, names: list[str]) -> None:
    table = frame().set_axis(names, axis=1)
    assert set(adopted(tmp_path, table.to_csv(index=False).encode())["columns"]) == set(names[:3])


def test_names_that_look_like_data_can_be_insisted_on(tmp_path: Path) -> None:
    content = b"1.5,1.5x,target\n" + b"".join(b"%d.5,1.5x,%s\n" % (n, b"yes" if n % 3 else b"no") for n in range(90))
    assert "1.5" in adopted(tmp_path, content, "--header", "yes")["columns"]


def gaps(values: Any, every: int = 7) -> list[Any]:
    return [None if n % every == 3 else value for n, value in enumerate(values)]


def everything() -> pd.DataFrame:
    """What pandas writes in two ways: numbers and booleans with gaps, dates, categories, codes."""
    random = np.random.default_rng(8)
    days = pd.date_range("2024-01-01", periods=COUNT, freq="h")
    return frame().assign(
        whole=pd.array(gaps(random.integers(0, 50, COUNT)), dtype="float64"),
        shop_code=pd.array(gaps(10001 + random.integers(0, 9, COUNT)), dtype="float64"),
        flag=random.choice([True, False], COUNT),
        flag_with_gaps=pd.Series(gaps(random.choice([True, False], COUNT).tolist()), dtype=object),
        kind=pd.Categorical(random.choice(["a", "b", "c"], COUNT)),
        day=days.floor("D"),
        at=days,
        customer_id=[f"c{n}" for n in range(COUNT)],
    )


LABELS: dict[str, Callable[[np.random.Generator], Any]] = {
    "words": lambda random: random.choice(["yes", "no"], COUNT),
    "booleans": lambda random: random.choice([True, False], COUNT),
    "booleans with gaps": lambda random: pd.Series(gaps(random.choice([True, False], COUNT).tolist()), dtype=object),
    "whole numbers": lambda random: random.integers(0, 2, COUNT),
    "whole numbers with gaps": lambda random: pd.array(gaps(random.integers(0, 2, COUNT)), dtype="float64"),
    "classes": lambda random: random.integers(1, 4, COUNT),
    "amounts": lambda random: random.normal(0, 1, COUNT).round(3),
    "amounts with gaps": lambda random: pd.array(gaps(random.normal(0, 1, COUNT).round(3)), dtype="float64"),
}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(("index", "decimal"), [(False, "."), (True, "."), (False, ",")])
def test_csv_and_parquet_of_one_table_have_one_contract(tmp_path: Path, label: str, index: bool, decimal: str) -> None:
    table = everything().assign(target=LABELS[label](np.random.default_rng(2)))
    table = table.sample(frac=1, random_state=1) if index else table
    table.to_parquet(tmp_path / "pandas.parquet")
    text = table.to_csv(index=index, sep="," if decimal == "." else ";", decimal=decimal).encode()
    as_csv = adopted(tmp_path, text)
    first = (tmp_path / "usecase.toml").read_text(encoding="utf-8")
    as_parquet = adopted(tmp_path, (tmp_path / "pandas.parquet").read_bytes(), name="table.parquet")
    for key in READING:
        as_csv["data"].pop(key, None)
        as_parquet["data"].pop(key, None)
    assert as_parquet == as_csv
    (tmp_path / "usecase.toml").write_text(first)
    case = usecase.load(tmp_path / "usecase.toml")
    both = [raw.read(tmp_path / name, case, labelled=True).frame.collect() for name in ("table.csv", "table.parquet")]
    assert both[0].drop(raw.FILE).equals(both[1].drop(raw.FILE))
    assert not both[0][raw.BROKEN].any()


def test_a_zone_is_written_down_where_the_file_tells_it(tmp_path: Path) -> None:
    frame().assign(at=pd.date_range("2024-06-01", periods=COUNT, freq="h", tz="Europe/Berlin")).to_parquet(
        tmp_path / "zoned.parquet"
    )
    found = adopted(tmp_path, (tmp_path / "zoned.parquet").read_bytes(), name="table.parquet")
    assert found["columns"]["at"]["time_zone"] == "Europe/Berlin"
    assert values(tmp_path, "at")[0].hour == 0


def test_blank_lines_change_nothing(tmp_path: Path) -> None:
    text = frame().assign(note=["x" if n % 3 else "y" for n in range(COUNT)]).to_csv(index=False)
    plain = adopted(tmp_path, text.encode())
    assert adopted(tmp_path, (text + ",,,,\n,,,,\n\n ,, ,,\n").encode()) == plain
    assert len(values(tmp_path, "price")) == COUNT


def test_a_name_with_a_quote_is_one(tmp_path: Path) -> None:
    found = adopted(tmp_path, frame().rename(columns={"price": 'screen 15" wide'}).to_csv(index=False).encode())
    assert 'screen 15" wide' in found["columns"]


def test_a_name_that_stands_there_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(tmp_path, b"name, 0, 0,target\nx,1,2,yes\ny,3,4,no\n") == 1
    assert "column ' 0' more than once" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M"])
def test_the_last_rows_are_kept_aside_however_a_moment_is_written(tmp_path: Path, form: str) -> None:
    table = frame(600).assign(at=pd.date_range("2024-01-01", periods=600, freq="h").strftime(form))
    adopted(tmp_path, table.to_csv(index=False, sep=";", decimal=",").encode("windows-1252"), "--time", "at")
    case = usecase.load(tmp_path / "usecase.toml")
    learned, kept = (
        raw.read(tmp_path / "data" / "adopted" / part, case, labelled=True).frame.collect()["at"].to_list()
        for part in ("train", "production")
    )
    assert 30 < len(kept) < 100
    assert min(kept) > max(learned)


def test_an_empty_line_before_the_names_is_no_header_of_the_rows_kept_aside(tmp_path: Path) -> None:
    adopted(tmp_path, b"\r\n\r\n" + frame(600).to_csv(index=False).encode())
    case = usecase.load(tmp_path / "usecase.toml")
    for part in ("train", "production"):
        read = raw.read(tmp_path / "data" / "adopted" / part, case, labelled=True).frame.collect()
        assert 0 < read.height < 600
        assert not read[raw.BROKEN].any()


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("mark", ["utf-8", "utf-8-sig"])
def test_whole_groups_are_kept_aside_however_a_file_is_written(tmp_path: Path, decimal: str, mark: str) -> None:
    shops = pd.array([None if n % 50 == 7 else 10001 + n // 10 for n in range(900)], dtype="float64")
    table = frame(900).assign(customer_id=shops)
    text = table[["customer_id", "price", "target"]].to_csv(
        index=False, sep=";", decimal=decimal, quoting=csv.QUOTE_ALL
    )
    adopted(tmp_path, text.encode(mark), "--group", "customer_id")
    case = usecase.load(tmp_path / "usecase.toml")
    parts = [
        set(raw.read(tmp_path / "data" / "adopted" / part, case, labelled=True).frame.collect()[raw.GROUP].drop_nulls())
        for part in ("train", "production")
    ]
    assert parts[1]
    assert not parts[0] & parts[1]
