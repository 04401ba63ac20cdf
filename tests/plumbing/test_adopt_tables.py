"""What adopting says of the whole table: lines that are no rows, names, entities, whole numbers as labels, counts."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from plumbing.test_adopt import BEFORE, rows, run
from plumbing.test_adopt_edges import adopted, types
from plumbing.test_adopt_split import adopted as grouped
from plumbing.test_adopt_split import visits

COUNT = 600
Capture = pytest.CaptureFixture[str]


def plain(count: int = COUNT, **columns: Any) -> pl.DataFrame:
    """Two columns of numbers, one of text, and a label."""
    random = np.random.default_rng(2)
    more = {"age": random.integers(18, 90, count), "town": random.choice(["Oslo", "Rome"], count)}
    return rows(count, **more, **columns).select("age", "amount", "town", "target", *columns)


def text(separator: str = ",", count: int = COUNT) -> str:
    return plain(count).write_csv(separator=separator)


def adopted_rows(folder: Path, content: str, *options: str) -> None:
    """Adopt text some of whose rows may break the contract."""
    (folder / "usecase.toml").write_text(BEFORE)
    (folder / "table.csv").write_text(content)
    assert run(folder, folder / "table.csv", "--label", "target", *options) == 0


def refused(folder: Path, table: pl.DataFrame | str, capsys: Capture) -> tuple[int, str]:
    """The code and the sentence of a table that is not adopted as it is; usecase.toml stays."""
    (folder / "usecase.toml").write_text(BEFORE)
    content = table if isinstance(table, str) else table.write_csv()
    (folder / "table.csv").write_text(content)
    code = run(folder, folder / "table.csv", "--label", "target")
    assert (folder / "usecase.toml").read_text() == BEFORE
    return code, capsys.readouterr().err


TITLES = {
    "alone": ("Report 2024\n\n", ",", 3),
    "padded": ("Report 2024,,,\nCreated by,Finance,,\n,,,\n", ",", 4),
    "comments": ("# written by a program\n# version 3\n", ",", 3),
    "with separators": ("Export: customers, 2024-01-05\n", ",", 2),
    "European": ("Umsatzbericht\n;;;\n", ";", 3),
    "as wide as the table": ("Customers,2024,Germany,first\n", ",", 2),
    "from a data frame": ("Report 2024,Unnamed: 1,Unnamed: 2,Unnamed: 3\n", ",", 2),
    "two levels": ("Person,,Place,\n", ",", 2),
}


@pytest.mark.parametrize("title", TITLES)
def test_a_title_above_the_names_is_told_with_the_line_that_looks_like_them(
    tmp_path: Path, capsys: Capture, title: str
) -> None:
    above, separator, line = TITLES[title]
    code, said = refused(tmp_path, above + text(separator), capsys)
    assert code == 2
    assert f"Line {line} of table.csv (age, amount, town, target) looks like them" in said
    assert f"Delete what is above line {line}" in said


@pytest.mark.parametrize("label", ["Report 2024", "Unnamed: 3"])
def test_names_that_come_from_a_title_are_never_adopted(tmp_path: Path, capsys: Capture, label: str) -> None:
    above = "Report 2024,Unnamed: 1,Unnamed: 2,Unnamed: 3\n"
    (tmp_path / "usecase.toml").write_text(BEFORE)
    (tmp_path / "table.csv").write_text(above + text())
    assert run(tmp_path, tmp_path / "table.csv", "--label", label) == 2
    assert "Line 2 of table.csv" in capsys.readouterr().err
    assert (tmp_path / "usecase.toml").read_text() == BEFORE


def test_a_packed_table_that_is_cut_off_says_so(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "usecase.toml").write_text(BEFORE)
    for name, packed in (("table.csv.gz", gzip.compress(text().encode())[:-100]), ("empty.csv", b"")):
        (tmp_path / name).write_bytes(packed)
        assert run(tmp_path, tmp_path / name, "--label", "target") == 1
        assert capsys.readouterr().err.startswith(f"error: {name} is ")


def test_a_title_in_parquet_is_told_by_its_row(tmp_path: Path, capsys: Capture) -> None:
    table = plain()
    cells = [table.columns, *([str(cell) for cell in row] for row in table.rows())]
    names = ["Report 2024", "Unnamed: 1", "Unnamed: 2", "Unnamed: 3"]
    pl.DataFrame(cells, schema=names, orient="row").write_parquet(tmp_path / "table.parquet")
    (tmp_path / "usecase.toml").write_text(BEFORE)
    assert run(tmp_path, tmp_path / "table.parquet", "--label", "target") == 2
    assert "Row 1 of table.parquet (age, amount, town, target)" in capsys.readouterr().err


def test_a_line_of_units_is_asked_for_and_header_yes_leaves_it_out(tmp_path: Path, capsys: Capture) -> None:
    names, _, below = text().partition("\n")
    table = f"{names}\nyears,EUR,,\n{below}"
    for line in ("years,EUR,,", "int,float,str,str", "---,---,---,---"):
        code, said = refused(tmp_path, f"{names}\n{line}\n{below}", capsys)
        assert code == 2
        assert "or that line if it holds units" in said
    adopted_rows(tmp_path, table, "--header", "yes")
    assert "table.csv, row 1: column 'age': 'years' is not a number" in capsys.readouterr().out


@pytest.mark.parametrize(
    "names", ["age,,town,target", ",amount,town,target", "age,amount,town,target", "2023,2024,town,target"]
)
def test_names_that_are_few_or_numbers_are_still_names(tmp_path: Path, names: str) -> None:
    assert adopted(tmp_path, f"{names}\n{text().partition(chr(10))[2]}".encode())["data"]["label"] == "target"


def test_a_table_of_texts_alone_has_no_title(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    texts = {name: random.choice([f"{name}{n}" for n in range(4)], COUNT) for name in ("a", "b", "c")}
    assert set(types(adopted(tmp_path, rows(COUNT, **texts).drop("amount")))) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "below",
    ["Total,1800.5,,\n", "Summe:,,,\n", "\nSource: registry,,,\n", "Total,5,,\nAll figures are provisional,,,\n"],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_sums_and_notes_below_a_table_are_refused(tmp_path: Path, capsys: Capture, below: str, kind: str) -> None:
    (tmp_path / "usecase.toml").write_text(BEFORE)
    file = tmp_path / f"table.{kind}"
    (tmp_path / "table.csv").write_text(text() + below)
    if kind == "parquet":
        pl.read_csv(tmp_path / "table.csv", infer_schema=False).write_parquet(file)
    assert run(tmp_path, file, "--label", "target") == 1
    said = capsys.readouterr().err
    assert f"table.{kind}: the last " in said
    assert "delete them" in said


@pytest.mark.parametrize("first", ["town", "name"])
def test_a_row_of_sums_with_a_label_is_refused(tmp_path: Path, capsys: Capture, first: str) -> None:
    table = plain(name=[f"n{n}" for n in range(COUNT)]).select(first, "age", "amount", pl.col("age").alias("target"))
    code, said = refused(tmp_path, table.write_csv() + "Total,30000,60000.5,30000\n", capsys)
    assert code == 1
    assert "the last row looks like sums or notes below the table (Total, 30000, 60000.5, 30000)" in said


@pytest.mark.parametrize("town", ["", "t0", "Sum"])
@pytest.mark.parametrize("what", ["sum", "mean"])
def test_a_last_row_of_the_sums_above_is_refused_without_a_word_for_it(
    tmp_path: Path, capsys: Capture, town: str, what: str
) -> None:
    random = np.random.default_rng(5)
    table = pl.DataFrame(
        {
            "x": random.normal(size=COUNT).round(3),
            "age": random.integers(18, 90, COUNT),
            "town": random.choice(["t0", "t1"], COUNT),
            "target": random.normal(400, 30, COUNT).round(2),
        }
    )
    row = [round(getattr(table[name], what)(), 2) for name in ("x", "age", "target")]
    code, said = refused(tmp_path, table.write_csv() + f"{row[0]},{row[1]},{town},{row[2]}\n", capsys)
    assert code == 1
    assert f"the last row is the {what} of the rows above in each column of numbers; delete it" in said


def test_a_last_row_that_is_like_the_others_is_kept(tmp_path: Path) -> None:
    table = rows(COUNT, zero=[0] * (COUNT - 1) + [1], grade=[1, 2, 3, 2, 2] * (COUNT // 5))
    assert set(types(adopted(tmp_path, table))) == {"zero", "grade"}


def test_a_file_that_begins_like_a_packed_one_says_so(tmp_path: Path, capsys: Capture) -> None:
    code, said = refused(tmp_path, "x^2,target\n" + "1,a\n2,b\n" * 30, capsys)
    assert code == 1
    assert 'table.csv begins with x^ like a packed file; put its first cell in quotes ("x^…").' in said
    assert types(adopted(tmp_path, b'"x^2",target\n' + b"1,a\n2,b\n3,a\n4,b\n" * 30)) == {"x^2": "number"}


def test_names_that_come_again_are_no_row(tmp_path: Path, capsys: Capture) -> None:
    code, said = refused(tmp_path, text() + text(), capsys)
    assert code == 1
    assert "table.csv: row 601 holds the names of the columns once more; delete that line" in said


def test_a_note_in_one_cell_is_told_as_one(tmp_path: Path, capsys: Capture) -> None:
    code, said = refused(tmp_path, f"{text()}Source: registry\n", capsys)
    assert code == 1
    assert "delete that line if it is a note" in said


def test_a_last_row_with_gaps_is_a_row(tmp_path: Path) -> None:
    names = [f"Team {n % 40} of {n % 7}" for n in range(COUNT)]
    frame = plain(team=names).select("team", "age", "amount", "target")
    assert adopted(tmp_path, (frame.write_csv() + "Team 3 of 3,,,yes\n").encode())["data"]["label"] == "target"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_blanks_around_names_are_no_obstacle(tmp_path: Path, capsys: Capture, kind: str) -> None:
    frame = plain().rename({"age": " age ", "target": " target", "town": "town "})
    found = adopted(tmp_path, frame.with_columns(pl.lit(None).alias("")), name=f"table.{kind}")
    assert found["data"]["label"] == " target"
    assert set(types(found)) == {" age ", "town "}
    assert "  ' age '" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["patient_id", "customer_no", "machine", "order_no"])
def test_a_repeated_id_that_is_no_group_is_left_out_and_said(
    tmp_path: Path, capsys: Capture, name: str, kind: str
) -> None:
    """The columns say nothing of whose they are, so that the id does not become the group by itself."""
    ids = np.random.default_rng(4).permutation(COUNT) % 60
    named: Any = [f"M-{n:02}" for n in ids] if name in ("machine", "order_no") else ids
    found = adopted(tmp_path, plain().with_columns(pl.Series(name, named)), name=f"table.{kind}")
    assert set(types(found)) == {"age", "town"}
    said = capsys.readouterr().out
    hint = f"group  none; '{name}' repeats: if new rows will be of others, say GROUP={name}"
    assert (hint in said) is (name != "order_no")
    assert f"if its rows belong together say GROUP={name}" in said


def test_a_few_numbers_that_name_something_are_a_category(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    found = adopted(tmp_path, plain(hospital_id=random.integers(0, 8, COUNT), loan=random.integers(0, 30, COUNT)))
    assert types(found)["hospital_id"] == "category"
    assert types(found)["loan"] == "number"


def test_other_entities_beside_the_group_are_named(tmp_path: Path, capsys: Capture) -> None:
    clinics = np.random.default_rng(5).integers(0, 30, 300)
    frame = visits(300, 10)
    own = frame["patient_id"].str.slice(1).cast(pl.Int64).to_numpy()
    found = grouped(tmp_path, frame.with_columns(clinic_id=pl.Series(clinics[own])))
    assert found["split"]["group"] == "patient_id"
    assert "clinic_id" not in found["columns"]
    assert "'clinic_id' repeats: if new rows will be of others, say GROUP=clinic_id" in capsys.readouterr().out


def test_a_group_that_was_asked_for_says_whether_it_tells_the_label(tmp_path: Path, capsys: Capture) -> None:
    grouped(tmp_path, visits(300, 10), "--group", "patient_id")
    assert "300 values of 10.0 rows each, and the label stays the same within one; rows of" in capsys.readouterr().out
    grouped(tmp_path, plain(shop_id=np.random.default_rng(8).integers(0, 40, COUNT)), "--group", "shop_id")
    assert "'shop_id': 40 values of 15.0 rows each; rows of one stay in one part" in capsys.readouterr().out


def test_a_refused_group_says_what_is_measured_then(tmp_path: Path, capsys: Capture) -> None:
    found = grouped(tmp_path, visits(300, 10), "--group", "none")
    assert "patient_id" not in found["columns"]
    said = capsys.readouterr().out
    assert "group  none; as GROUP=none says, but 'patient_id' repeats" in said
    assert "holds for rows of the same 'patient_id' alone" in said


@pytest.mark.parametrize(
    ("values", "task", "sentence"),
    [
        (
            range(1, 6),
            "multiclass",
            "5 whole numbers, taken as classes; for amounts, counts or grades say TASK=regression",
        ),
        (range(70), "regression", "70 whole numbers, taken as amounts; for classes say TASK=multiclass"),
        ([float(n) for n in range(1, 6)], "multiclass", "5 whole numbers, taken as classes"),
    ],
)
def test_what_whole_numbers_were_taken_for_is_said_with_the_option(
    tmp_path: Path, capsys: Capture, values: Any, task: str, sentence: str
) -> None:
    drawn = np.random.default_rng(6).choice(list(values), COUNT)
    table = plain().with_columns(pl.Series("target", drawn))
    for name in ("table.csv", "table.parquet"):
        assert adopted(tmp_path, table, name=name)["data"]["task"] == task
        assert sentence in capsys.readouterr().out
        adopted(tmp_path, table, "--task", task, name=name)
        assert "taken as" not in capsys.readouterr().out


def test_rows_that_break_the_contract_are_told_with_their_reasons(tmp_path: Path, capsys: Capture) -> None:
    lines = text().splitlines()
    lines[7] = "12,foo,Oslo,yes"
    lines[33] = "ab,7,Rome,no"
    lines[50] = "12,3"
    lines[60] += ",x,y"
    lines[9:9] = ["", ",,,"]
    lines += [lines[42], lines[43], lines[43], ""]
    adopted_rows(tmp_path, "\n".join(lines) + "\n")
    said = capsys.readouterr().out
    assert "table.csv: 603 rows" in said
    assert "3 lines hold nothing and are no rows" in said
    assert "3 rows are copies of another one" in said
    assert "4 rows break the contract (2 lines are too short or too long) and are left out of training:" in said
    assert "  table.csv, row 7: column 'amount': 'foo' is not a number" in said
    assert "  table.csv, row 50: line 53 has 2 of 4 cells" in said


def test_rows_that_are_alike_in_parquet_are_counted(tmp_path: Path, capsys: Capture) -> None:
    table = plain()
    adopted(tmp_path, pl.concat([table, table[:5]]), name="table.parquet")
    assert "5 rows are copies of another one" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_few_ids_that_stand_twice_are_told(tmp_path: Path, capsys: Capture, kind: str) -> None:
    table = plain(customer_id=[f"c{7 if n % 50 == 0 else n}" for n in range(COUNT)])
    adopted(tmp_path, table, name=f"table.{kind}")
    assert "13 rows share it with another one (such as 'c7'): mend that to name rows by it" in capsys.readouterr().out
    (tmp_path / "usecase.toml").write_text(BEFORE)
    file = tmp_path / f"table.{kind}"
    assert run(tmp_path, file, "--label", "target", "--id", "customer_id") == 1
    assert "13 rows share it with another one (such as 'c7')" in capsys.readouterr().err


def test_a_small_table_says_what_will_not_be_known(tmp_path: Path, capsys: Capture) -> None:
    adopted(tmp_path, plain(60))
    said = capsys.readouterr().out
    assert "no rows are kept from training (a table of fewer than 500 labelled rows needs them all)" in said
    assert "the first make score has 60 rows, fewer than [drift] minimum_rows = 200: no verdict on drift" in said
    assert "validation gets about 9 rows, fewer than [drift] minimum_rows = 200: without labels, performance" in said
    adopted(tmp_path, plain(5000))
    assert "minimum_rows" not in capsys.readouterr().out


def test_a_label_that_is_mostly_missing_or_alike_is_told(tmp_path: Path, capsys: Capture) -> None:
    table = plain()
    some = pl.when(pl.int_range(COUNT) < 60).then("target").alias("target")
    adopted(tmp_path, table.with_columns(some))
    assert "540 of 600 rows have no label and are left out of training; if no value in 'target' means" in (
        capsys.readouterr().out
    )
    one = pl.when(pl.int_range(COUNT) < 60).then(pl.lit("yes")).alias("target")
    code, said = refused(tmp_path, table.with_columns(one), capsys)
    assert code == 1
    assert "holds only 'yes'; there is nothing to learn (if no value is a class too, write it into the 540 rows" in said


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_blanks_around_a_class_are_none_and_other_capitals_are_told(tmp_path: Path, capsys: Capture, kind: str) -> None:
    odd = pl.int_range(COUNT) % 50 == 1
    table = plain().with_columns(pl.when(odd).then(pl.lit("yes ")).otherwise("target").alias("target"))
    assert adopted(tmp_path, table, name=f"table.{kind}")["data"]["classes"] == ["no", "yes"]
    capsys.readouterr()
    table = table.with_columns(pl.when(odd).then(pl.lit("Yes")).otherwise("target").alias("target"))
    code, said = refused(tmp_path, table, capsys)
    assert code == 1
    assert "holds 'Yes' and 'yes'; spell a class in one way" in said
